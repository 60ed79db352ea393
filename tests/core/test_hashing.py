"""Identifiers that users keep for years: their values are fixed, and nothing collides or moves."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import hashing

KEYS = st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text and _is_utf8(text))
COUNTS = st.integers(0, 10).map(lambda bits: 2**bits)
WINDOWS = st.tuples(*[st.integers(-1000, 100_000)] * 4)


def _is_utf8(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_identifiers_of_users_data_never_change():
    """Golden values: a change makes every store and every id of users invalid."""
    assert hashing.chip_id("a/b.jpg", "v1", (-3, 5, 224, 224)).hex() == GOLDEN_CHIP
    assert hashing.shard_of("a/b.jpg", 16) == int(hashlib.sha256(b"a/b.jpg").hexdigest()[0], 16)
    assert hashing.digest({"b": 1, "a": [1.5, "é"]}) == (
        hashlib.sha256('{"a":[1.5,"é"],"b":1}'.encode()).hexdigest()
    )


def test_the_choice_of_background_never_changes():
    """Golden values: another choice is another classifier."""

    def drawn(what, *numbers):
        numbers = b"".join(number.to_bytes(8, "big", signed=True) for number in numbers)
        person = f"quadrat {what}".encode()
        return hashlib.blake2b(numbers + b"a/b.jpg", digest_size=16, person=person).digest()

    assert hashing.background_at("a/b.jpg", 3, -4, 9) == drawn("choice", 9, 3, -4)
    shares = hashing.background_place("a/b.jpg", 5)
    halves = drawn("place", 5)[:6], drawn("place", 5)[6:12]
    assert shares == tuple(int.from_bytes(half, "big") / 2**48 for half in halves)


GOLDEN_CHIP = hashlib.blake2b(
    (7).to_bytes(8, "big")
    + b"a/b.jpg"
    + (2).to_bytes(8, "big")
    + b"v1"
    + b"".join(number.to_bytes(8, "big", signed=True) for number in (-3, 5, 224, 224)),
    digest_size=16,
    person=b"quadrat chip",
).hexdigest()


@given(st.tuples(KEYS, KEYS, WINDOWS), st.tuples(KEYS, KEYS, WINDOWS))
def test_different_chips_have_different_ids(one, other):
    assert (hashing.chip_id(*one) == hashing.chip_id(*other)) == (one == other)


def test_moving_a_letter_from_key_to_version_is_another_chip():
    window = (0, 0, 1, 1)
    assert hashing.chip_id("ab", "c", window) != hashing.chip_id("a", "bc", window)


@given(KEYS, COUNTS)
def test_a_shard_of_n_is_the_half_of_a_shard_of_half_as_many(key, count):
    assert hashing.shard_of(key, 2 * count) // 2 == hashing.shard_of(key, count)
    assert 0 <= hashing.shard_of(key, count) < count


@given(KEYS, COUNTS, COUNTS)
def test_shards_of_any_two_counts_overlap_if_they_contain_the_same_key(key, one, other):
    names = [hashing.shard_name(hashing.shard_of(key, count), count) for count in (one, other)]
    assert hashing.overlap(*names)


@given(COUNTS)
def test_shards_of_one_count_have_distinct_names_that_do_not_overlap(count):
    names = [hashing.shard_name(shard, count) for shard in range(min(count, 64))]
    assert len(set(names)) == len(names)
    assert not any(hashing.overlap(a, b) for a in names for b in names if a != b)


@given(KEYS, st.floats(0, 0.5), st.floats(0, 0.4))
def test_a_larger_validation_share_only_adds_groups(group, share, more):
    before = hashing.split_of(group, validation=share, calibration=0.1)
    after = hashing.split_of(group, validation=share + more, calibration=0.1)
    assert before != "validation" or after == "validation"


@given(KEYS, st.floats(0, 0.4), st.floats(0, 0.2))
def test_a_test_share_takes_groups_from_training_only(group, share, more):
    shares = {"validation": 0.2, "calibration": 0.15}
    before = hashing.split_of(group, **shares, test=share)
    after = hashing.split_of(group, **shares, test=share + more)
    assert after == before or (before, after) == ("train", "test")


def test_splits_have_the_requested_shares():
    groups = [f"site {number}" for number in range(20_000)]
    shares = {"validation": 0.2, "calibration": 0.15, "test": 0.1}
    splits = [hashing.split_of(group, **shares) for group in groups]
    for name, share in shares.items():
        assert splits.count(name) / 20_000 == pytest.approx(share, abs=0.01)


def test_a_number_that_is_not_json_is_an_error():
    with pytest.raises(ValueError, match="not JSON compliant"):
        hashing.digest({"a": float("nan")})
