"""Settings: params.yaml, luigi.cfg and the environment, read once into frozen values."""
