"""Validate: judge the classifier on the validation split, and write down how it did."""

from __future__ import annotations

TABLE = "results"
