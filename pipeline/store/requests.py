"""Requests: what a shard task must know to make its shards, kept in the store.

A task on Luigi's page then has a short name, and any machine that shares the store can run it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pipeline.config.machine import machine
from pipeline.core.hashing import canonical_json, digest
from pipeline.store.context import open_store
from pipeline.store.objects import Damaged, Piece, Store
from pipeline.store.shards import ShardPlan

FOLDER = "requests"
NAME_DIGITS = 16
PIECE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ShardRequest:
    """All shards that a stage plans for one table, finished or not.

    Attributes:
        table: their table.
        recipe: the digest of its recipe.
        params: all of params.yaml, as JSON.
        pieces: shard and digest of the input rows of each, by `name_of`.
    """

    table: str
    recipe: str
    params: str
    pieces: dict[str, list[str]]

    def piece(self, name: str) -> Piece:
        """Return the piece of the shard *name*."""
        return Piece(self.table, self.recipe, *self.pieces[name])


def put(store: Store, params: str, plans: Sequence[ShardPlan]) -> str:
    """Write the request of *plans*, which are of one table, and return its name."""
    first = plans[0].piece
    pieces = {name_of(plan): [plan.piece.shard, plan.piece.input] for plan in plans}
    content = {"table": first.table, "recipe": first.recipe, "params": params, "pieces": pieces}
    name = digest(content)[:NAME_DIGITS]
    store.storage.put(_key(name), canonical_json(content))
    return name


@cache
def read_request(name: str) -> ShardRequest:
    """Read the request *name* from the store, once in a process.

    Raises:
        Missing: it is not in the store.
        Damaged: it is not what was written.
    """
    storage = open_store(machine()).storage
    data = storage.read(_key(name))
    try:
        content = json.loads(data)
        if digest(content).startswith(name):
            return ShardRequest(**content)
    except (ValueError, TypeError):
        pass
    storage.delete(_key(name))
    raise Damaged(f"{storage.url}/{_key(name)}: damaged; run again")


def name_of(plan: ShardPlan) -> str:
    """Return the shard's name in tasks: its number, and a digest that only equal pieces share."""
    piece = digest([plan.piece.recipe, plan.piece.shard, plan.piece.input])
    return f"{plan.number:04d}-{piece[:PIECE_DIGITS]}"


def _key(name: str) -> str:
    return f"{FOLDER}/{name}.json"
