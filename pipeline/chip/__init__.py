"""Chip: windows on the images, and beside them labels, groups and splits."""
