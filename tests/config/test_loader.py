"""params.yaml: every fault at once, each with file, line, key and what to do."""

import shutil

import pytest
from conftest import ROOT

from pipeline.chip import recipe as chip_recipe
from pipeline.config.loader import SECTIONS, from_json, load
from pipeline.config.machine import machine
from pipeline.config.sections import RENAMED, ExtractParams, TrainParams
from pipeline.core.errors import SettingError
from pipeline.extract import recipe as extract_recipe
from pipeline.index import recipe as index_recipe
from pipeline.store.recipe import recipe_of


def shipped(tmp_path, *changes):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def line_of(path, text):
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_the_shipped_file_is_read(tmp_path):
    params = load(shipped(tmp_path))
    assert params.chip.method == "points"
    assert params.train == TrainParams()
    assert from_json(params.to_json()) == params
    assert hash(from_json(params.to_json())) == hash(params)


def test_yaml_is_read_like_dvc_reads_it(tmp_path):
    """PyYAML would give the string '1e-3'."""
    params = load(shipped(tmp_path, ("learning_rate: null", "learning_rate: 1e-3")))
    assert params.train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("before", "after", "at", "message"),
    [
        (
            "  epochs: null",
            "  epochs: ten",
            "epochs: ten",
            "train.epochs: 'ten': input should be a valid integer",
        ),
        (
            "  epochs: null",
            "  epoch: 40",
            "epoch: 40",
            "train.epoch: not a setting; did you mean 'train.epochs'?",
        ),
        (
            "  epochs: null",
            "  epochs: 0",
            "epochs: 0",
            "train.epochs: 0: input should be greater than or equal to 1",
        ),
        (
            "  method: points",
            "  method: gird",
            "method: gird",
            "chip.method: no 'gird' among boxes, flowcam, grid, points, whole (nearest: 'grid')",
        ),
        (
            "  size: 64",
            "  size: 64\n  sise: 3",
            "sise: 3",
            "chip.sise: not a setting; did you mean 'chip.size'?",
        ),
        (
            "  size: 64",
            "  size: 64\n  stride: 3",
            "stride: 3",
            "chip.stride: not a setting; it is a setting of chip.method 'grid'",
        ),
        (
            "  method: points ",
            "  method: whole ",
            "size: 64",
            "chip.size: not a setting; it is a setting of chip.method 'boxes', 'grid', 'points'",
        ),
        (
            "  batch: null               # chips in one forward",
            "  batch: 0               # chips in one forward",
            "batch: 0",
            "extract.batch: 0: input should be greater than or equal to 1",
        ),
        (
            "  count: 16",
            "  count: 12",
            "count: 12",
            "shards.count: 12: 12 is not a power of two up to 65,536",
        ),
        (
            "  classifier: mlp",
            "  classifier: mpl",
            "classifier: mpl",
            "train.classifier: no 'mpl' among lr, mlp (nearest: 'mlp')",
        ),
        (
            "  extractor: filters",
            "  extractor: filter",
            "extractor: filter",
            "extract.extractor: no 'filter' among",
        ),
        (
            "  extractor: filters",
            "  extractor: torchvision",
            "extractor: torchvision",
            "extract: extractor 'torchvision' needs a model: 'torchvision/resnet50'",
        ),
        (
            "  format: points",
            "  format: point",
            "format: point",
            "annotations.format: no 'point' among boxes, coco, coralnet, cvat, ecotaxa, folders, "
            "images, labelstudio, mermaid, points, squidle (nearest: 'points')",
        ),
        (
            "  by: group",
            "  by: gruop",
            "by: gruop",
            "split.by: no 'gruop' among group, image, folder, day, place (nearest: 'group'); "
            "index.pattern names more",
        ),
        (
            "  by: []",
            "  by: [day, sight]",
            "by: [day, sight]",
            "validate.by: no 'sight' among group, image, folder, day, place; "
            "index.pattern names more",
        ),
        (
            "  pattern: null",
            '  pattern: "{site}/{key}.jpg"',
            '  pattern: "{site}/{key}.jpg"',
            "index.pattern: '{site}/{key}.jpg': {key} is the name of something else; "
            "rename the field",
        ),
        ("\nsplit:", "\nsplitt:", "splitt:", "splitt: not a setting; did you mean 'split'?"),
    ],
)
def test_the_error_for_a_wrong_setting_has_its_line(tmp_path, before, after, at, message):
    path = shipped(tmp_path, (before, after))
    with pytest.raises(SettingError) as stop:
        load(path)
    lines = str(stop.value).splitlines()
    assert any(message in line for line in lines), lines
    if not message.startswith("extract: "):
        assert any(line.startswith(f"params.yaml:{line_of(path, at)}: ") for line in lines), lines


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_the_error_for_an_old_name_has_the_new_one(tmp_path, old):
    section, _, key = old.partition(".")
    new = RENAMED[old]
    assert new.partition(",")[0] in SECTIONS[section].model_fields
    path = shipped(tmp_path, (f"\n{section}:\n", f"\n{section}:\n  {key}: 1\n"))
    with pytest.raises(SettingError) as stop:
        load(path)
    line = line_of(path, f"  {key}: 1")
    assert str(stop.value) == f"params.yaml:{line}: {old}: is now called {new}"


