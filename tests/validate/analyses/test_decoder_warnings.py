"""What the report says about images that their decoder warned of."""

from types import SimpleNamespace

from pages import warned

from pipeline.validate.analyses import decoder_warnings


def analysed(rows, gallery=60):
    asked = []

    def pictures(chip_ids, count):
        asked.append((chip_ids, count))
        return dict.fromkeys(chip_ids, b"webp")

    validate = SimpleNamespace(gallery_size=gallery)
    data = SimpleNamespace(decoder_warnings=warned(rows), validate=validate, pictures=pictures)
    return decoder_warnings.analyse(data), asked


def test_images_are_listed_once_and_shown_by_their_first_chip():
    rows = [(b"1" * 16, "a.jpg", "bad code"), (b"2" * 16, "a.jpg", "bad code")]
    result, asked = analysed([*rows, (b"3" * 16, "b.jpg", "bytes")])
    assert result.metrics == {"n_decoder_warnings": 2}
    assert result.tables["decoder_warnings"].to_numpy().tolist() == [
        ["a.jpg", "bad code", 2],
        ["b.jpg", "bytes", 1],
    ]
    assert asked == [([b"1" * 16, b"3" * 16], 2)]
    text, gallery = result.sections[0].blocks
    assert text.html.startswith("The decoder warned of 2 images: ")
    assert [pictures[0].alt for pictures, _ in gallery.items] == [
        "a chip of a.jpg",
        "a chip of b.jpg",
    ]


def test_without_a_gallery_no_image_is_read_and_without_warnings_nothing_is_said():
    result, asked = analysed([(b"1" * 16, "a.jpg", "bad code")], gallery=0)
    assert (asked, len(result.sections[0].blocks)) == ([], 1)
    result, _ = analysed([])
    assert (result.metrics, result.sections) == ({"n_decoder_warnings": 0}, [])
