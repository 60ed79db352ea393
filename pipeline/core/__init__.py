"""Core: what everything imports, such as errors, digests, schemas and rejects."""
