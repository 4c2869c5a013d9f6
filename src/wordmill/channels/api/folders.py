"""Where conversations are kept, over HTTP: folders and tags."""

from fastapi import APIRouter, Request

from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent, shown

router = APIRouter(prefix="/api", tags=["Folders"])


class NewFolder(Sent):
    """A folder to be made."""

    name: str
    parent: str | None = None


class FolderChange(Sent):
    """What is to be different. parent: null moves it to the top."""

    name: str = ""
    parent: str | None = None


@router.get("/folders")
def folders(caller: Reads, request: Request) -> list[Json]:
    """One's folders."""
    found = house_of(request).conversations.folders.all(caller.person)
    return [shown(one) for one in found]


@router.post("/folders", status_code=201)
def make_folder(new: NewFolder, caller: Talks, request: Request) -> Json:
    """Make a folder."""
    made = house_of(request).conversations.folders.create(caller.person, new.name, new.parent)
    return shown(made)


@router.patch("/folders/{folder}")
def change_folder(folder: str, new: FolderChange, caller: Talks, request: Request) -> Json:
    """Rename a folder, or put it elsewhere."""
    values = new.model_dump(exclude_unset=True)
    return shown(house_of(request).conversations.folders.change(caller.person, folder, **values))


@router.delete("/folders/{folder}", status_code=204)
def remove_folder(folder: str, caller: Talks, request: Request) -> None:
    """Remove a folder; its conversations stay."""
    house_of(request).conversations.folders.remove(caller.person, folder)


@router.get("/tags")
def tags(caller: Reads, request: Request) -> Json:
    """One's tags, and how many conversations bear each."""
    return dict(house_of(request).conversations.tags(caller.person))
