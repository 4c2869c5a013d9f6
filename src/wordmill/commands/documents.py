"""Commands on the document that a conversation becomes: its title, its form, where it goes."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Final

from wordmill.chat.documenting import Choices
from wordmill.chat.documents import FORMS, Made, Wish
from wordmill.chat.exporting import Form
from wordmill.chat.types import Conversation
from wordmill.commands.base import Argument, File, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.words import code, file_name
from wordmill.documents.making import KINDS
from wordmill.documents.making import Form as Office
from wordmill.errors import ConfigError, Conflict, ExportError, InvalidInput, nearest

GROUP = Group("Documents")

OFFICE: Final[Mapping[str, Office]] = {form: form for form in KINDS}
_LOOK: Final[Mapping[str, str]] = {
    "title-page": "the title on a page of its own",
    "speakers": "who said what, with the questions",
    "sources": "the links and files at the end",
    "google-doc": "Google Drive gets a document of its own kind",
}
_FORMS: Final[Mapping[Form, tuple[str, str]]] = {
    "markdown": ("md", "text/markdown"),
    "json": ("json", "application/json"),
}


@GROUP.command(
    "Show the title of the document that this conversation becomes.",
    spoken=("document", "dokument", "docx"),
)
def document_title(context: Context) -> Outcome:
    """What `make-docx` will call it."""
    conversation = context.conversation()
    title = conversation.document_title or conversation.title
    data = {"document_title": title, "own": conversation.document_title is not None}
    if not title:
        return Outcome(f"The document has no title yet. {_set_it(context)}", data)
    whose = "" if conversation.document_title else ", as the conversation"
    return Outcome(f"The document is called {code(title)}{whose}.", data)


@GROUP.command("Set the title of the document.", spoken=("document", "dokument", "docx"))
def set_document_title(
    context: Context, text: Annotated[str, Argument("The title; also the file's name.", rest=True)]
) -> Outcome:
    """Kept with the conversation."""
    begun = context.begun()
    changed = context.house.conversations.change(context.person, begun.id, document_title=text)
    title = changed.document_title or ""
    return Outcome(
        f"The document is called {code(title)} now.", {"document_title": title}, begun.id
    )


@GROUP.command(
    "Make a Word document of the last answer, the N-th from the end, or those from N to M.",
    spoken=("docx", "word", "document", "dokument"),
)
def make_docx(
    context: Context,
    n: Annotated[
        int | None, Argument("An answer, counted from the end; 1 is the last.", low=1)
    ] = None,
    m: Annotated[int | None, Argument("The end of a range from N.", low=1)] = None,
) -> Outcome:
    """A file; in the person's Google Drive too, where they have chosen that."""
    conversation = context.conversation()
    made = context.house.documents.make(context.person, conversation.id, Wish("docx", n, m))
    return _given(context, conversation, made)


def of_message(context: Context, message: str, *, drive: bool = False) -> Outcome:
    """The same of one message, for a door at which one is pointed at. Raises as `make_docx`.

    drive: into Google Drive and nowhere else; raises as `Documents.deliver` too.
    """
    conversation, documents = context.conversation(), context.house.documents
    made = documents.make(context.person, conversation.id, Wish("docx", message=message))
    if not drive:
        return _given(context, conversation, made)
    sent = documents.deliver(context.person, conversation.id, made)
    return Outcome(f"In Google Drive: {sent.link}", {"link": sent.link, "file": sent.id})


def _delivered(
    context: Context, conversation: Conversation, made: Made
) -> tuple[str, dict[str, str]]:
    """Put a document into the person's Google Drive: what came of it, in words and as data.

    A Drive that does not take it is no failure of the document, which is there.
    """
    try:
        sent = context.house.documents.deliver(context.person, conversation.id, made)
    except (ConfigError, Conflict, ExportError, InvalidInput) as error:
        return f"It is not in Google Drive: {error}", {"problem": str(error)}
    return f"In Google Drive: {sent.link}", {"link": sent.link, "file": sent.id}


def _given(context: Context, conversation: Conversation, made: Made) -> Outcome:
    name = f"{file_name(made.title)}.{made.ending}"
    words = [f"The document {code(made.title)}."]
    data: dict[str, object] = {
        "name": name, "media_type": made.media_type, "size": len(made.data), "title": made.title,
    }  # fmt: skip
    if context.house.documents.goes_to_drive(context.person, conversation):
        said, drive = _delivered(context, conversation, made)
        words.append(said)
        data["drive"] = drive
    return Outcome("\n\n".join(words), data, file=File(name, made.media_type, made.data))


def _looks(context: Context) -> list[Suggestion]:
    kept = _named(context.house.documents.kept(context.person).choices)
    return [Suggestion(f"no-{name}" if on else name) for name, on in kept.items()]


