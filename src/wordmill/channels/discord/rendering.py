"""Markdown as Discord shows it: what it does not know is written as something that it does.

It knows headings of three levels, bold, lists, quotes, links and code, and shows anything else as
it stands. So a table becomes code, whose columns stand below each other; deeper headings become
bold; a picture becomes its link. Marks that mean something there alone (`||` hides a text, `>>>`
quotes all that follows) lose their meaning. Nobody is pinged by a text: the surface says so with
each message.

No I/O.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from wordmill.channels.rooms.splitting import utf16_units

MOST: Final = 2000
"""What Discord takes; it counts characters, and no way of counting gives more than this one."""

_FENCE: Final = re.compile(r"(?P<lead>[ \t>]*)(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)")
_DEEP: Final = re.compile(r"(?P<lead>[ \t>]*)#{4,6}[ \t]+(?P<text>.*?)[ \t]*#*")
_PICTURE: Final = re.compile(r"!\[(?P<alt>[^\]\n]*)\]\((?P<url>[^\s)]+)[^)\n]*\)")
_RULE: Final = re.compile(r"[ \t]*(?:-[ \t]*){3,}|[ \t]*(?:\*[ \t]*){3,}|[ \t]*(?:_[ \t]*){3,}")
_TABLE_LINE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*")
_CODE: Final = re.compile(r"(?P<marks>`+)(?:(?!(?P=marks)).)+?(?P=marks)")
_WIDEST: Final = 40
"""Characters of a cell up to which a column is filled."""


def render(text: str) -> str:
    """A text of at most MOST, if it was that before."""
    rendered = "\n".join(_lines(text.split("\n")))
    return rendered if utf16_units(rendered) <= MOST else text


def _lines(lines: Sequence[str]) -> Iterator[str]:
    fence, at = "", 0
    while at < len(lines):
        line = lines[at]
        found = _FENCE.fullmatch(line)
        if fence:
            if found and found["marks"].startswith(fence) and not found["info"].strip():
                fence = ""
                yield f"{found['lead']}```"
            else:
                yield line.replace("```", "`\u200b``")
        elif found and not (found["marks"][0] == "`" and "`" in found["info"]):
            fence = found["marks"]
            yield f"{found['lead']}```{_language(found['info'])}"
        elif "|" in line and at + 1 < len(lines) and _TABLE_LINE.fullmatch(lines[at + 1]):
            end = at + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield from _table(lines[at:end])
            at = end - 1
        else:
            yield _line(line)
        at += 1


def _language(info: str) -> str:
    word = info.split()[0] if info.split() else ""
    return word if re.fullmatch(r"[A-Za-z0-9_+\-.#]+", word) else ""


def _line(line: str) -> str:
    if _RULE.fullmatch(line):
        return "⎯" * 12
    if found := _DEEP.fullmatch(line):
        text = found["text"].replace("**", "")
        line = f"{found['lead']}**{text}**" if text else ""
    bare = line.lstrip()
    if bare.startswith(">>>"):
        line = line.replace(">>>", "\\>>>", 1)
    elif bare.startswith("-# "):
        line = line.replace("-# ", "- # ", 1)
    pieces, at = [], 0
    for code in _CODE.finditer(line):
        pieces += [_plain(line[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*pieces, _plain(line[at:])])


def _plain(text: str) -> str:
    """A piece of a line that is no code."""
    text = _PICTURE.sub(lambda found: f"[{found['alt'] or 'picture'}]({found['url']})", text)
    return text.replace("||", "\\|\\|")


def _table(lines: Sequence[str]) -> Iterator[str]:
    """A table as code, its columns below each other."""
    rows = [_cells(line) for number, line in enumerate(lines) if number != 1]
    width = [
        min(_WIDEST, max(len(row[column]) if column < len(row) else 0 for row in rows))
        for column in range(max(len(row) for row in rows))
    ]
    yield "```"
    for number, row in enumerate(rows):
        cells = [cell.ljust(width[column]) for column, cell in enumerate(row)]
        yield " | ".join(cells).rstrip().replace("```", "`\u200b``")
        if number == 0:
            yield "-+-".join("-" * one for one in width)
    yield "```"


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
