"""The report: one HTML file, and its drawings as PNG files."""
