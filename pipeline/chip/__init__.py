"""Chip: cut images into windows, and give each a label, a group and a split."""
