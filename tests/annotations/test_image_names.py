"""The keys of images by the names that annotation tools write."""

from urllib.parse import quote

from pipeline.annotations import AnnotationSource
from pipeline.annotations._objects import ImageNames


def test_images_are_matched_by_address():
    names = ImageNames(AnnotationSource("", b"", ["site/1.jpg", "1.jpg", "p/2 3.jpg"]), "")
    assert names.key("site/1.jpg") == "site/1.jpg"
    assert names.key("s3://bucket/reef/site/1.jpg") == "site/1.jpg"
    assert names.key("https://x.org/other/1.jpg?signature=/a/site/1.jpg") == "1.jpg"
    assert names.key("/data/local-files/?d=reef/p/2%203.jpg") == "p/2 3.jpg"
    assert names.key("nowhere/1.jpg") == "nowhere/1.jpg"
    assert ImageNames(AnnotationSource("", b"", ["p/2.jpg"]), "p/").key("2.jpg") == "p/2.jpg"


def test_an_upload_of_label_studio_is_the_only_image_of_that_name():
    """The names are those that Django 5.2 stores `upload/1/0123abcd-` + name under."""
    stored = {
        "reef/Reef 1 (ä).jpg": "Reef_1_ä.jpg",
        "reef/a,b#c.jpg": "abc.jpg",
        "p/ x  y.jpg": "_x__y.jpg",
        "a&b+c=d.jpg": "abcd.jpg",
        "site/1.jpg": "1.jpg",
    }
    names = ImageNames(AnnotationSource("", b"", [*stored, "x/2.jpg", "2.jpg"]), "")
    for key, name in stored.items():
        assert names.key(f"/data/upload/1/0123abcd-{quote(name)}") == key
        assert names.key(f"https://labels.org/data/upload/17/ffffffff-{quote(name)}") == key
    for address in ("/data/upload/1/0123abcd-2.jpg", "/data/upload/1/0123abcd-3.jpg"):
        assert names.key(address) == address, "two images have the name, or none"
    assert names.key("0123abcd-1.jpg") == "0123abcd-1.jpg"
    assert names.uploaded("/data/upload/1/0123abcd-2.jpg") == ["2.jpg", "x/2.jpg"]
    below = ImageNames(AnnotationSource("", b"", ["x/2.jpg", "2.jpg"]), "x/")
    assert below.key("/data/upload/1/0123abcd-2.jpg") == "x/2.jpg"
    kept = ImageNames(AnnotationSource("", b"", ["upload/1/0123abcd-1.jpg", "1.jpg"]), "")
    assert kept.key("/data/upload/1/0123abcd-1.jpg") == "upload/1/0123abcd-1.jpg"


def test_images_are_matched_by_paths_of_windows_and_other_machines():
    names = ImageNames(AnnotationSource("", b"", ["site/1.jpg", "1.jpg", "odd\\1.jpg"]), "")
    assert names.key("site\\1.jpg") == "site/1.jpg"
    assert names.key("C:\\reef\\site\\1.jpg") == "site/1.jpg"
    assert names.key("/data/local-files/?d=reef%5Csite%5C1.jpg") == "site/1.jpg"
    assert names.key("../../reef/site/1.jpg") == "site/1.jpg"
    assert names.key("./1.jpg") == "1.jpg"
    assert names.key("odd\\1.jpg") == "odd\\1.jpg", "a key may contain a backslash"
    assert names.key("other\\1.jpg") == "other/1.jpg", "a folder of the bucket is no other's"
    assert ImageNames(AnnotationSource("", b"", ["p/a/2.jpg"]), "p/").key("a\\2.jpg") == "p/a/2.jpg"


def test_a_name_without_an_extension_is_the_only_image_of_that_name():
    """CVAT calls a video's frames so, and Squidle+ its media."""
    keys = ["v/frame_000001.PNG", "2.jpg", "2.png", "3.jpg.png", "4_thumbnail.png"]
    names = ImageNames(AnnotationSource("", b"", keys), "v/")
    assert names.key("frame_000001") == "v/frame_000001.PNG"
    assert names.key("frame_000002") == "v/frame_000002"
    nameless = ImageNames(AnnotationSource("", b"", ["3.jpg"]), "3")
    assert nameless.key("") == "3", "no name means no image"
    names = ImageNames(AnnotationSource("", b"", keys), "")
    for name in ("2", "3.jpg", "3", "4", "frame_000001", ""):
        assert names.key(name) == name


def test_the_signature_of_an_unknown_address_is_not_kept():
    names = ImageNames(AnnotationSource("", b"", ["1.jpg"]), "")
    for name in ("https://me:pw@x.org/2.jpg?X-Amz-Signature=pw", "s3://b/2.jpg?sig=pw"):
        assert "pw" not in names.key(name)
        assert names.key(name).endswith("/2.jpg")
    assert names.key("https://[x/1.jpg") == "https://…"
    assert names.key("a\ud800.jpg") == "'a\\ud800.jpg'"
