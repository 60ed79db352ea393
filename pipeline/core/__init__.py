"""What all other packages use: errors, digests, table schemas, rejects, signals."""
