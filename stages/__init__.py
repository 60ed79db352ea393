"""One short file a stage, run by `dvc repro`; and trace, which shows one key's walk."""
