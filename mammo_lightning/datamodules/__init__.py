"""Datasets: one file each, registered by name."""
