"""Folders of conversations: a tree of a person's own."""

from typing import Any

from sqlalchemy import delete as deleted
from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from wordmill.chat.inputs import checked_line
from wordmill.chat.places import Places, Stored
from wordmill.chat.types import Folder, Owner
from wordmill.database import conversations, folders, new_id, now
from wordmill.errors import Conflict, InvalidInput, NotFound, nearest
from wordmill.settings import Settings

NAME_CHARACTERS = 200
MOST_FOLDERS = 1000


class Folders(Stored):
    """The folders of all people. Safe from any thread."""

    def __init__(self, places: Places, settings: Settings) -> None:
        self.places, self.settings = places, settings

    def create(self, person: Owner, name: str, parent: str | None = None) -> Folder:
        """A new folder, in `parent` or at the top.

        Raises InvalidInput, NotFound for a parent that is not theirs, Conflict for the 1,001st.
        """
        name = _name(name)
        with self.places.begin("") as connection:
            known = _all(connection, person.id)
            if len(known) >= MOST_FOLDERS:
                raise Conflict(f"You have {MOST_FOLDERS:,} folders, the most. Remove one first.")
            if parent is not None and parent not in known:
                raise NotFound("folder", parent)
            new = Folder(new_id(), person.id, name, parent, now())
            connection.execute(
                insert(folders).values(
                    id=new.id, owner=new.owner, name=name, parent=parent, created=new.created
                )
            )
        return new

    def all(self, person: Owner) -> list[Folder]:
        """The person's folders with their numbers of conversations, by name."""
        with self.places.read("") as connection:
            return sorted(_all(connection, person.id).values(), key=lambda one: one.name.casefold())

    def change(self, person: Owner, folder: str, **fields: Any) -> Folder:
        """Change `name` or `parent`; a parent of None moves it to the top.

        Raises NotFound, and InvalidInput for a parent that lies in the folder itself.
        """
        for field in fields:
            if field not in ("name", "parent"):
                raise InvalidInput(
                    f"A folder has no {field!r}{nearest(field, ('name', 'parent'))}", field
                )
        values = dict(fields)
        if "name" in values:
            values["name"] = _name(values["name"])
        with self.places.begin("") as connection:
            known = _all(connection, person.id)
            if folder not in known:
                raise NotFound("folder", folder)
            above = values.get("parent")
            if above is not None and above not in known:
                raise NotFound("folder", str(above))
            while above is not None:
                if above == folder:
                    raise InvalidInput(
                        f"The folder {known[folder].name!r} cannot lie in itself.", "parent"
                    )
                above = known[above].parent
            if values:
                mine = (folders.c.id == folder) & (folders.c.owner == person.id)
                connection.execute(update(folders).where(mine).values(values))
            return _all(connection, person.id)[folder]

    def remove(self, person: Owner, folder: str) -> None:
        """Delete a folder; what lies in it comes to lie where it lay. Raises NotFound."""
        with self.places.begin("") as connection:
            known = _all(connection, person.id)
            if folder not in known:
                raise NotFound("folder", folder)
            above = known[folder].parent
            for table, column in ((folders, "parent"), (conversations, "folder")):
                inside = (table.c[column] == folder) & (table.c.owner == person.id)
                connection.execute(update(table).where(inside).values({column: above}))
            mine = (folders.c.id == folder) & (folders.c.owner == person.id)
            connection.execute(deleted(folders).where(mine))


def _all(connection: Connection, owner: str) -> dict[str, Folder]:
    count = (
        select(func.count())
        .where(conversations.c.folder == folders.c.id, conversations.c.owner == owner)
        .correlate(folders)
        .scalar_subquery()
        .label("count")
    )
    rows = connection.execute(select(folders, count).where(folders.c.owner == owner))
    return {row.id: Folder(**row._mapping) for row in rows}


def _name(name: object) -> str:
    line = checked_line(name, "name", NAME_CHARACTERS)
    if not line:
        raise InvalidInput("name: a folder needs one.", "name")
    return line
