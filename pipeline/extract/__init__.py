"""Extract: compute a feature for each chip."""
