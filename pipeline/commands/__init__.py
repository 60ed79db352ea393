"""Commands beside the stages, such as exports; no stage imports them."""
