"""Conversations as documents: which messages, under which headings, with which pictures.

No I/O: `chat.documents` gathers what is written here, `documents` makes a file of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, Final

from wordmill.chat.exporting import word
from wordmill.chat.pictures import picture
from wordmill.chat.types import Conversation, Message
from wordmill.documents.parsing import clean, parse
from wordmill.documents.tree import (
    SHOWN,
    Block,
    Document,
    Footnote,
    Heading,
    Image,
    Inline,
    Link,
    List,
    Paragraph,
    Picture,
    Quote,
    Styled,
    Table,
    Text,
    plain,
)
from wordmill.errors import Conflict, InvalidInput, nearest

MOST_CHARACTERS: Final = 4_000_000
"""Of the messages of one document."""
MOST_PICTURES: Final = 64 * 1024 * 1024
"""Bytes; further ones are named."""
TITLE_CHARACTERS: Final = 300

Bytes = Callable[[str], bytes | None]
"""The bytes of an attachment by its id; None for one that cannot be had."""


@dataclass(frozen=True, slots=True)
class Choices:
    """How somebody's documents look.

    title_page: the title on a page of its own.  speakers: who said what, and the questions with
    the answers.  sources: the links and files at the end.  google_doc: Google Drive gets a
    document of its own kind, not a Word file.
    """

    title_page: bool = False
    speakers: bool = False
    sources: bool = False
    google_doc: bool = True

    def changed(self, values: Mapping[str, Any]) -> "Choices":
        """With other values. Raises InvalidInput for what is no choice."""
        known = [one.name for one in fields(self)]
        for name, value in values.items():
            if name not in known:
                raise InvalidInput(f"A document has no {name!r}{nearest(name, known)}", name)
            if not isinstance(value, bool):
                raise InvalidInput(f"{name}: true or false is wanted, not {value!r:.40}.", name)
        return replace(self, **values)


def chosen(
    branch: Sequence[Message], n: int | None, m: int | None, *, speakers: bool
) -> list[Message]:
    """The answers from the n-th to the m-th, counted from the end; the last one without both.

    speakers: with the questions that they answer.  Raises Conflict where there are not so many.
    """
    answers = [place for place, one in enumerate(branch) if _is_answer(one)]
    if not answers:
        raise Conflict("There is no answer here yet of which a document could be made.")
    low, high = sorted((n or 1, n or 1 if m is None else m))
    if high > len(answers):
        count = "is 1 answer" if len(answers) == 1 else f"are {len(answers)} answers"
        raise Conflict(f"There {count} in this conversation, so none is the {high}. from the end.")
    first, last = answers[-high], answers[-low]
    if not speakers:
        return [one for one in branch[first : last + 1] if _is_answer(one)]
    while first and branch[first].role != "user":
        first -= 1
    return said(branch[first : last + 1])


def said(branch: Sequence[Message]) -> list[Message]:
    """What people and models said, without what tools did. Raises Conflict for nothing."""
    found = [one for one in branch if one.role in ("user", "assistant") and (one.text or one.parts)]
    if not found:
        raise Conflict("Nothing has been said here yet.")
    return found


def compose(
    conversation: Conversation, messages: Sequence[Message], choices: Choices, *, author: str,
    speakers: Mapping[str, str], made: date, language: str, data: Bytes,
) -> Document:  # fmt: skip
    """The document of some messages of a conversation.

    author: the person's name.  speakers: names of others who said some of it, by their ids.
    language: as `de`.  data: asked for the pictures that are shown.
    Raises InvalidInput for what is too long, ExtraMissing.
    """
    if sum(len(one.text) for one in messages) > MOST_CHARACTERS:
        raise InvalidInput(
            f"These messages have more than {MOST_CHARACTERS:,} characters. Choose fewer of them."
        )
    names = _pictures(messages)
    blocks = _blocks(messages, names, choices, author, speakers, language)
    images = _images(blocks, data)
    if missing := set(names.values()) & set(_shown(blocks)) - images.keys():
        names = {name: one for name, one in names.items() if one not in missing}
        blocks = _blocks(messages, names, choices, author, speakers, language)
    title = title_of(conversation, language)
    match blocks:  # said once is enough
        case [Heading(_, inside), *rest] if plain(inside).strip() == title:
            blocks = rest
    if choices.sources:
        blocks += _sources(blocks, messages, language)
    return Document(
        title=title, blocks=blocks, author=line(author, TITLE_CHARACTERS), made=made,
        title_page=choices.title_page, language=language, pictures=images,
    )  # fmt: skip


def title_of(conversation: Conversation, language: str | None = None) -> str:
    """What its document is called."""
    found = conversation.document_title or conversation.title
    return line(found, TITLE_CHARACTERS) or word("Conversation", language)


def line(text: str, most: int) -> str:
    """A text on one line, without what turns or hides letters."""
    shown = "".join(one for one in clean(text) if one.isprintable() or one.isspace())
    return " ".join(shown.split())[:most]


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and bool(message.text.strip()) and message.ended


def _pictures(messages: Sequence[Message]) -> dict[str, str]:
    """Of the pictures that were attached: how a text may call each, and its id."""
    found: dict[str, str] = {}
    for one in messages:
        for part in one.parts:
            if part.get("type") == "attachment" and part.get("media_type") in SHOWN:
                found |= {str(part["id"]): str(part["id"]), str(part["name"]): str(part["id"])}
    return found


def _blocks(
    messages: Sequence[Message], names: Mapping[str, str], choices: Choices, author: str,
    speakers: Mapping[str, str], language: str,
) -> list[Block]:  # fmt: skip
    blocks: list[Block] = []
    for one in messages:
        if choices.speakers:
            said_by = speakers.get(one.author, author)
            speaker = said_by if one.role == "user" else one.model or word("Assistant", language)
            blocks.append(Heading(1, (Text(line(speaker, 200)),)))
        attached = [part for part in one.parts if part.get("type") == "attachment"]
        blocks += [_attached(part, names, language) for part in attached]
        found = parse(one.text, pictures=names, lower=int(choices.speakers))
        blocks += [_renamed(block, names) for block in found]
    return blocks


def _attached(part: Mapping[str, Any], names: Mapping[str, str], language: str) -> Block:
    name = line(str(part["name"]), 200)
    if (known := names.get(str(part["id"]))) is not None:
        return Paragraph((Picture(known, name),))
    return Paragraph((Styled("emphasis", (Text(f"{word('Attached', language)}: {name}"),)),))


def _renamed(block: Block, names: Mapping[str, str]) -> Block:
    """With pictures by their ids, however the text calls them."""

    def named(one: Inline) -> Inline:
        match one:
            case Picture(name, alt):
                return Picture(names.get(name, name), alt)
            case Styled(style, inside):
                return Styled(style, tuple(map(named, inside)))
            case Link(url, inside):
                return Link(url, tuple(map(named, inside)))
            case Footnote(note):
                return Footnote(inner(note))
        return one

    def inner(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(_renamed(one, names) for one in blocks)

    match block:
        case Paragraph(inside):
            return Paragraph(tuple(map(named, inside)))
        case Heading(level, inside):
            return Heading(level, tuple(map(named, inside)))
        case Quote(inside):
            return Quote(inner(inside))
        case List(items, start):
            return List(tuple(map(inner, items)), start)
        case Table(aligns, head, rows):
            cells = [tuple(tuple(map(named, cell)) for cell in row) for row in (head, *rows)]
            return Table(aligns, cells[0], tuple(cells[1:]))
    return block


def _walk(blocks: Sequence[Block]) -> Iterator[Inline]:
    """All words of blocks, those within others too."""
    for block in blocks:
        match block:
            case Paragraph(inside) | Heading(_, inside):
                yield from _words(inside)
            case Quote(inside):
                yield from _walk(inside)
            case List(items):
                for item in items:
                    yield from _walk(item)
            case Table(_, head, rows):
                for cells in (head, *rows):
                    for cell in cells:
                        yield from _words(cell)


def _words(inside: Sequence[Inline]) -> Iterator[Inline]:
    for one in inside:
        yield one
        match one:
            case Styled(_, more) | Link(_, more):
                yield from _words(more)
            case Footnote(note):
                yield from _walk(note)


def _shown(blocks: Sequence[Block]) -> Iterator[str]:
    return (one.name for one in _walk(blocks) if isinstance(one, Picture))


def _images(blocks: Sequence[Block], data: Bytes) -> dict[str, Image]:
    found: dict[str, Image] = {}
    room = MOST_PICTURES
    for name in dict.fromkeys(_shown(blocks)):
        held = data(name)
        room -= len(held or b"")
        if held is None or room < 0:
            continue
        try:
            seen = picture(held)
        except ValueError:
            continue
        if seen is not None and seen.media_type in SHOWN:
            found[name] = Image(held, seen.media_type, seen.width, seen.height)
    return found


def _sources(blocks: Sequence[Block], messages: Sequence[Message], language: str) -> list[Block]:
    """A heading, and what was linked to and attached, each once."""
    items: dict[str, tuple[Inline, ...]] = {}
    for one in _walk(blocks):
        if isinstance(one, Link) and one.url not in items:
            words = plain(one.inside).strip()
            leads = Link(one.url, (Text(one.url),))
            items[one.url] = (leads,) if words == one.url else (Text(f"{words}: "), leads)
    for message in messages:
        for part in message.parts:
            if part.get("type") == "attachment":
                name = line(str(part["name"]), 200)
                items.setdefault(f"file {part['id']}", (Text(f"{name} ({part['media_type']})"),))
    if not items:
        return []
    listed = List(tuple((Paragraph(words),) for words in items.values()), 1)
    return [Heading(1, (Text(word("Sources", language)),)), listed]
