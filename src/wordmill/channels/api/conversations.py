"""Conversations over HTTP: what is listed, changed, said, shared, brought and taken away."""

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request, UploadFile
from fastapi.responses import Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.bodies import read
from wordmill.channels.api.shared import Json, Limit, Sent, plain, shown
from wordmill.chat.types import AT_HEAD, Conversation, Message
from wordmill.errors import InvalidInput

router = APIRouter(prefix="/api")


class NewConversation(Sent):
    """A conversation to be begun."""

    title: str = ""
    model: str | None = None
    system: str = ""
    folder: str | None = None
    tags: list[str] = Field(default_factory=list)
    temporary: bool = False


class ConversationChange(Sent):
    """What is to be different; what is left out stays."""

    title: str | None = None
    model: str | None = None
    system: str | None = None
    folder: str | None = None
    tags: list[str] | None = None
    pinned: bool | None = None
    archived: bool | None = None
    document_title: str | None = None
    head: str | None = None


class NewMessage(Sent):
    """Something to say. compare: models that answer side by side."""

    text: str = Field(examples=["What is a water mill?"])
    model: str | None = None
    attachments: list[str] = Field(default_factory=list)
    json_schema: Json | None = Field(default=None, alias="schema")
    compare: list[str] = Field(default_factory=list)
    parent: str | None = None


@router.get("/conversations", tags=["Conversations"])
def conversations(
    caller: Reads,
    request: Request,
    folder: str | None = None,
    tag: str | None = None,
    archived: bool | None = False,
    pinned: bool | None = None,
    query: str = "",
    limit: Limit = 50,
    cursor: str | None = None,
) -> Json:
    """One's conversations, the last used first."""
    page = house_of(request).conversations.all(
        caller.person, folder=folder, tag=tag, archived=archived, pinned=pinned, query=query,
        limit=limit, cursor=cursor,
    )  # fmt: skip
    return {"items": [_conversation(one) for one in page.items], "cursor": page.cursor}


@router.post("/conversations", status_code=201, tags=["Conversations"])
def begin(new: NewConversation, caller: Talks, request: Request) -> Json:
    """Begin a conversation."""
    made = house_of(request).conversations.create(caller.person, **new.model_dump())
    return _conversation(made)


@router.get("/conversations/{conversation}", tags=["Conversations"])
def conversation(conversation: str, caller: Reads, request: Request) -> Json:
    """One conversation."""
    return _conversation(house_of(request).conversations.get(caller.person, conversation))


@router.patch("/conversations/{conversation}", tags=["Conversations"])
def change(conversation: str, fields: ConversationChange, caller: Talks, request: Request) -> Json:
    """Change its title, place, tags, model, system prompt or the branch that is shown."""
    values = fields.model_dump(exclude_unset=True)
    found = house_of(request).conversations.change(caller.person, conversation, **values)
    return _conversation(found)


@router.delete("/conversations/{conversation}", status_code=204, tags=["Conversations"])
def remove(conversation: str, caller: Talks, request: Request) -> None:
    """Delete a conversation with all that is in it."""
    house_of(request).conversations.remove(caller.person, conversation)


@router.get("/conversations/{conversation}/messages", tags=["Conversations"])
def messages(
    conversation: str,
    caller: Reads,
    request: Request,
    head: str | None = None,
    before: str | None = None,
    limit: Limit = 50,
) -> Json:
    """The last messages of the branch that is shown; `before` for those above."""
    found = house_of(request).conversations.branch(
        caller.person, conversation, head=head, before=before, limit=limit
    )
    return {"items": [_message(one) for one in found]}


@router.post("/conversations/{conversation}/messages", status_code=202, tags=["Conversations"])
def say(conversation: str, new: NewMessage, caller: Talks, request: Request) -> Json:
    """Say something; the answer is made by the server, and watched under `events`."""
    turn = house_of(request).chat.send(
        caller.person, conversation, new.text, model=new.model, attachments=new.attachments,
        schema=new.json_schema, compare=new.compare, door=caller.door,
        parent=new.parent or AT_HEAD,
    )  # fmt: skip
    return asdict(turn)


@router.post("/conversations/{conversation}/stop", tags=["Conversations"])
def stop(conversation: str, caller: Talks, request: Request) -> Json:
    """Stop what is being answered; what has come stays."""
    return {"stopped": house_of(request).chat.stop(caller.person, conversation)}


@router.get("/conversations/{conversation}/calls", tags=["Conversations"])
def calls(conversation: str, caller: Reads, request: Request) -> Json:
    """The calls of tools that wait for a yes."""
    found = house_of(request).chat.asks(caller.person, conversation)
    return {"items": [asdict(one) for one in found]}


