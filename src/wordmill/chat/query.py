"""The language of searches, parsed; no database.

    words            each must be there, in any order, upper or lower case
    "exact words"    in that order
    begin*           words that begin so
    -word -"words"   must not be there
    tag:x folder:x pinned:yes archived:no model:x before:2026-05-01 after:2026-04
                     filters; a `-` before one turns it round; a value with spaces in quotes

A date is a year, a month, a day or an ISO time, in UTC where it names no zone. `after:` is from
its beginning on, `before:` up to its beginning. A name before a colon that is no filter is just
text, as in `http://host`. Nothing here is a database's syntax, so nothing typed can break one.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from wordmill.chat.inputs import checked
from wordmill.errors import InvalidInput

LONGEST = 1000
MOST_TERMS = 40

Key: TypeAlias = Literal["tag", "folder", "pinned", "archived", "model", "before", "after"]
FLAGS = {"yes": True, "true": True, "on": True, "1": True}
FLAGS |= {"no": False, "false": False, "off": False, "0": False}

_TOKEN = re.compile(
    r"""(?P<minus>-)?
    (?:(?P<key>tag|folder|pinned|archived|model|before|after):(?=\S))?
    (?:"(?P<quoted>[^"]*)(?:"|$)(?P<star>\*)?|(?P<plain>\S+))""",
    re.VERBOSE | re.IGNORECASE,
)

_ACCENTS = re.compile("[\u0300-\u036f]")


class Term(NamedTuple):
    """Words that are looked for.

    prefix: the last one only begins so.
    within: looked for inside longer words too, because its writing puts no spaces between words.
    """

    text: str
    excluded: bool = False
    prefix: bool = False
    within: bool = False


class Filter(NamedTuple):
    """A condition on conversations. `value`: a text, a truth or a time, by its key."""

    key: Key
    value: str | bool | datetime
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for."""

    terms: tuple[Term, ...] = ()
    filters: tuple[Filter, ...] = ()

    @property
    def wanted(self) -> tuple[Term, ...]:
        """The terms that must be there."""
        return tuple(term for term in self.terms if not term.excluded)

    @property
    def unwanted(self) -> tuple[Term, ...]:
        """The terms that must not be there."""
        return tuple(term for term in self.terms if term.excluded)

    @property
    def wordless(self) -> bool:
        """Whether something was typed that holds neither a word nor a filter, as `?!`."""
        return not self.terms and not self.filters


def parse(text: str) -> Query:
    """The query that somebody typed. Raises InvalidInput for a filter's value that is none."""
    terms: list[Term] = []
    filters: list[Filter] = []
    for token in _TOKEN.finditer(checked(text, "query", LONGEST)):
        excluded = bool(token["minus"])
        value = token["plain"] if token["quoted"] is None else token["quoted"]
        if token["key"]:
            filters.append(_filter(token["key"].lower(), value.strip(), excluded))
        elif any(_searchable(c) for c in value):
            prefix = bool(token["star"]) or (token["plain"] is not None and value.endswith("*"))
            terms.append(Term(value.rstrip("*"), excluded, prefix, any(map(_unspaced, value))))
        if len(terms) + len(filters) > MOST_TERMS:
            raise InvalidInput(f"query: more than {MOST_TERMS} words and filters.", "query")
    return Query(tuple(terms), tuple(filters))


def unaccented(text: str) -> str:
    """The text without the accents of its letters."""
    return _ACCENTS.sub("", unicodedata.normalize("NFD", text))


def folded(text: str) -> str:
    """The text in lower case without accents, for comparing words."""
    return text.lower() if text.isascii() else unaccented(text.casefold())


def _searchable(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


def _unspaced(character: str) -> bool:
    """Whether it belongs to a writing that puts no spaces between words."""
    code = ord(character)
    return (
        0x0E00 <= code <= 0x0EFF  # Thai, Lao
        or 0x1000 <= code <= 0x109F  # Burmese
        or 0x1780 <= code <= 0x17FF  # Khmer
        or 0x3040 <= code <= 0x30FF  # Hiragana, Katakana
        or 0x3400 <= code <= 0x4DBF  # Han
        or 0x4E00 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
    )


def _filter(key: str, value: str, excluded: bool) -> Filter:
    match key:
        case "pinned" | "archived":
            flag = FLAGS.get(value.lower())
            if flag is None:
                raise InvalidInput(f"{key}: yes or no is wanted, not {value!r}.", "query")
            return Filter(key, flag, excluded)
        case "before" | "after":
            return Filter(key, _time(key, value), excluded)
        case "tag" | "folder" | "model":
            if not value:
                raise InvalidInput(f"{key}: a name is wanted after the colon.", "query")
            return Filter(key, value, excluded)
    raise InvalidInput(f"There is no filter {key!r}.", "query")


def _time(key: str, value: str) -> datetime:
    try:
        if match := re.fullmatch(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", value, re.ASCII):
            year, month, day = match.groups()
            return datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{key}: {value!r} is no date. Write one as 2026, 2026-05 or 2026-05-01.", "query"
        ) from error
