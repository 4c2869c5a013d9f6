"""Markdown as the HTML that Matrix allows, and nothing that a model could have smuggled in.

The text is a model's: its HTML is shown as text, pictures become links, and what is left is cleaned
against the list of the specification once more.
"""

from functools import cache
from typing import Final

import nh3
from markdown_it import MarkdownIt

TAGS: Final = {
    "del", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "p", "a", "ul", "ol", "sup", "sub",
    "li", "b", "i", "u", "strong", "em", "s", "code", "hr", "br", "div", "table", "thead", "tbody",
    "tr", "th", "td", "caption", "pre", "span", "details", "summary",
}  # fmt: skip
ATTRIBUTES: Final = {"a": {"href"}, "ol": {"start"}, "code": {"class"}}
SCHEMES: Final = {"https", "http", "ftp", "mailto", "magnet"}


def html(text: str) -> str:
    """Markdown as HTML within the subset of the specification."""
    return nh3.clean(
        _markdown().render(text), tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES,
        link_rel=None, attribute_filter=_kept,
    ).strip()  # fmt: skip


def _kept(tag: str, attribute: str, value: str) -> str | None:
    """Of classes only a language of code."""
    if tag == "code" and attribute == "class":
        names = [name for name in value.split() if name.startswith("language-")]
        return " ".join(names) or None
    return value


@cache
def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True})
    return made.enable(["table", "strikethrough"]).disable("image")
