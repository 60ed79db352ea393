"""What everything else rests on: errors, digests, table schemas, rejects, signals."""
