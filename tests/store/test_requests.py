"""Requests and recipes: what any machine that shares the store needs to make a shard."""

from __future__ import annotations

import re

import pytest
from store_rows import chips

from pipeline.config.machine import machine
from pipeline.config.sections import Section
from pipeline.core.errors import Missing
from pipeline.core.hashing import digest
from pipeline.store import requests, shards
from pipeline.store.context import open_store
from pipeline.store.objects import Damaged
from pipeline.store.recipe import Recipe, recipe_of

RECIPE = "5" * 64
KEYS = [f"{name}.png" for name in "abcdefgh"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store that this machine names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUADRAT_STORE", "shared")
    requests.read_request.cache_clear()
    return open_store(machine())


def planned(recipe=RECIPE):
    rows = chips(KEYS)
    return shards.plan("chips", recipe, shards.split(rows, 4), rows.schema)


def test_a_request_says_which_shards_there_are_and_by_which_settings(store, tmp_path):
    plans = planned()
    name = requests.put(store, '{"chip": 1}', plans)
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert (tmp_path / "shared" / "requests" / f"{name}.json").exists()
    request = requests.read_request(name)
    assert (request.table, request.recipe, request.params) == ("chips", RECIPE, '{"chip": 1}')
    assert len(request.pieces) == len(plans) > 2
    for plan in plans:
        assert request.piece(requests.name_of(plan)) == plan.piece


def test_equal_requests_share_a_name_and_others_do_not(store):
    name = requests.put(store, "a", planned())
    assert requests.put(store, "a", planned()) == name
    others = [
        requests.put(store, "b", planned()),
        requests.put(store, "a", planned()[1:]),
        requests.put(store, "a", planned("6" * 64)),
    ]
    assert len({name, *others}) == 4


def test_the_name_of_a_shard_begins_with_its_number_and_only_equal_pieces_share_it():
    names = [requests.name_of(plan) for plan in planned()]
    numbers = [f"{plan.number:04d}" for plan in planned()]
    assert [name[:4] for name in names] == numbers
    assert all(re.fullmatch(r"\d{4}-[0-9a-f]{8}", name) for name in names)
    assert set(names).isdisjoint(map(requests.name_of, planned("6" * 64)))


def test_a_request_that_is_not_in_the_store_is_missing(store):
    with pytest.raises(Missing, match="no-such-request"):
        requests.read_request("no-such-request")


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"table": "chips"}', b"[]", b"\xff"])
def test_a_damaged_request_is_removed_and_the_message_says_what_to_do(store, data):
    name = requests.put(store, "a", planned())
    key = f"requests/{name}.json"
    store.storage.put(key, data)
    with pytest.raises(Damaged) as error:
        requests.read_request(name)
    assert str(error.value) == f"{store.storage.url}/{key}: damaged; run again"
    with pytest.raises(Missing):
        store.storage.head(key)


class Cut(Section):
    """A section whose `max_rejects` shapes no row."""

    size: int
    max_rejects: float = 0.5


def test_a_recipe_is_a_section_without_what_shapes_no_row_and_its_parts():
    recipe = recipe_of(Cut(size=8), code={"version": 3})
    assert recipe.parts == {"section": {"size": 8}, "code": {"version": 3}}
    assert recipe.digest == digest({"code": {"version": 3}, "section": {"size": 8}})
    more = recipe.extended(code={"version": 4}, weights="x")
    assert more == Recipe({"section": {"size": 8}, "code": {"version": 4}, "weights": "x"})
    assert recipe.parts["code"] == {"version": 3}
