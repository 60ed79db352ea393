"""Store: keep finished shards, and put outs together from them."""
