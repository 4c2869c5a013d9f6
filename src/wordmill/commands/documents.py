"""Commands on the document that a conversation becomes: its title, its form, where it goes."""

from collections.abc import Mapping
from typing import Annotated, Final

from wordmill.chat.exporting import Form
from wordmill.commands.base import Argument, File, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.words import code, file_name
from wordmill.errors import ConfigError, InvalidInput

GROUP = Group("Documents")

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
    """Declared; documents are made by a part that is not there yet."""
    raise ConfigError(
        "This installation cannot make Word documents yet. "
        f"{context.typed('export markdown')} gives the conversation as Markdown."
    )


@GROUP.command("Set the Google Drive folder that documents go to.", spoken=("drive", "google"))
def set_gdrive_folder(
    context: Context, link: Annotated[str, Argument("The folder's share link, or its id.")]
) -> Outcome:
    """Declared; nothing here speaks to Google Drive yet."""
    raise ConfigError(
        "This installation is not connected to Google Drive, so a folder would do nothing. "
        f"{context.typed('export markdown')} gives the conversation as a file."
    )


def _forms(context: Context) -> list[Suggestion]:
    return [Suggestion(form, f"a .{ending} file") for form, (ending, _) in _FORMS.items()]


@GROUP.command(
    "Give the conversation as a file.",
    permission="read",
    spoken=("export", "download", "save", "speicher", "herunter"),
)
def export(
    context: Context,
    form: Annotated[
        str,
        Argument("`markdown` (the branch that is shown) or `json` (all branches).", suggest=_forms),
    ] = "markdown",
) -> Outcome:
    """JSON can be imported again."""
    wanted = next((known for known in _FORMS if known == form.lower()), None)
    if wanted is None:
        raise InvalidInput(f"form must be markdown or json, not {form[:80]!r}.", "form")
    conversation = context.conversation()
    ending, media_type = _FORMS[wanted]
    data = context.house.conversations.exported(context.person, conversation.id, wanted)
    name = f"{file_name(conversation.document_title or conversation.title)}.{ending}"
    return Outcome(
        "The conversation, whole." if wanted == "json" else "The conversation as Markdown.",
        {"name": name, "media_type": media_type, "size": len(data)},
        file=File(name, media_type, data),
    )


def _set_it(context: Context) -> str:
    return f"{context.typed('set-document-title TEXT')} sets one."
