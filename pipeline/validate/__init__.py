"""Validate: how good the classifier is, in figures, tables and a report."""
