"""A file without a needed column stops the index stage, before any header is read."""

import pytest

from pipeline.annotations import AnnotationSource, check, squidle


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,row,label", "points.csv:1: no column for column among image, row, label; it is"),
        ("", "points.csv: is empty; a header line with column names is needed"),
    ],
)
def test_a_missing_column_is_said_by_the_index_stage(repo, header, message):
    (repo.path / "points.csv").write_text(f"{header}\n" if header else "", encoding="utf-8")
    done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode == 3, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (repo.path / "data/index/images.parquet").exists()


def test_json_has_no_columns_to_check():
    settings = squidle.Settings(format="squidle", path="x.json")
    check(AnnotationSource("x.json", b' [{"label": {"name": "a"}}]', ()), settings)
