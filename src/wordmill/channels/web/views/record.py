"""A row of a dataset whole: its values, its items as cards, what failed, where it came from."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from wordmill.channels.web import parts

_SHORT: Final = 80
"""Characters up to which a value stands in a line with others."""
_ITEM: Final = frozenset({"id", "item", "row", "variant", "text", "error"})
Texts = Callable[[str], str]


def show(record: Mapping[str, Any], _: Texts) -> None:
    """Draw a record as `runs` stores it: `values`, `errors`, `lineage`."""
    values: Mapping[str, Any] = record["values"]
    lists = {name: value for name, value in values.items() if _items(value)}
    cards = next(iter(lists), None)
    beside = {
        name: lists[name]
        for name in lists
        if name != cards and cards is not None and len(lists[name]) == len(lists[cards])
    }
    short = {name: one for name, value in values.items() if (one := _line(value)) is not None}
    _facts(short)
    for name, value in values.items():
        if name in short or name in beside or value is None:
            continue
        st.markdown(f"**{parts.label(name)}**")
        if name == cards:
            for number, item in enumerate(value):
                extra = {other: some[number] for other, some in beside.items()}
                _card(number, item, extra, _)
        elif isinstance(value, str):
            st.markdown(parts.markdown(value))
        else:
            st.json(value, expanded=1)
    for name, words in record["errors"].items():
        st.error(parts.plain(f"{name}: {words}"))


def plain(value: Any) -> Any:
    """A value as a cell of a table or a chart has it: of a described value, the value."""
    if isinstance(value, dict) and isinstance(value.get("value"), str | int | float):
        return value["value"]
    return value


def _items(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _line(value: Any) -> str | None:
    """A value that fits into a line, as a text."""
    value = plain(value)
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str) and len(value) <= _SHORT and "\n" not in value:
        return value
    return None


def _facts(short: Mapping[str, str]) -> None:
    if short:
        st.markdown(
            " · ".join(f"**{parts.label(name)}** {parts.plain(one)}" for name, one in short.items())
        )


def _card(number: int, item: Mapping[str, Any], extra: Mapping[str, Any], _: Texts) -> None:
    """An item, as an action, with what belongs to it from columns beside: scores."""
    with st.container(border=True):
        variant = item.get("variant")
        st.markdown(f"**{number + 1}** {parts.plain(str(variant)) if variant else ''}")
        rest = {name: value for name, value in item.items() if name not in _ITEM and value}
        if not rest and item.get("text"):
            rest = {"": item["text"]}
        for name, value in rest.items():
            if name:
                st.caption(parts.label(name))
            if isinstance(value, str):
                st.markdown(parts.markdown(value))
            else:
                st.json(value, expanded=1)
        for name, value in extra.items():
            if isinstance(value, dict):
                st.caption(parts.label(name))
                _facts({key: one for key, part in value.items() if (one := _line(part))})
                for key, part in value.items():
                    if _line(part) is None and isinstance(part, str):
                        st.caption(f"{parts.label(key)}: {parts.plain(part)}")
            elif value is not None:
                st.caption(f"{parts.label(name)}: {parts.plain(str(value))}")
        if item.get("error"):
            st.error(parts.plain(str(item["error"])))