@router.post("/conversations/{conversation}/share", status_code=201, tags=["Conversations"])
def share(conversation: str, caller: Talks, request: Request) -> Json:
    """A read-only link to the branch as it is now; its token is shown this once."""
    made, token = house_of(request).conversations.share(caller.person, conversation)
    return {**shown(made), "path": f"/shared/{token}"}


@router.get("/conversations/{conversation}/shares", tags=["Conversations"])
def shares(conversation: str, caller: Reads, request: Request) -> list[Json]:
    """The links to it."""
    found = house_of(request).conversations.shares(caller.person, conversation)
    return [shown(one) for one in found]


@router.delete("/shares/{share}", status_code=204, tags=["Conversations"])
def revoke(share: str, caller: Talks, request: Request) -> None:
    """Take a link back."""
    house_of(request).conversations.revoke(caller.person, share)


@router.get("/conversations/{conversation}/export", tags=["Conversations"])
def export(
    conversation: str,
    caller: Reads,
    request: Request,
    form: Literal["json", "markdown"] = "json",
) -> Response:
    """The conversation as a file."""
    data = house_of(request).conversations.exported(caller.person, conversation, form)
    kind = "application/json" if form == "json" else "text/markdown; charset=utf-8"
    return Response(data, media_type=kind)


@router.get("/search", tags=["Conversations"])
def search(
    caller: Reads, request: Request, query: str, limit: Limit = 20, cursor: str | None = None
) -> Json:
    """What was said: words, "phrases", -not, tag: folder: pinned: model: before: after:."""
    page = house_of(request).conversations.search(caller.person, query, limit=limit, cursor=cursor)
    return {"items": [shown(hit) for hit in page.items], "cursor": page.cursor}


@router.post("/attachments", status_code=201, tags=["Conversations"])
async def attach(
    file: UploadFile, caller: Talks, request: Request, conversation: str | None = None
) -> Json:
    """Bring a file: text, or a picture."""
    house = house_of(request)
    most = house.settings.attachment_bytes
    data = await file.read(most + 1)
    if len(data) > most:
        raise InvalidInput(f"The file is longer than {most:,} bytes.", "file")
    made = await run_in_threadpool(
        house.conversations.attachments.add, caller.person, file.filename or "file", data,
        file.content_type or "", conversation=conversation,
    )  # fmt: skip
    return plain({**asdict(made), "text": None})


@router.get("/attachments/{attachment}", tags=["Conversations"])
def attachment(attachment: str, caller: Reads, request: Request) -> Response:
    """The bytes of a file."""
    files = house_of(request).conversations.attachments
    found = files.get(caller.person, attachment)
    return Response(
        files.data(caller.person, attachment),
        media_type=found.media_type if found.image else "text/plain; charset=utf-8",
        headers={"content-disposition": "attachment", "content-security-policy": "sandbox"},
    )


class NewFolder(Sent):
    """A folder to be made."""

    name: str
    parent: str | None = None


@router.get("/folders", tags=["Folders"])
def folders(caller: Reads, request: Request) -> list[Json]:
    """One's folders."""
    found = house_of(request).conversations.folders.all(caller.person)
    return [shown(one) for one in found]


@router.post("/folders", status_code=201, tags=["Folders"])
def make_folder(new: NewFolder, caller: Talks, request: Request) -> Json:
    """Make a folder."""
    made = house_of(request).conversations.folders.create(caller.person, new.name, new.parent)
    return shown(made)


@router.delete("/folders/{folder}", status_code=204, tags=["Folders"])
def remove_folder(folder: str, caller: Talks, request: Request) -> None:
    """Remove a folder; its conversations stay."""
    house_of(request).conversations.folders.remove(caller.person, folder)


@router.post("/import", tags=["Conversations"])
async def import_(caller: Talks, request: Request) -> Json:
    """Conversations out of a ChatGPT, Claude or Wordmill export (JSON or zip); twice is once."""
    house = house_of(request)
    data = await read(request, house.settings.import_bytes)

    def taken() -> Json:
        from io import BytesIO

        from wordmill.chat.importing import Importer

        return asdict(Importer(house.conversations).take(caller.person, BytesIO(data)))

    return await run_in_threadpool(taken)


def _conversation(conversation: Conversation) -> Json:
    return {**shown(conversation), "temporary": conversation.temporary}


def _message(message: Message) -> Json:
    made = shown(message)
    del made["sent"]  # under /sent, as it was sent
    return made
