"""Classifiers: one file each, registered by name."""
