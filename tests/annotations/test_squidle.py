"""Squidle+'s export: points, outlines and labels of whole images."""

import pytest
from annotation_files import read, window

from pipeline.annotations import AnnotationSource, squidle

# The columns of Squidle+'s export, `point.x` and `point.y` as shares, a polygon from the point.
SQUIDLE = """label.name,label.lineage_names,needs_review,point.media.key,point.media.path_best,\
point.x,point.y,point.polygon,point.media.deployment.key
Sand,Physical > Sand,False,a.jpg,https://s3/x/deep/b.jpg,0.5,0.25,[],d1
Kelp,Algae > Kelp,False,A1,https://s3/x/deep/b.jpg,1.0,0.9999,,d1
Urchin,Animal > Urchin,False,a.jpg,,0.5,0.5,"[[-0.1,-0.2],[-0.1,0.2],[0.1,0.2],[0.1,-0.2]]",d1
Clear,Clear,False,a.jpg,,nan,nan,nan,d1
Guess,Guess,True,a.jpg,,0.5,0.5,,d1
Gone,Gone,False,z.jpg,,0.5,0.5,,d1
Wrong,Wrong,False,a.jpg,,1.5,0.5,,d1
"""


def test_squidles_points_are_shares_of_the_image():
    rows, rejects = read(squidle, SQUIDLE, group="point.media.deployment.key")
    by_label = {row["label"]: row for row in rows}
    assert (by_label["Sand"]["row"], by_label["Sand"]["col"]) == (25, 100)
    assert by_label["Kelp"]["key"] == "deep/b.jpg"
    assert (by_label["Kelp"]["row"], by_label["Kelp"]["col"]) == (299, 399)
    assert window(by_label["Urchin"]) == (30, 80, 40, 40)
    assert by_label["Clear"]["row"] is None
    assert {row["group"] for row in rows} == {"d1"}
    assert [why for _, why, _ in rejects] == ["unconfirmed", "no_such_image", "points_outside"]
    assert rejects[2][2] == "test.file:8: 1.5, 0.5 is outside: both must be from 0 to 1"
    other = read(squidle, SQUIDLE, label="label.lineage_names")[0]
    assert "Physical > Sand" in {row["label"] for row in other}


def test_a_squidle_export_without_keys_of_media_names_images_by_their_addresses():
    text = (
        ",label.id,label.name,point.id,point.media.id,point.media.path_best,point.x,point.y\n"
        "0,7,Sand,1,2,https://s3/x/full_res/deep/b.jpg,0.5,0.25\n"
        "1,7,Sand,1,2,https://s3/x/full_res/deep/z.jpg,0.5,0.25\n"
    )
    (row,), rejects = read(squidle, text)
    assert (row["key"], row["row"], row["col"]) == ("deep/b.jpg", 75, 200)
    assert [why for _, why, _ in rejects] == ["no_such_image"]


def test_squidles_address_takes_precedence_over_a_key_without_an_extension():
    keys = ["PR_1.jpg", "d2/PR_1.jpg", "PR_2.jpg"]
    text = (
        "label.name,point.media.key,point.media.path_best,point.x,point.y\n"
        "Sand,PR_1,https://s3/x/d2/PR_1.jpg,0.5,0.25\n"
        "Sand,PR_1,https://s3/x/d1/PR_1.jpg,0.5,0.25\n"
        "Sand,PR_2,,0.5,0.25\n"
    )
    params = squidle.Settings(format="squidle", path="x")
    table, rejects = squidle.read(
        AnnotationSource("x", text.encode(), keys, [(100, 200)] * 3), params
    )
    assert {row["line"]: row["key"] for row in table.to_pylist()} == {
        "2": "d2/PR_1.jpg",
        "3": "PR_1.jpg",
        "4": "PR_2.jpg",
    }
    assert rejects == []


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "a page of the API"])
def test_squidles_json_is_its_csv(nested):
    """As its export gives it, a record a row; or as its API lists it, objects in objects."""
    corners = [[-0.1, -0.2], [-0.1, 0.2], [0.1, 0.2], [0.1, -0.2], [-0.1, -0.2]]
    flat = [
        {"point.media.key": "a.jpg", "point.x": 0.5, "point.y": 0.25, "label.name": "Sand"},
        {
            "point.media.key": "A1",
            "point.media.path_best": "https://s3/x/deep/b.jpg",
            "point.x": 0.5,
            "point.y": 0.5,
            "point.polygon": corners,
            "label.name": "Urchin",
            "needs_review": False,
        },
        {"point.media.key": "a.jpg", "point.x": None, "point.y": None, "label.name": "Clear"},
        {"point.media.key": "a.jpg", "point.x": 0, "label.name": "Guess", "needs_review": True},
    ]
    objects = [
        {
            "label": {"id": 7, "name": row["label.name"]},
            "needs_review": row.get("needs_review"),
            "point": {
                "x": row["point.x"],
                "y": row.get("point.y"),
                "data": {"polygon": row.get("point.polygon")},
                "media": {
                    "key": row["point.media.key"],
                    "path_best": row.get("point.media.path_best"),
                },
            },
        }
        for row in flat
    ]
    rows, rejects = read(squidle, {"num_results": 4, "objects": objects} if nested else flat)
    by_label = {row["label"]: row for row in rows}
    assert (by_label["Sand"]["row"], by_label["Sand"]["col"]) == (25, 100)
    assert by_label["Urchin"]["key"] == "deep/b.jpg"
    assert window(by_label["Urchin"]) == (90, 160, 120, 80)
    assert (by_label["Clear"]["row"], by_label["Clear"]["top"]) == (None, None)
    assert rejects == [("a.jpg", "unconfirmed", "test.file:[3]: the label needs review")]
