"""Intervals: how often the 95 % intervals of synthetic results contain the truth.

    python benchmarks/coverage.py [--samples 1000] [--seed 0] [--groups 8 12 20 50 200]

Each sample is the validation split of a world of six labels (40, 25, 15, 10, 6 and 4 % of the
chips) that two classifiers predict. Groups have 25 chips each, or sizes that are log-normal with a
deviation of 0.6 ("unequal") or 1.2 ("very unequal"). Chips of a group are alike: how hard they are
for both classifiers, for each of the two, and for each label varies by group, and so does which
labels a group has. The correlation is that of two chips of a group being predicted correctly, on
the scale of log odds. The truth is what 200,000 groups of that world have. Figures, intervals and
tests are those of the pipeline. The two classifiers are equally good.
Fails if fewer than 90 % of the intervals of a line are right, or more than 5.6 % of the tests have
p < 0.05.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from _shared import about
from numpy.typing import NDArray

from pipeline.validate.evaluation import Evaluation, Pairs
from pipeline.validate.metrics import scores
from pipeline.validate.metrics._intervals import HALF, Spread, interval, of_mean_over_labels
from pipeline.validate.metrics._sign_flips import p_value

Floats = NDArray[np.float64]

SHARES = np.array([0.40, 0.25, 0.15, 0.10, 0.06, 0.04])
N_LABELS = len(SHARES)
NAMES = [f"label {at}" for at in range(N_LABELS)]
RARE = "strong, mistakes rare"
SIZES = {"equal": 0.0, "unequal": 0.6, "very unequal": 1.2}
CHIPS, TRUTH_GROUPS, BLOCK = 25, 200_000, 2_000
LEAST, MOST_WRONG_TESTS, TESTS = 0.90, 0.056, 400
ALPHA = 0.05
FEW_GROUPS = ((2, 2), (3, 3), (4, 7), (8, 10_000))


@dataclass(frozen=True)
class World:
    """How alike the chips of a group are.

    Attributes:
        name: for the table.
        spread: deviation of the groups' log odds, for both classifiers.
        own: of each label's beyond that.
        between: of each classifier's beyond both.
        labels: how evenly a group's labels are drawn: Dirichlet; None: as in the world.
        odds: mean log odds of a correct prediction.
    """

    name: str
    spread: float
    own: float
    between: float
    labels: float | None
    odds: float = 1.3

    @property
    def correlation(self) -> float:
        """The correlation of two chips of a group and a label, on the scale of log odds."""
        variance = self.spread**2 + self.own**2 + self.between**2
        return variance / (variance + pi**2 / 3)


WORLDS = (
    World("none", 0.0, 0.0, 0.0, None),
    World("weak", 0.4, 0.2, 0.2, 20.0),
    World("medium", 0.8, 0.4, 0.4, 6.0),
    World("strong", 1.4, 0.7, 0.7, 3.0),
    World(RARE, 1.4, 0.7, 0.7, 3.0, 3.5),
)


def sample(rng: np.random.Generator, shape: tuple[int, int], world: World, sd: float) -> Floats:
    """Return the sums of two classifiers over groups: float64 [2, samples, groups, k]."""
    n = np.full(shape, CHIPS)
    if sd:
        n = np.maximum(1, rng.lognormal(np.log(CHIPS) - sd**2 / 2, sd, shape)).astype(int)
    shares = np.broadcast_to(SHARES, (*shape, N_LABELS))
    if world.labels:
        shares = rng.gamma(shares * world.labels) + 1e-12
        shares = shares / shares.sum(axis=-1, keepdims=True)
    true = rng.multinomial(n, shares)
    common = world.odds + world.spread * rng.normal(size=(*shape, 1))
    common = common + world.own * rng.normal(size=(*shape, N_LABELS))
    odds = [common + world.between * rng.normal(size=(*shape, 1)) for _ in range(2)]
    first, second = (1 / (1 + np.exp(-one)) for one in odds)
    # Half of what both get right, they get right on the same chips.
    both = (np.minimum(first, second) + first * second) / 2
    parts = np.stack([both, first - both, second - both, 1 - first - second + both], axis=-1)
    counts = rng.multinomial(true, np.clip(parts, 0, 1))
    hits = (counts[..., 0] + counts[..., 1], counts[..., 0] + counts[..., 2])
    return np.stack([_sums(rng, one, true) for one in hits])


def _sums(rng: np.random.Generator, hits: NDArray[Any], true: NDArray[Any]) -> Floats:
    """Return the columns of `scores.sums`; what no figure here needs is 0."""
    predicted = hits.copy()
    for label in range(N_LABELS):
        wrong = np.where(np.arange(N_LABELS) == label, 0, SHARES)
        predicted += rng.multinomial((true - hits)[..., label], wrong / wrong.sum())
    n, correct = (part.sum(axis=-1)[..., None] for part in (true, hits))
    rest = np.zeros((*n.shape[:-1], len(scores.column_names(EMPTY)) - 3))
    return np.concatenate([hits, true, predicted, n, correct, n, rest], axis=-1).astype(np.float64)


NOTHING = Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
EMPTY = Evaluation(
    classes=NAMES,
    labels=NAMES,
    true=NOTHING,
    predicted=NOTHING,
    probabilities=np.empty((0, N_LABELS)),
    groups=np.empty(0, np.int64),
    group_names=[],
    images=np.empty(0, np.int64),
    is_multilabel=False,
)
"""For `scores.from_sums`, which takes the names of its columns from it."""


def figures(totals: Floats) -> dict[str, Floats]:
    """Return every figure of each sample from the totals of both classifiers, [2, samples, k]."""
    both = [scores.from_sums(EMPTY, one) for one in totals]
    found = {name: both[0][name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    hits, true, predicted = np.split(totals[0][:, : 3 * N_LABELS], 3, axis=1)
    with np.errstate(invalid="ignore"):
        for place, label in (("commonest", 0), ("rarest", N_LABELS - 1)):
            parts = hits[:, label], true[:, label], predicted[:, label]
            found[f"recall of the {place}"] = parts[0] / parts[1]
            found[f"precision of the {place}"] = parts[0] / parts[2]
            found[f"f1 of the {place}"] = 2 * parts[0] / (parts[1] + parts[2])
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        found[f"difference in {name}"] = both[0][name] - both[1][name]
    return found


def effective(sums: Floats) -> dict[str, Floats]:
    """Return the effective number of groups of every figure, [samples], as the pipeline does."""

    def of(part: Floats) -> Floats:
        total, squares = part.sum(axis=1), (part**2).sum(axis=1)
        return np.asarray(total**2 / np.where(squares > 0, squares, 1))

    n = of(sums[0][..., 3 * N_LABELS])
    _, true, predicted = np.split(sums[0][..., : 3 * N_LABELS], 3, axis=-1)
    labels = np.minimum(n, [of_mean_over_labels(row) for row in of(true)])
    found = {"accuracy": n, "balanced_accuracy": labels, "macro_f1": labels}
    for place, label in (("commonest", 0), ("rarest", N_LABELS - 1)):
        found[f"recall of the {place}"] = of(true[..., label])
        found[f"precision of the {place}"] = of(predicted[..., label])
        found[f"f1 of the {place}"] = of(true[..., label] + predicted[..., label])
    return found | {f"difference in {name}": value for name, value in list(found.items())[:3]}


def are_right(sums: Floats, truth: dict[str, float]) -> dict[str, Floats]:
    """Return whether each sample's interval contains the truth: 0 or 1, NaN where it has none."""
    totals = sums.sum(axis=2)
    values, n_groups = figures(totals), effective(sums)
    moments = {name: np.zeros((2, sums.shape[1])) for name in values}
    for group in range(sums.shape[2]):
        less = figures(totals - HALF * sums[:, :, group])
        for name, value in values.items():
            squares = np.square((value - less[name]) / HALF)
            moments[name] += squares, np.square(squares)
    found = {}
    for name, value in values.items():
        bounds = None if name.startswith("difference") else (0.0, 1.0)
        low, high = interval(value, Spread(*moments[name]), n_groups[name], bounds)
        inside = (low <= truth[name]) & (truth[name] <= high)
        found[name] = np.where(np.isnan(low), np.nan, inside)
    return found


