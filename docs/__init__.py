"""Pages for users; some are made from the code by docs/generate.py."""
