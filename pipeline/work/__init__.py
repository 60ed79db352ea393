"""What each stage does, without a scheduler: plan its shards, make one, put the out together.

One file a stage. `pipeline/tasks.py` decides when and where these functions run.
"""
