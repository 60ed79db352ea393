"""Commands beside the stages; nothing in the stages imports them."""
