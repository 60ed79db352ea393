"""Train: fit a classifier to the labelled features, and calibrate it."""
