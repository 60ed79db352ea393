"""The store of finished shards, and the out directories that are put together from it."""
