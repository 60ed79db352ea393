"""Scheduler: run a stage with Luigi, on one machine or on several."""
