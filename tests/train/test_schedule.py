"""Epochs, minibatches and learning rates where params.yaml leaves them open."""

import pytest

from pipeline.config.sections import TrainParams
from pipeline.train.schedule import Schedule


def test_presets_fill_nulls_and_explicit_settings_win():
    assert TrainParams(preset="mermaid", epochs=None, batch=64) == TrainParams(
        preset="mermaid",
        hidden=(500, 300, 100),
        learning_rate=1e-4,
        epochs=40,
        patience=3,
        batch=64,
        weight_decay=5e-7,
        standardize=False,
        calibration="sigmoid",
    )
    assert TrainParams(preset="pyspacer", standardize=True).standardize
    assert TrainParams(epochs=None).epochs == TrainParams().epochs
    fields = TrainParams(preset="pyspacer").recipe_fields()
    assert fields == TrainParams(**fields).recipe_fields()
    assert fields["preset"] == "pyspacer"  # which the learning rate goes by


@pytest.mark.parametrize(
    ("n_rows", "epochs", "rate"),
    [
        (500, 40, 1e-3 * (50 / 200) ** 0.5),
        (5000, 20, 1e-3 * (500 / 200) ** 0.5),
        (49_999, 10, 1e-3 * (500 / 200) ** 0.5),
        (50_000, 4, 2.5e-3 * (500 / 200) ** 0.5),
        (150_000, 2, 2.5e-3 * (500 / 200) ** 0.5),
        (1_770_000, 2, 2.5e-3 * (500 / 200) ** 0.5),
    ],
)
def test_nulls_are_chosen_by_the_number_of_rows(n_rows, epochs, rate):
    def chosen(dim=80, **settings):
        return Schedule.of(TrainParams(**settings), n_rows, dim)

    assert chosen().epochs == epochs
    for dim in (20, 1280):
        assert chosen(dim).rate == pytest.approx(rate)
    lr_rate = rate if n_rows < 50_000 else rate / 2
    assert chosen(1280, classifier="lr").rate == pytest.approx(lr_rate)
    assert chosen(80, classifier="lr").rate == pytest.approx(4 * lr_rate)
    assert chosen(2, classifier="lr").rate == pytest.approx(10 * lr_rate)
    assert chosen(learning_rate=0.5).rate == 0.5
    assert chosen().kind == ("cosine" if n_rows >= 50_000 else "constant")
    pyspacer = chosen(preset="pyspacer")
    assert pyspacer.epochs == 10
    assert pyspacer.rate == (1e-3 if n_rows < 50_000 else 1e-4)
    assert pyspacer.kind == "constant"


@pytest.mark.parametrize(
    ("n_rows", "batch", "epochs"),
    [
        (1, 32, 40),
        (329, 32, 40),
        (339, 33, 40),
        (2499, 249, 40),
        (2565, 256, 38),
        (4999, 499, 20),
        (9091, 500, 10),
        (100_001, 500, 3),
    ],
)
def test_minibatches_and_epochs_are_whole_numbers_within_limits(n_rows, batch, epochs):
    """A tenth of the rows, and 100,000 rows in all epochs together, or 400,000 of many."""
    chosen = Schedule.of(TrainParams(), n_rows, 1280)
    assert (chosen.batch, chosen.epochs) == (batch, epochs)
    assert isinstance(chosen.batch, int)
    assert isinstance(chosen.epochs, int)
    assert Schedule.of(TrainParams(batch=7, epochs=9), n_rows, 1280)[:2] == (9, 7)


def test_a_cosine_falls_from_the_rate_to_0_and_a_constant_stays():
    cosine = Schedule(8, 32, 0.2, "cosine")
    falling = [cosine.rate_after(epochs) for epochs in (0, 2, 4, 6, 8)]
    root = 0.5**0.5
    assert falling == pytest.approx([0.2, 0.1 * (1 + root), 0.1, 0.1 * (1 - root), 0])
    assert cosine._replace(kind="constant").rate_after(5) == 0.2


def test_a_constant_rate_is_lower_and_takes_more_epochs():
    constant = Schedule.of(TrainParams(schedule="constant"), 200_000, 1280)
    assert constant.epochs == 4
    assert constant.rate == pytest.approx(5e-4 * (500 / 200) ** 0.5)
