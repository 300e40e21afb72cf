"""Bundles that are loaded, and how they are replaced while the service runs."""
