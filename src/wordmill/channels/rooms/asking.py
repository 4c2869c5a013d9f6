"""What a message in a room says to a model: with what it replies to, its files and who speaks.

The files are looked at before they are fetched (size and kind, as the service says them) and while
they come; one that cannot be read is named to the person, and the model is told that there was one.
"""

import asyncio
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Attached, Incoming, Surface
from wordmill.errors import ChannelError, InvalidInput, WordmillError

QUOTED: Final = 4000
"""Characters of a message that is replied to which go with the reply."""
MOST_FILES: Final = 10
_NEVER: Final = (
    "audio/", "video/", "font/", "application/pdf", "application/zip", "application/gzip",
    "application/x-tar", "application/x-7z", "application/x-rar", "application/vnd.rar",
    "application/msword", "application/vnd.ms-", "application/vnd.openxmlformats",
    "application/vnd.oasis", "application/x-msdownload", "application/java-archive",
)  # fmt: skip
"""How kinds begin that are neither text nor image."""
_IMAGES: Final = ("png", "jpeg", "jpg", "gif", "webp", "svg+xml")
_TEXTS: Final = (".ts", ".mts", ".cts")
"""Endings of programs that are taken for films."""


@dataclass(frozen=True, slots=True)
class Question:
    """A message for a model. files: ids.  refused: sentences for the person on files left out."""

    text: str
    files: tuple[str, ...]
    refused: tuple[str, ...]


async def question(
    house: House,
    surface: Surface,
    person: Person,
    conversation: str,
    incoming: Incoming,
    text: str,
    *,
    speaks: bool,
    quotes: bool,
) -> Question:
    """What to say to the model. speaks: with the name of who says it.  quotes: with what it
    replies to, unless the conversation has that already.
    """
    replied = incoming.replied
    wanted = list(incoming.attachments)
    head = ""
    if replied is not None:
        wanted += replied.attachments
        if quotes and replied.text.strip():
            cut = replied.text[:QUOTED] + ("…" if len(replied.text) > QUOTED else "")
            lines = "\n".join(f"> {line}".rstrip() for line in cut.splitlines())
            head = f"> {_line(replied.name)} wrote:\n{lines}\n\n"
    files, refused, notes = await _files(house, surface, person, conversation, wanted)
    body = f"{_line(incoming.name)}: {text}" if speaks else text
    return Question("\n\n".join([f"{head}{body}".strip(), *notes]).strip(), files, refused)


def quotation(text: str) -> str:
    """What `question` put before a text of what that replied to; "" where it was nothing."""
    found = re.match(r"> [^\n]{1,100} wrote:\n(?:>[^\n]*\n)+\n", text)
    return found[0] if found else ""


async def _files(
    house: House,
    surface: Surface,
    person: Person,
    conversation: str,
    wanted: Sequence[Attached],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Ids of files, sentences for the person on those left out, the same for the model."""
    ids: list[str] = []
    refused: list[str] = []
    notes: list[str] = []
    most = min(house.settings.attachment_bytes, surface.limits.file_bytes)
    for number, one in enumerate(wanted):
        try:
            if number >= MOST_FILES:
                raise InvalidInput(f"{one.name!r} is one too many: {MOST_FILES} files go at once.")
            if one.size > most:
                raise InvalidInput(
                    f"{one.name!r} is too large: {one.size / 2**20:,.1f} MiB, and "
                    f"{most / 2**20:,.1f} MiB is the most."
                )
            if not _may_be_read(one):
                raise InvalidInput(
                    f"{one.name!r} ({_kind(one)}) is neither text nor an image (PNG, JPEG, GIF, "
                    "WebP)."
                )
            data = await surface.fetch(one, most)
            added = await asyncio.to_thread(
                house.conversations.attachments.add, person, one.name, data, one.media_type,
                conversation,
            )  # fmt: skip
            ids.append(added.id)
        except ChannelError as error:
            refused.append(f"{one.name!r} could not be fetched: {error}")
            notes.append(f"[A file {one.name!r} was attached and could not be fetched.]")
        except WordmillError as error:
            refused.append(str(error))
            notes.append(f"[A file {one.name!r} was attached and cannot be read here.]")
    return tuple(ids), tuple(refused), tuple(notes)


def _may_be_read(file: Attached) -> bool:
    """Whether neither what its sender calls it nor its name says that it cannot be read."""
    if file.name.lower().endswith(_TEXTS):
        return True
    named = mimetypes.guess_type(file.name)[0] or _kind(file)
    return not (_is_never(_kind(file)) and _is_never(named))


def _is_never(kind: str) -> bool:
    head, _, rest = kind.partition("/")
    return kind.startswith(_NEVER) or (head == "image" and rest not in _IMAGES)


def _kind(file: Attached) -> str:
    """As its sender says, or its name."""
    told = file.media_type.partition(";")[0].strip().lower()
    if told in ("", "application/octet-stream"):
        return mimetypes.guess_type(file.name)[0] or told
    return told[:100]


def _line(name: str) -> str:
    return " ".join(name.split())[:100] or "Somebody"
