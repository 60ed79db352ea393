"""Export: chips as image files."""
