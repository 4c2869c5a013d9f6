"""Conversations over HTTP: what is listed, found, changed and said."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.accounts import catalog_of
from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.shared import (
    Json,
    Limit,
    Sent,
    conversation_shown,
    message_shown,
    shown,
)
from wordmill.chat.types import AT_HEAD
from wordmill.models import REHEARSAL

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


class NewValue(Sent):
    """A value; null takes it back."""

    value: float | int | str | list[str] | None


class ToolServers(Sent):
    """Names of tool servers."""

    servers: list[str]


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
    return {"items": [conversation_shown(one) for one in page.items], "cursor": page.cursor}


@router.post("/conversations", status_code=201, tags=["Conversations"])
def begin(new: NewConversation, caller: Talks, request: Request) -> Json:
    """Begin a conversation."""
    made = house_of(request).conversations.create(caller.person, **new.model_dump())
    return conversation_shown(made)


@router.get("/conversations/{conversation}", tags=["Conversations"])
def conversation(conversation: str, caller: Reads, request: Request) -> Json:
    """One conversation."""
    return conversation_shown(house_of(request).conversations.get(caller.person, conversation))


@router.patch("/conversations/{conversation}", tags=["Conversations"])
def change(conversation: str, fields: ConversationChange, caller: Talks, request: Request) -> Json:
    """Change its title, place, tags, model, system prompt or the branch that is shown."""
    values = fields.model_dump(exclude_unset=True)
    found = house_of(request).conversations.change(caller.person, conversation, **values)
    return conversation_shown(found)


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
    return {"items": [message_shown(one) for one in found]}


@router.post("/conversations/{conversation}/messages", status_code=202, tags=["Conversations"])
def say(conversation: str, new: NewMessage, caller: Talks, request: Request) -> Json:
    """Say something; the answer is made by the server, and watched under `events`.

    With the header `Idempotency-Key`, saying it again with the same key says it once.
    """
    turn = house_of(request).chat.send(
        caller.person, conversation, new.text, model=new.model, attachments=new.attachments,
        schema=new.json_schema, compare=new.compare, door=caller.door,
        parent=new.parent or AT_HEAD, once=request.headers.get("idempotency-key"),
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


@router.get("/conversations/{conversation}/tree", tags=["Conversations"])
def tree(conversation: str, caller: Reads, request: Request) -> Json:
    """All messages of all branches, the oldest first."""
    found = house_of(request).conversations.tree(caller.person, conversation)
    return {"items": [message_shown(one) for one in found]}


@router.post("/conversations/{conversation}/undo", tags=["Conversations"])
def undo(conversation: str, caller: Talks, request: Request) -> Json:
    """Show the branch as it was before the last message of a person; nothing is deleted."""
    return conversation_shown(house_of(request).conversations.undo(caller.person, conversation))


@router.get("/conversations/{conversation}/usage", tags=["Conversations"])
def usage(conversation: str, caller: Reads, request: Request) -> Json:
    """What a conversation has used, all its branches together."""
    return shown(house_of(request).conversations.usage(caller.person, conversation))


@router.get("/conversations/{conversation}/feedback", tags=["Conversations"])
def judgements(conversation: str, caller: Reads, request: Request) -> Json:
    """What one thinks of its answers, and which one preferred."""
    found = house_of(request).conversations
    return {
        "feedback": [shown(one) for one in found.ratings(caller.person, conversation).values()],
        "preferences": [shown(one) for one in found.preferences(caller.person, conversation)],
    }


@router.get("/conversations/{conversation}/settings", tags=["Conversations"])
def settings(conversation: str, caller: Reads, request: Request, model: str | None = None) -> Json:
    """How its answers are made, each value with where it comes from."""
    house = house_of(request)
    found = house.conversations.get(caller.person, conversation)
    name = model or found.model or house.settings.default_model or REHEARSAL.name
    catalog_of(house.database, house.settings, caller.person.id).get(name)
    view = house.chat.parameters.view(caller.person, name, found)
    return {"model": name, "parameters": [asdict(one) for one in view]}


@router.put("/conversations/{conversation}/settings/{name}", tags=["Conversations"])
def set_here(conversation: str, name: str, new: NewValue, caller: Talks, request: Request) -> Json:
    """Set one value for this conversation alone, or take it back."""
    chat = house_of(request).chat
    before, now = chat.set_here(caller.person, conversation, name, new.value)
    return {"before": before, "value": now}


@router.put("/conversations/{conversation}/tools", tags=["Conversations"])
def use_tools(conversation: str, new: ToolServers, caller: Talks, request: Request) -> Json:
    """Choose the tool servers that its answers may call."""
    found = house_of(request).chat.use_tools(caller.person, conversation, new.servers)
    return conversation_shown(found)


@router.get("/search", tags=["Conversations"])
def search(
    caller: Reads, request: Request, query: str, limit: Limit = 20, cursor: str | None = None
) -> Json:
    """What was said: words, "phrases", -not, tag: folder: pinned: model: before: after:."""
    page = house_of(request).conversations.search(caller.person, query, limit=limit, cursor=cursor)
    return {"items": [shown(hit) for hit in page.items], "cursor": page.cursor}
