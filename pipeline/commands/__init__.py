"""Commands for people; no stage imports anything from here."""