def _named(choices: Choices) -> dict[str, bool]:
    """Each choice by the name that one types."""
    return {name.replace("_", "-"): on for name, on in asdict(choices).items()}


@GROUP.command(
    "Show how your documents look, or change it.",
    spoken=("document", "dokument", "docx", "speaker", "sprecher", "source", "quelle"),
)
def document_look(
    context: Context,
    choices: Annotated[
        str | None,
        Argument(
            "Of `title-page`, `speakers`, `sources`, `google-doc`; `no-speakers` takes one back.",
            rest=True,
            suggest=_looks,
        ),
    ] = None,
) -> Outcome:
    """For all documents of the person, as on the page Settings."""
    documents = context.house.documents
    now = _named(documents.kept(context.person).choices)
    wanted = {}
    for word in (choices or "").replace(",", " ").lower().split():
        name = word.removeprefix("no-")
        if name not in now:
            raise InvalidInput(
                f"A document has no {name[:80]!r}{nearest(name, now)} Choose of "
                f"{', '.join(now)}; no- before one takes it back.",
                "choices",
            )
        wanted[name] = name == word
    if wanted:
        values = {name.replace("-", "_"): on for name, on in wanted.items()}
        now = _named(documents.choose(context.person, **values))
    lines = [f"- {code(name)}: {'yes' if on else 'no'} ({_LOOK[name]})" for name, on in now.items()]
    return Outcome("\n".join(lines), {"choices": now})


def _here(context: Context) -> list[Suggestion]:
    return [Suggestion("here", "only for this conversation")]


@GROUP.command(
    "Set the Google Drive folder that your documents go to; `none` takes it back.",
    spoken=("drive", "google"),
)
def set_gdrive_folder(
    context: Context,
    link: Annotated[str, Argument("The folder's share link, or its id.")],
    here: Annotated[
        str | None, Argument("`here`: only for this conversation.", suggest=_here)
    ] = None,
) -> Outcome:
    """The folder is looked up now, so that a wrong link is found at once."""
    if here is not None and here.lower() != "here":
        raise InvalidInput(f"here must be `here` or nothing, not {here[:80]!r}.", "here")
    begun = context.begun().id if here else None
    wanted = None if link.lower() in ("none", "-") else link
    place = context.house.documents.set_folder(context.person, wanted, begun)
    of = "The documents of this conversation" if begun else "Your documents"
    data = {"folder": place and place.id, "name": place and place.name}
    if place is None:
        return Outcome(f"{of} go to no folder of their own any more.", data, begun)
    return Outcome(
        f"{of} go to the folder {code(place.name)} of Google Drive from now on.",
        data,
        begun,
    )


def _forms(context: Context) -> list[Suggestion]:
    there = context.house.documents.maker.forms
    known = [form for form in FORMS if form in there or form == "markdown"]
    return [Suggestion("json", "all branches, to be imported again"), *map(Suggestion, known)]


@GROUP.command(
    "Give the conversation as a file.",
    permission="read",
    spoken=("export", "download", "save", "speicher", "herunter"),
)
def export(
    context: Context,
    form: Annotated[
        str,
        Argument("`markdown`, `docx`, `odt`, `pdf`, or `json` (all branches).", suggest=_forms),
    ] = "markdown",
) -> Outcome:
    """JSON can be imported again; the others have the branch that is shown."""
    conversation, wanted = context.conversation(), form.lower()
    if wanted in OFFICE:
        made = context.house.documents.make(
            context.person, conversation.id, Wish(OFFICE[wanted], whole=True)
        )
        name = f"{file_name(made.title)}.{made.ending}"
        data: dict[str, object] = {
            "name": name, "media_type": made.media_type, "size": len(made.data),
        }  # fmt: skip
        words = f"The conversation as {KINDS[OFFICE[wanted]].label}."
        return Outcome(words, data, file=File(name, made.media_type, made.data))
    plain = next((known for known in _FORMS if known == wanted), None)
    if plain is None:
        raise InvalidInput(
            f"form must be markdown, docx, odt, pdf or json, not {form[:80]!r}.", "form"
        )
    ending, media_type = _FORMS[plain]
    whole = context.house.conversations.exported(
        context.person, conversation.id, plain, language=context.person.language
    )
    name = f"{file_name(conversation.document_title or conversation.title)}.{ending}"
    return Outcome(
        "The conversation, whole." if plain == "json" else "The conversation as Markdown.",
        {"name": name, "media_type": media_type, "size": len(whole)},
        file=File(name, media_type, whole),
    )


def _set_it(context: Context) -> str:
    return f"{context.typed('set-document-title TEXT')} sets one."