def test_half_a_character_is_an_error(tmp_path):
    path = shipped(tmp_path, ("compare: []", 'compare: ["a\\udc80"]'))
    with pytest.raises(SettingError) as stop:
        load(path)
    at = f"params.yaml:{line_of(path, 'compare:')}: validate.compare"
    assert str(stop.value) == f"{at}: ('a\\udc80',): contains half a character"


def test_all_faults_are_in_one_message(tmp_path):
    path = shipped(
        tmp_path,
        ("  epochs: null", "  epochs: ten"),
        ("  count: 16", "  count: 12"),
        ("  url: demo/bucket", "  ulr: demo/bucket"),
    )
    with pytest.raises(SettingError) as stop:
        load(path)
    assert [line.split(": ")[1] for line in str(stop.value).splitlines()] == [
        "bucket.url",
        "bucket.ulr",
        "shards.count",
        "train.epochs",
    ]


def test_a_field_of_the_pattern_can_be_grouped_by(tmp_path):
    changes = [
        ("  pattern: null", '  pattern: "{site}/{n}.jpg"'),
        ("  by: group", "  by: site"),
        ("  by: []", "  by: [site, n]"),
    ]
    params = load(shipped(tmp_path, *changes))
    assert params.split.by == "site"
    assert params.validate.by == ("site", "n")


def test_a_file_without_an_index_section_is_read(tmp_path):
    path = shipped(tmp_path)
    text = path.read_text(encoding="utf-8")
    before, _, after = text.partition("\nindex:\n")
    path.write_text(before + "\n" + after[after.index("annotations:") :], encoding="utf-8")
    assert load(path).index.pattern is None


def test_splits_without_training_are_an_error(tmp_path):
    path = shipped(tmp_path, ("  validation: 0.2", "  validation: 0.9"))
    with pytest.raises(
        SettingError, match="validation, calibration and test together leave nothing"
    ):
        load(path)


def test_the_error_for_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(
        SettingError, match="params.yaml: not found; run from the repository's root"
    ):
        load(tmp_path / "params.yaml")


