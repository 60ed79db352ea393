"""Validate: evaluate the classifier, in figures, tables and a report."""
