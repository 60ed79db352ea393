"""Index: list the bucket, and read the headers of the images in it."""
