"""What a room is shown at the end of a run: the charts of its report."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image

from wordmill.batches import Batch, Counts
from wordmill.channels.rooms.notices import _row
from wordmill.channels.rooms.picture import WIDTH, batch_picture, report_picture
from wordmill.datasets.charts import bars, histogram, steps
from wordmill.datasets.report import Card, Drawn, Picture, Section, read_drawn
from wordmill.datasets.sketches import Sample
from wordmill.errors import StorageError

GOOD, WARN, BAD, FILL = (
    (0x4D, 0x8A, 0x62),
    (0xB9, 0x85, 0x2F),
    (0xB2, 0x50, 0x3F),
    (0x3D, 0x6B, 0x9C),
)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.width == WIDTH
    return image.convert("RGB")


def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """Of the bar that shows what became of the rows."""
    y = next(y for y in range(image.height) if image.getpixel((40, y)) == GOOD)
    line = [image.getpixel((x, y)) for x in range(40, WIDTH - 40)]
    return line.count(colour) / len(line)


def filled(image: Image.Image) -> int:
    return sum(n for n, colour in image.getcolors(1 << 24) or () if colour == FILL)


def drawn(*pictures: Picture, rows: int = 10) -> Drawn:
    card = Card("text", "llm_text", pictures)
    return Drawn("replies", rows, rows, 0, 0, (Section("Columns", "", (card,), ()),), ())


def test_texts_alone_have_a_picture_too() -> None:
    sample: Sample[float] = Sample(100, 7)
    sample.extend([float(n * n % 97) for n in range(60)])
    lengths = Picture("", ("median 40 characters",), columns=histogram(sample, 0, 96, True))
    assert filled(opened(report_picture(drawn(lengths)))) > 10_000


def test_the_longest_bar_is_the_most_frequent() -> None:
    few, many = (
        opened(report_picture(drawn(Picture("", (), bars=bars({"calm": n, "angry": 50})))))
        for n in (5, 45)
    )
    assert filled(many) > 1.5 * filled(few)


def test_what_became_of_the_rows_is_in_its_shares() -> None:
    image = opened(report_picture(Drawn("replies", 200, 100, 60, 40, (), ())))
    found = [share(image, colour) for colour in (GOOD, WARN, BAD)]
    assert found == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_no_row_and_no_chart_is_a_picture() -> None:
    assert opened(report_picture(Drawn("replies", 0, 0, 0, 0, (), ()))).height > 100


@pytest.mark.parametrize(
    "words", ["\u202eevil", "Z̸̢̛" * 200, "א" * 500, "line\nline", "\x00\x1b[31m", "", "🙂" * 90]
)
def test_labels_of_any_kind_are_drawn(words: str) -> None:
    counted = bars({words: 3, "other": 1})
    numbers = steps({1: 4, 3: 1}, 1, 5)
    image = opened(
        report_picture(
            drawn(Picture(words, (words,), bars=counted), Picture("", (), columns=numbers))
        )
    )
    assert image.height < 1000


def test_a_wide_dataset_is_no_endless_picture() -> None:
    many = [Picture(f"part {n}", (), bars=bars({v: v + 1 for v in range(20)})) for n in range(40)]
    assert opened(report_picture(drawn(*many))).height < 3000


def test_a_batch_is_counted_by_what_its_answers_share() -> None:
    rows = [{"outcome": "calm" if n % 3 else "angry"} for n in range(30)]
    counts = Counts(total=4000, completed=3000, failed=1000, causes={"rate_limit": 1000})
    batch = SimpleNamespace(dataset="letters", counts=counts)
    image = opened(batch_picture(cast("Batch", batch), rows))
    assert share(image, GOOD) == pytest.approx(0.75, abs=0.01)
    plain = SimpleNamespace(dataset="letters", counts=replace(counts, causes={}))
    assert filled(image) > filled(opened(batch_picture(cast("Batch", plain), rows))) > 10_000


@pytest.mark.parametrize(
    "body", [[1], "no", None, {}, {"choices": []}, {"choices": [7]}, {"choices": {"0": 1}}]
)
def test_a_line_that_is_no_chat_has_no_answer(body: object) -> None:
    assert _row({"error": None, "response": {"body": body}}) == {}


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"report\.json cannot be read: No such file"):
        read_drawn(tmp_path)
    (tmp_path / "report.json").write_text('{"name": 7}')
    with pytest.raises(StorageError, match=r"is not what this version of Wordmill writes"):
        read_drawn(tmp_path)
