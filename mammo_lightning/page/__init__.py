"""A comparison as one HTML file that needs nothing else: no network, no storage, light and dark, screen and paper."""
