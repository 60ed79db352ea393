"""Train: a classifier from labelled features."""
