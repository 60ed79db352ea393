"""Luigi: how a stage is run, on one machine or on several."""