def blocks(samples: int, n_groups: int) -> Iterator[int]:
    """Divide *samples* so that one array takes at most some 100 MB."""
    block = max(1, 400_000 // n_groups)
    yield from (min(block, samples - start) for start in range(0, samples, block))


def truth_of(rng: np.random.Generator, world: World) -> dict[str, float]:
    """Return every figure of many groups."""
    parts = (sample(rng, (1, BLOCK), world, 0.0).sum(axis=2) for _ in range(TRUTH_GROUPS // BLOCK))
    return {name: float(value[0]) for name, value in figures(np.sum(list(parts), axis=0)).items()}


@dataclass
class Found:
    """What the samples have shown.

    Attributes:
        seed: of the samples.
        lines: the coverage of every figure, by number of groups, sizes and world.
        rarest: groups with the rarest label, and whether its recall is right, by world.
        tests: whether each test of the two classifiers, which are equally good, is below 0.05.
    """

    seed: int
    lines: dict[tuple[int, str, str], dict[str, float]]
    rarest: dict[str, list[Floats]]
    tests: list[bool]

    def add(self, key: tuple[int, str, str], samples: int, world: World, truth: Any) -> None:
        """Draw samples of one kind, and print how many intervals are right."""
        n_groups, sizes, name = key
        rng = np.random.default_rng([self.seed, n_groups, *map(ord, sizes + name)])
        right: dict[str, list[Floats]] = {}
        for size in blocks(samples, n_groups):
            sums = sample(rng, (size, n_groups), world, SIZES[sizes])
            found = are_right(sums, truth)
            for figure, values in found.items():
                right.setdefault(figure, []).append(values)
            of_rarest = (sums[0][..., 2 * N_LABELS - 1] > 0).sum(axis=1)
            table = np.stack([of_rarest, found["recall of the rarest"]])
            self.rarest.setdefault(name, []).append(table)
            won = np.diff(sums[..., 3 * N_LABELS + 1], axis=0)[0]
            self.tests += [p_value(one, 0) < ALPHA for one in won[:TESTS]]
        line = {figure: float(np.nanmean(np.concatenate(v))) for figure, v in right.items()}
        self.lines[key] = line
        cells = " | ".join(f"{100 * share:.1f}" for share in line.values())
        print(f"{n_groups} | {sizes} | {name} ({world.correlation:.2f}) | {cells}", flush=True)

    def summarise(self) -> None:
        """Print, for each number of groups, the least and greatest coverage of each figure."""
        print("\nlowest to highest of all sizes and correlations; then where mistakes are rare")
        cases = sorted({(key[2] == RARE, key[0]) for key in self.lines})
        for is_rare, n_groups in cases:
            lines = [
                line
                for key, line in self.lines.items()
                if (key[2] == RARE, key[0]) == (is_rare, n_groups)
            ]
            cells = (
                f"{100 * min(shares):.0f}–{100 * max(shares):.0f}"
                for shares in zip(*(line.values() for line in lines), strict=True)
            )
            print(f"{n_groups} | {' | '.join(cells)}")
        print("\nrecall of the rarest label, by the number of groups that have it")
        for name, tables in self.rarest.items():
            count, inside = np.concatenate(tables, axis=1)
            parts = (inside[(least <= count) & (count <= most)] for least, most in FEW_GROUPS)
            cells = (f"{100 * np.nanmean(part):.1f}" if len(part) else "–" for part in parts)
            print(f"{name} | {' | '.join(cells)}")
        print(f"\ntests of equal classifiers with p < 0.05: {100 * np.mean(self.tests):.1f} %")


def main() -> int:
    """Simulate all combinations, and print the share of intervals that contain the truth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 12, 20, 50, 200])
    asked = parser.parse_args()
    about("numpy", "scipy")
    found = Found(asked.seed, {}, {}, [])
    for number, world in enumerate(WORLDS):
        truth = truth_of(np.random.default_rng([asked.seed, number]), world)
        if not number:
            print("groups | sizes | correlation | " + " | ".join(truth))
        for sizes in SIZES:
            for n_groups in asked.groups:
                found.add((n_groups, sizes, world.name), asked.samples, world, truth)
    found.summarise()
    least = min(min(line.values()) for line in found.lines.values())
    return int(least < LEAST or float(np.mean(found.tests)) > MOST_WRONG_TESTS)


if __name__ == "__main__":
    sys.exit(main())
