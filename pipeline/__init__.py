"""Quadrat: from a bucket of images and a table of annotations to a classifier to be trusted."""
