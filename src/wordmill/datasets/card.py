"""`README.md` of a dataset folder: the card that people and the Hugging Face hub read.

The header is YAML made by a YAML writer, and texts of the recipe are escaped, so no name or
description can end it early or add to it.
"""

import re
from typing import TYPE_CHECKING, Final

import yaml

from wordmill.datasets.assembly import IDS, Assembly
from wordmill.datasets.info import DatasetInfo
from wordmill.datasets.kinds import JsonText, Kind, Many, Scalar
from wordmill.datasets.manifest import Manifest
from wordmill.datasets.pages import render

if TYPE_CHECKING:
    from wordmill.types import Value

_SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)

_KEPT: Final = "whether the recipe's `keep` kept the row; null where it has none"
_MEANING: Final = {
    "row": "number of the row, from 0",
    "kept": _KEPT,
    "errors": "JSON text: for each cell that failed, why; null where none did",
    "lineage": "JSON text: the seed, and for each cell its model, request digest, tokens, money",
    "item": "number of the item in its row, from 0",
    "id": "names the item: row and item",
    "error": "why the item failed; null where it did not",
}
_MADE: Final = {
    "category": "sampled",
    "number": "sampled",
    "person": "sampled",
    "uuid": "sampled",
    "datetime": "sampled",
    "seed": "from the seed data",
    "template": "filled in from other columns",
    "prompt": "written by a model",
    "judge": "judged by a model",
    "candidates": "written by a model, several a row",
    "python": "computed",
}


def card(info: DatasetInfo, manifest: Manifest, assembly: Assembly) -> str:
    """The card's text."""
    made = {column.name: _MADE.get(column.type, column.type) for column in info.columns}
    linked = {
        table.name: [
            (name, type_words(kind), _MEANING.get(name) or made.get(name, ""))
            for name, kind in table.kinds()
        ]
        for table in assembly.linked
        if table.name in manifest.tables
    }
    main = []
    for name, kind in assembly.kinds():
        meaning = f"ids of its rows in `{name}`" if kind is IDS else made.get(name, "")
        main.append((name, type_words(kind), _MEANING.get(name) or meaning))
    return render(
        "card.md.jinja",
        header=_yaml(_header(info, manifest)),
        name=plain(info.name),
        description=plain(info.description),
        keep=code(info.keep or ""),
        manifest=manifest,
        main=[(code(name), words, meaning) for name, words, meaning in main],
        linked={
            table: [(code(name), words, meaning) for name, words, meaning in columns]
            for table, columns in linked.items()
        },
        models=[(code(m.name), code(m.model), code(m.provider)) for m in manifest.models],
    )


def _header(info: DatasetInfo, manifest: Manifest) -> "dict[str, Value]":
    rows = manifest.rows.made
    header: dict[str, Value] = {
        "pretty_name": " ".join(info.name.split()),
        "license": " ".join(info.license.split()),
        "size_categories": [next((words for top, words in _SIZES if rows < top), "n>100M")],
        "tags": ["synthetic", "wordmill", *(["rehearsal"] if manifest.rehearsal.rows else [])],
        "configs": [
            {
                "config_name": table,
                "data_files": [{"split": "train", "path": f"data/{table}-?????.parquet"}],
            }
            | ({"default": True} if table == manifest.main else {})
            for table in manifest.tables
        ],
    }
    if info.language:
        header["language"] = list(info.language)
    return header


def _yaml(header: "dict[str, Value]") -> str:
    """One line a text, so that no line within one can look like the header's end."""
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=10_000)


def type_words(kind: Kind) -> str:
    """A kind as people say it."""
    if isinstance(kind, Scalar):
        return kind.name
    if isinstance(kind, JsonText):
        return "JSON text"
    if isinstance(kind, Many):
        return f"list of {type_words(kind.item)}"
    return "object"


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as Markdown code, also inside a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{ticks}{pad}{text}{pad}{ticks}" if text else ""