def test_the_error_for_a_file_that_is_not_yaml_has_the_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("bucket:\n  url: [\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"params.yaml:\d: not YAML"):
        load(path)


CHANGED = {
    "extractor": "coralnet",
    "precision": "bf16",
    "runtime": "torch",
    "batch": 64,
    "dtype": "float16",
    "intensity_range": (1.0, 2.0),
    "grey_intensity_range": (1.0, 2.0),
    "alpha": "white",
    "resize": "pad",
    "pad_extent": 500,
    "max_rejects": 0.5,
    "weights": "w.pt",
    "weights_sha256": "0" * 64,
    "classifier": "lr",
    "hidden": (3,),
    "epochs": 3,
    "learning_rate": 0.5,
    "weight_decay": 0.5,
    "final": "all",
    "standardize": False,
    "calibration": "none",
    "schedule": "cosine",
    "dropout": 0.5,
    "label_smoothing": 0.5,
    "patience": 3,
    "min_class_count": 3,
    "rare_classes": "drop",
    "balance": "weights",
    "min_per_class": 3,
    "max_per_class": 3000,
    "memory_gib": 1.0,
    "preset": "pyspacer",
    "label_map": "map.csv",
    "label_map_check": "closed",
    "seed": 3,
}


@pytest.mark.parametrize("name", sorted(ExtractParams.model_fields))
def test_every_field_of_extract_is_in_the_recipe_or_declared_not_to_be(name):
    base = ExtractParams(extractor="filters")
    other = ExtractParams(**{"extractor": "filters", name: CHANGED[name]})
    assert other != base
    assert (recipe_of(other) == recipe_of(base)) == (name in ExtractParams.NOT_IN_RECIPE)


@pytest.mark.parametrize("name", sorted(TrainParams.model_fields))
def test_every_field_of_train_is_in_the_recipe_or_declared_not_to_be(name):
    changed = recipe_of(TrainParams(**{name: CHANGED[name]})) != recipe_of(TrainParams())
    # The label map is in it by its digest, see test_label_maps; its check changes no row.
    assert changed is (name not in TrainParams.NOT_IN_RECIPE)


def test_the_number_of_shards_shapes_no_row(tmp_path):
    params = load(shipped(tmp_path))
    other = load(shipped(tmp_path, ("  count: 16", "  count: 32")))
    assert other.shards != params.shards
    assert other.recipe_fields() == params.recipe_fields()


def test_addresses_and_checks_are_not_in_recipes(tmp_path):
    params = load(shipped(tmp_path))
    other = load(
        shipped(
            tmp_path,
            ("url: demo/bucket", "url: s3://elsewhere"),
            ("path: demo/points.csv", "path: x.csv"),
            ("weights_sha256: null", f"weights_sha256: {'a' * 64}"),
        )
    )
    assert index_recipe.recipe(params.bucket) == index_recipe.recipe(other.bucket)
    assert chip_recipe.requested(params) == chip_recipe.requested(other)
    requests = [extract_recipe.request(each.extract, machine({})) for each in (params, other)]
    assert requests[0].recipe == requests[1].recipe


def test_every_section_of_the_shipped_file_has_comments():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key in SECTIONS:
        section = text.partition(f"\n{key}:\n")[2].partition("\n\n")[0]
        assert "#" in section, key


def test_a_copy_under_another_name_is_read(tmp_path):
    path = shipped(tmp_path)
    copy = shutil.copy(path, tmp_path / "other.yaml")
    assert load(copy) == load(path)


def with_line(tmp_path, line):
    """Write the shipped params.yaml with another *line* for the first of that setting."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    start = line.partition(": ")[0] + ": "
    return shipped(
        tmp_path, (next(old for old in text.splitlines() if old.startswith(start)), line)
    )


def test_a_network_of_torchvision_without_its_part_is_named(tmp_path):
    path = with_line(tmp_path, "  extractor: efficientnet_b0")
    with pytest.raises(SettingError) as stop:
        load(path)
    assert str(stop.value).startswith(
        f"params.yaml:{line_of(path, 'extractor: eff')}: extract.extractor: no 'efficientnet_b0' "
    )
    assert str(stop.value).endswith(
        "; a network of torchvision is written torchvision/efficientnet_b0"
    )


def test_a_format_with_a_file_needs_one(tmp_path):
    path = with_line(tmp_path, "  path: null")
    with pytest.raises(SettingError) as stop:
        load(path)
    assert str(stop.value) == (
        f"params.yaml:{line_of(path, 'path: null')}: annotations.path: None: annotations of this "
        "format are in a file; name it"
    )
