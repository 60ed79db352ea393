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


def test_a_constant_rate_is_lower_and_takes_more_epochs():
    constant = Schedule.of(TrainParams(schedule="constant"), 200_000, 1280)
    assert constant.epochs == 4
    assert constant.rate == pytest.approx(5e-4 * (500 / 200) ** 0.5)
