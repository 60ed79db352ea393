"""Extract: a feature for every chip."""
