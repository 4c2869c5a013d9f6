"""Documents over HTTP: of a conversation, into Google Drive, and how one's own look."""

from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, UploadFile
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from wordmill.accounts import Person
from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent
from wordmill.channels.house import House
from wordmill.chat.documents import Form, Wish
from wordmill.commands.words import file_name
from wordmill.documents.look import MOST
from wordmill.errors import ConfigError, Conflict, InvalidInput

router = APIRouter(prefix="/api", tags=["Documents"])

Place = Annotated[int | None, Query(ge=1)]


class Choices(Sent):
    """What is to be different; what is left out stays."""

    title_page: bool | None = None
    speakers: bool | None = None
    sources: bool | None = None
    google_doc: bool | None = None

    def given(self) -> dict[str, bool]:
        """Those that were said."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class NewDocument(Choices):
    """A document: of the answers n to m, counted from the end, of one message, or of all."""

    form: Form = "docx"
    n: int | None = None
    m: int | None = None
    whole: bool = False
    message: str | None = None


class NewFolder(Sent):
    """A folder's share link; null takes it back."""

    link: str | None


@router.get("/conversations/{conversation}/document", response_class=Response)
def document(
    conversation: str,
    caller: Reads,
    request: Request,
    form: Form = "docx",
    n: Place = None,
    m: Place = None,
    whole: bool = False,
    message: str | None = None,
    title_page: bool | None = None,
    speakers: bool | None = None,
    sources: bool | None = None,
) -> Response:
    """A document: of the last answer, the n-th from the end, n to m, one message, or all."""
    chosen = Choices(title_page=title_page, speakers=speakers, sources=sources)
    wish = Wish(form, n, m, whole, message, chosen.given())
    made = house_of(request).documents.make(caller.person, conversation, wish)
    name = quote(f"{file_name(made.title)}.{made.ending}", safe="")
    headers = {
        "content-disposition": f"attachment; filename*=utf-8''{name}",
        "content-security-policy": "sandbox",
    }
    return Response(made.data, media_type=made.media_type, headers=headers)


@router.post("/conversations/{conversation}/document", status_code=201)
def deliver(conversation: str, new: NewDocument, caller: Talks, request: Request) -> Json:
    """Make a document and put it into one's Google Drive."""
    documents = house_of(request).documents
    over = {name: value for name, value in new.given().items() if name in Choices.model_fields}
    wish = Wish(new.form, new.n, new.m, new.whole, new.message, over)
    made = documents.make(caller.person, conversation, wish)
    try:
        return documents.deliver(caller.person, conversation, made)._asdict()
    except ConfigError as error:
        raise Conflict(str(error)) from error


@router.put("/conversations/{conversation}/drive-folder")
def folder_here(conversation: str, new: NewFolder, caller: Talks, request: Request) -> Json:
    """Where the documents of this conversation go in Google Drive."""
    place = house_of(request).documents.set_folder(caller.person, new.link, conversation)
    return {"folder": place and place._asdict()}


@router.get("/me/documents")
def mine(caller: Reads, request: Request) -> Json:
    """How one's documents look, where they go, and what can be made here."""
    return _shown(house_of(request), caller.person)


@router.patch("/me/documents")
def choose(new: Choices, caller: Talks, request: Request) -> Json:
    """Change how one's documents look."""
    house = house_of(request)
    house.documents.choose(caller.person, **new.given())
    return _shown(house, caller.person)


@router.put("/me/documents/folder")
def folder(new: NewFolder, caller: Talks, request: Request) -> Json:
    """Where one's documents go in Google Drive."""
    house = house_of(request)
    house.documents.set_folder(caller.person, new.link)
    return _shown(house, caller.person)


@router.put("/me/documents/template", status_code=204)
async def template(file: UploadFile, caller: Talks, request: Request) -> None:
    """A .docx whose styles and pages one's documents take from now on."""
    data = await file.read(MOST + 1)
    if len(data) > MOST:
        raise InvalidInput(f"The template is longer than {MOST:,} bytes.", "file")
    documents = house_of(request).documents
    await run_in_threadpool(documents.set_template, caller.person, data)


@router.delete("/me/documents/template", status_code=204)
def no_template(caller: Talks, request: Request) -> None:
    """Go back to the look that documents have by themselves."""
    house_of(request).documents.remove_template(caller.person)


@router.delete("/me/drive", status_code=204)
def disconnect(caller: Talks, request: Request) -> None:
    """Disconnect one's Google Drive; Google forgets the token too. A browser connects it."""
    house_of(request).accounts.drives.disconnect(caller.person)


def _shown(house: House, person: Person) -> Json:
    kept, drives = house.documents.kept(person), house.accounts.drives
    drive = drives.status(person)
    return {
        **asdict(kept.choices),
        "folder": kept.folder and {"id": kept.folder.id, "name": kept.folder.name},
        "template": kept.template,
        "forms": [*house.documents.maker.forms, "markdown"],
        "drive": drive
        and {
            "account": drive.account,
            "created": drive.created.isoformat(),
            "ended": drive.ended and drive.ended.isoformat(),
        },
        "service_account": drives.service_account,
    }
