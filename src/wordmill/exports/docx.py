"""A Word document, for people who read rows: one heading a row, below it its columns.

Texts are read as Markdown, as in a conversation's document; other values stand as JSON. It is made
in memory, so there is a most of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson
from pydantic import Field

from wordmill.documents.look import opened
from wordmill.documents.making import Maker
from wordmill.documents.parsing import clean, parse
from wordmill.documents.tree import Block, CodeBlock, Document, Heading, Paragraph, Styled, Text
from wordmill.errors import ExportError
from wordmill.exports.base import Counted, Source, Target, Written, checked_file, kept
from wordmill.exports.base import Export as Base
from wordmill.exports.tables import TableOptions
from wordmill.types import Row, Value

TOO_MANY = "beyond the most rows of a document"


class DocxOptions(TableOptions):
    """Options of Word documents."""

    lineage: bool = Field(False, description="also the column that says who made each cell")
    most: int = Field(200, description="rows of a document", ge=1, le=5_000)


class Docx(Base[DocxOptions]):
    """A Word document."""

    name = "docx"
    ending = ".docx"
    options = DocxOptions

    def fill(self, dataset: Source, target: Target, options: DocxOptions) -> Written:
        """One file, with the items of linked tables below their row."""
        counted = Counted()
        columns = options.chosen(dataset)
        blocks: list[Block] = []
        for row, linked in kept(dataset, options, counted):
            if counted.rows == options.most:
                counted.skip(TOO_MANY)
                continue
            counted.rows += 1
            blocks += _row(row, columns, linked)
        path = target.file(dataset.main)
        data = Maker().make(Document(dataset.name, blocks), "docx")

        def check(part: Path) -> None:
            word = opened(part.read_bytes())
            styles = [paragraph.style for paragraph in word.paragraphs]
            found = sum(style is not None and style.name == "Heading 1" for style in styles)
            if found != counted.rows:
                raise ExportError(
                    f"The document holds {found:,} rows where {counted.rows:,} were written."
                )

        with checked_file(path, check) as file:
            file.write(data)
        return Written(counted.rows, counted.skipped, (path,))


def _row(row: Row, columns: Sequence[str], linked: Mapping[str, Sequence[Row]]) -> Iterator[Block]:
    number = row.get("row")
    yield Heading(1, (Text(f"Row {number}"),))
    for name in columns:
        if name != "row":
            yield Heading(2, (Text(clean(name)),))
            yield from _value(row[name])
    for table, items in linked.items():
        yield Heading(2, (Text(clean(table)),))
        for place, item in enumerate(items, 1):
            yield Heading(3, (Text(f"{place}"),))
            for name, value in item.items():
                if name not in ("row", "item", "lineage"):
                    yield Paragraph((Styled("strong", (Text(clean(name)),)),))
                    yield from _value(value)


def _value(value: Value) -> Iterator[Block]:
    match value:
        case None | "":
            return
        case str():
            yield from parse(value, lower=3)
        case bool() | int() | float():
            yield Paragraph((Text(orjson.dumps(value).decode()),))
        case _:
            text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
            yield CodeBlock(clean(text), "json")
