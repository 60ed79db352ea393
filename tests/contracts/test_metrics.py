"""What every file of pipeline/validate/metrics/ promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import certain_table, random_table, table

from pipeline.config import registry
from pipeline.validate.metrics import judged

NAMES = registry.names("validate.metrics")
parts = pytest.mark.parametrize(
    "part", [registry.find("validate.metrics", n, key="") for n in NAMES], ids=NAMES
)


@st.composite
def predictions(draw):
    """Any predictions: few chips or many, one class or more, certain or not, labels unseen."""
    n_classes, n = draw(st.integers(1, 7)), draw(st.integers(1, 40))
    classes = [f"c{i}" for i in range(n_classes)]
    labels = draw(st.lists(st.sampled_from([*classes, "new", "newer"]), min_size=n, max_size=n))
    groups = draw(st.lists(st.sampled_from("uvwx"), min_size=n, max_size=n))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    sharpness = draw(st.sampled_from([0.01, 1.0, 300.0]))
    logits = generator.normal(size=(n, n_classes)) * sharpness
    given_ = np.exp(logits - logits.max(axis=1, keepdims=True))
    return table(labels, given_ / given_.sum(axis=1, keepdims=True), classes, groups), classes


@parts
@given(made=predictions())
@settings(deadline=None, max_examples=60)
def test_never_nan_and_within_its_range(part, made):
    facts = judged(*made)
    for name, value in part.compute(facts).items():
        assert math.isfinite(value), name
        if name in part.RANGE:
            low, high = part.RANGE[name]
            assert low - 1e-12 <= value <= high + 1e-12, name


@parts
@given(made=predictions())
@settings(deadline=None, max_examples=60)
def test_the_sums_of_all_groups_give_what_compute_gives(part, made):
    facts = judged(*made)
    if not hasattr(part, "sums"):
        pytest.skip("has no interval")
    total = np.asarray(part.sums(facts).sum(axis=0)).reshape(1, -1)
    plain = part.compute(facts)
    resampled = {name: float(values[0]) for name, values in part.from_sums(facts, total).items()}
    assert resampled == pytest.approx({name: plain[name] for name in resampled}, abs=1e-9)


@parts
def test_the_order_of_rows_does_not_matter(part):
    made, classes = random_table(7, unseen=5)
    shuffled = made.take(np.random.default_rng(0).permutation(made.num_rows))
    expected = pytest.approx(part.compute(judged(made, classes)), rel=1e-12)
    assert part.compute(judged(shuffled, classes)) == expected


@parts
def test_perfect_predictions_give_the_best_value(part):
    classes = list("abcdefg")
    facts = judged(certain_table(classes * 6, classes * 6, classes), classes)
    found = part.compute(facts)
    best = {"higher": 1, "lower": 0}
    ends = {name: part.RANGE[name][best[better]] for name, better in part.BETTER.items()}
    assert {name: found[name] for name in ends} == pytest.approx(ends, abs=1e-12)


@parts
def test_worse_predictions_give_a_worse_value(part):
    good, classes = random_table(8, n=600, n_classes=7, hit=5.0)
    bad, _ = random_table(8, n=600, n_classes=7, hit=-5.0)
    well, badly = (part.compute(judged(made, classes)) for made in (good, bad))
    for name, better in part.BETTER.items():
        assert (well[name] > badly[name]) == (better == "higher"), name


@parts
def test_every_metric_has_a_sentence(part):
    found = part.compute(judged(*random_table(9, n_classes=7)))
    assert found.keys() == part.MEANING.keys()
    assert part.BETTER.keys() <= part.RANGE.keys() <= part.MEANING.keys()


def test_no_two_files_give_the_same_metric():
    facts = judged(*random_table(9, n_classes=7))
    names = [
        name for n in NAMES for name in registry.find("validate.metrics", n, key="").compute(facts)
    ]
    assert len(names) == len(set(names))
