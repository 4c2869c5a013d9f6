"""What is brought and taken away over HTTP: files, links, imports and exports."""

from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from typing import Literal

from fastapi import APIRouter, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.bodies import read
from wordmill.channels.api.shared import Json, message_shown, plain, shown
from wordmill.chat.types import Attachment
from wordmill.errors import InvalidInput

router = APIRouter(prefix="/api")


@router.post("/conversations/{conversation}/share", status_code=201, tags=["Links"])
def share(conversation: str, caller: Talks, request: Request) -> Json:
    """A read-only link to the branch as it is now; its token is shown this once."""
    made, token = house_of(request).conversations.share(caller.person, conversation)
    return {**shown(made), "path": f"/shared/{token}"}


@router.get("/conversations/{conversation}/shares", tags=["Links"])
def shares(conversation: str, caller: Reads, request: Request) -> list[Json]:
    """The links to it."""
    found = house_of(request).conversations.shares(caller.person, conversation)
    return [shown(one) for one in found]


@router.delete("/shares/{share}", status_code=204, tags=["Links"])
def revoke(share: str, caller: Talks, request: Request) -> None:
    """Take a link back."""
    house_of(request).conversations.revoke(caller.person, share)


@router.get("/conversations/{conversation}/export", response_class=Response, tags=["Files"])
def export(
    conversation: str,
    caller: Reads,
    request: Request,
    form: Literal["json", "markdown"] = "json",
) -> Response:
    """The conversation as a file."""
    data = house_of(request).conversations.exported(
        caller.person, conversation, form, language=caller.person.language
    )
    kind = "application/json" if form == "json" else "text/markdown; charset=utf-8"
    return Response(data, media_type=kind)


@router.get("/shares", tags=["Links"])
def all_shares(caller: Reads, request: Request) -> list[Json]:
    """All links that one has made, the revoked ones too."""
    return [shown(one) for one in house_of(request).conversations.shares(caller.person)]


@router.get("/shared/{token}", tags=["Links"])
def shared(token: str, request: Request) -> Json:
    """What a link shows, to anybody who has it: the branch, without names and settings."""
    found = house_of(request).conversations.shared(token)
    messages = [message_shown(one) for one in found.messages]
    return {"title": found.title, "created": found.created.isoformat(), "messages": messages}


@router.get("/shared/{token}/attachments/{attachment}", response_class=Response, tags=["Links"])
def shared_attachment(token: str, attachment: str, request: Request) -> Response:
    """The bytes of a file of a shared branch."""
    found = house_of(request).conversations.shared_attachment(token, attachment)
    return _file(*found)


@router.post("/attachments", status_code=201, tags=["Files"])
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


@router.get("/attachments/{attachment}", response_class=Response, tags=["Files"])
def attachment(attachment: str, caller: Reads, request: Request) -> Response:
    """The bytes of a file."""
    files = house_of(request).conversations.attachments
    return _file(files.get(caller.person, attachment), files.data(caller.person, attachment))


@router.delete("/attachments/{attachment}", status_code=204, tags=["Files"])
def remove_attachment(attachment: str, caller: Talks, request: Request) -> None:
    """Forget a file that no message has yet."""
    house_of(request).conversations.attachments.remove(caller.person, attachment)


@router.post("/import", tags=["Files"])
async def import_(caller: Talks, request: Request) -> Json:
    """Conversations out of a ChatGPT, Claude or Wordmill export (JSON or zip); twice is once."""
    house = house_of(request)
    data = await read(request, house.settings.import_bytes)

    def taken() -> Json:
        return asdict(house.chat.imports.take(caller.person, BytesIO(data)))

    return await run_in_threadpool(taken)


@router.get("/export", tags=["Files"])
def export_all(caller: Reads, request: Request) -> StreamingResponse:
    """All of one's conversations as one JSON list, which `import` takes."""

    def pieces() -> Iterator[bytes]:
        yield from house_of(request).conversations.exported_all(caller.person)

    name = {"content-disposition": 'attachment; filename="conversations.json"'}
    return StreamingResponse(pieces(), media_type="application/json", headers=name)


def _file(file: Attachment, data: bytes) -> Response:
    """Bytes of somebody's, which no browser may take for a page of ours."""
    return Response(
        data,
        media_type=file.media_type if file.image else "text/plain; charset=utf-8",
        headers={"content-disposition": "attachment", "content-security-policy": "sandbox"},
    )
