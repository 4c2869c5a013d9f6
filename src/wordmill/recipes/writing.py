"""Plain values as YAML that reads back as the same values, here and with YAML 1.1."""

from collections.abc import Mapping
from typing import Any

import yaml

from wordmill.recipes.reading import BOOL, FLOAT, INT, NULL
from wordmill.types import Value


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is written as an alias: what is written twice is read as twice."""
        return True


for _tag, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Several lines as a block."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def write(values: Mapping[str, Value]) -> str:
    """The text of one document, keys in their order, 100 characters wide."""
    return yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
