"""Which runs there are, how they stand, and who may work on one now.

A run goes `created -> running -> finished | short | cancelled | failed`, and from all but
`finished` back to `running`. What a person is shown as `interrupted` is a run that says `running`
while no process holds its lock: the lock is the system's and goes with its process, however that
ends. A fence number guards the row in the database: a process that lost its run to another cannot
write over it.

The run's own files are below `<home>/runs/<id>/`: the engine's records, the recipe as it is run,
the lock.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, TypeAlias, cast

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from wordmill.database import LOCAL, Database, runs
from wordmill.errors import RunError, UnknownName
from wordmill.settings import Settings
from wordmill.storage import said
from wordmill.types import Value

State: TypeAlias = Literal[
    "created", "running", "finished", "short", "cancelled", "failed", "interrupted"
]

_LONGEST = 200
"""Characters of the column `runs.recipe`."""

ENDED: frozenset[State] = frozenset({"finished", "short", "cancelled", "failed"})


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the registry knows it.

    folder: where its dataset goes.  rows: asked for.  state: `interrupted` is worked out.
    counts: what the last heartbeat said.  fence: how often it was begun.
    """

    id: str
    name: str
    recipe: str
    digest: str
    folder: Path
    rows: int
    state: State
    counts: Mapping[str, Value]
    cancel_requested: bool
    host: str | None
    pid: int | None
    fence: int
    created: datetime
    started: datetime | None
    heartbeat: datetime | None
    ended: datetime | None

    def busy(self) -> RunError:
        """What is said when a process works on it and another wants to."""
        return RunError(
            f"The run {self.id} is being worked on by another process ({self.host}, "
            f"pid {self.pid}). `wordmill runs show {self.id}` shows how far it is, "
            f"`wordmill runs cancel {self.id}` stops it."
        )

    @property
    def unfinished(self) -> bool:
        """Whether there is something to go on with."""
        return self.state != "finished"


class Lease:
    """The right to work on a run: held by one process at a time, given back at its end."""

    def __init__(self, run: Run, lock: IO[bytes]) -> None:
        self.run, self._lock = run, lock

    def release(self) -> None:
        """Let others work on the run. Harmless when repeated."""
        self._lock.close()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Registry:
    """The runs of a person. Safe from any thread.

    owner: whose; everybody's else are not there.
    """

    def __init__(self, database: Database, settings: Settings, owner: str = LOCAL) -> None:
        self.owner = owner
        self._database, self._home = database, settings.home.absolute() / "runs"

    def files(self, run: str) -> Path:
        """The folder of a run's own files."""
        return self._home / run

    def create(
        self,
        *,
        name: str,
        recipe: str,
        digest: str,
        folder: Path,
        rows: int,
        write: Callable[[Path], None],
    ) -> Run:
        """A new run; its id is the recipe's name and a number, as `tickets-1`.

        write: puts what is needed to work on the run into the folder of its own files, before
        anybody can see that there is a run.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
        with self._database.begin() as connection:
            found = connection.execute(select(runs.c.id).where(runs.c.id.startswith(f"{slug}-")))
            endings = [one.removeprefix(f"{slug}-") for one in found.scalars()]
            number = 1 + max((int(ending) for ending in endings if ending.isdecimal()), default=0)
            while not self._made(f"{slug}-{number}"):  # of a database that was lost, or begun now
                number += 1
            run = f"{slug}-{number}"
            write(self.files(run))
            connection.execute(
                insert(runs).values(
                    id=run, name=name, owner=self.owner, recipe=_end(recipe), digest=digest,
                    folder=str(folder), rows=rows, state="created", counts={},
                    cancel_requested=False, fence=0, created=datetime.now(UTC),
                )
            )  # fmt: skip
        return self.get(run)

    def _made(self, run: str) -> bool:
        """Whether the folder of a run's own files was made; False where there is one already."""
        path = self.files(run)
        with said(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                return False
        return True

    def get(self, run: str) -> Run:
        """The run of that id. Raises UnknownName with the nearest ones."""
        with self._database.read() as connection:
            row = self._row(connection, run)
            if row is None:
                known = connection.execute(select(runs.c.id).where(runs.c.owner == self.owner))
                raise UnknownName("run", run, known.scalars(), "`wordmill runs list` shows all.")
        return self._run(row)

    def all(self) -> list[Run]:
        """All runs, the newest first."""
        query = select(runs).where(runs.c.owner == self.owner).order_by(runs.c.created.desc())
        with self._database.read() as connection:
            return [self._run(row) for row in connection.execute(query).mappings()]

    def of_folder(self, folder: Path) -> Run | None:
        """The newest run whose dataset goes to this folder."""
        query = (
            select(runs)
            .where(runs.c.owner == self.owner, runs.c.folder == str(folder))
            .order_by(runs.c.created.desc(), runs.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else self._run(row)

    def begin(self, run: str, rows: int) -> Lease:
        """Take a run to work on it, with that many rows. Raises RunError when another has it."""
        self.get(run)
        lock = self._lock(run)
        if lock is None:
            raise self.get(run).busy()
        try:
            now = datetime.now(UTC)
            with self._database.begin() as connection:
                connection.execute(
                    update(runs)
                    .where(runs.c.id == run)
                    .values(
                        state="running", rows=rows, cancel_requested=False, pid=os.getpid(),
                        host=socket.gethostname(), fence=runs.c.fence + 1,
                        started=now, heartbeat=now, ended=None,
                    )
                )  # fmt: skip
            return Lease(self.get(run), lock)
        except BaseException:
            lock.close()
            raise

    def beat(self, lease: Lease, counts: Mapping[str, Value]) -> bool:
        """Say how far a run is; whether somebody asks to cancel it (or has taken it over)."""
        values = {"heartbeat": datetime.now(UTC), "counts": dict(counts)}
        with self._database.begin() as connection:
            connection.execute(update(runs).where(_ours(lease)).values(values))
            asked = connection.execute(select(runs.c.cancel_requested).where(_ours(lease)))
            return asked.scalar_one_or_none() is not False

    def end(self, lease: Lease, state: State, counts: Mapping[str, Value]) -> None:
        """Note how a run ended, for now or for good."""
        now = datetime.now(UTC)
        values = {"state": state, "counts": dict(counts), "heartbeat": now, "ended": now}
        with self._database.begin() as connection:
            connection.execute(update(runs).where(_ours(lease)).values(values))

    def move(self, run: str, folder: Path) -> None:
        """From now on the run's dataset goes to another folder."""
        with self._database.begin() as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == run, runs.c.owner == self.owner)
                .values(folder=str(folder))
            )

    def cancel(self, run: str) -> Run:
        """Ask the process that works on a run to stop. Raises RunError when none does."""
        found = self.get(run)
        if found.state != "running":
            raise RunError(
                f"The run {run} is {found.state}: nothing works on it that could be cancelled."
            )
        with self._database.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(cancel_requested=True))
        return found

    def remove(self, run: str) -> None:
        """Forget a run and delete its own files, not its dataset. Raises RunError while it runs."""
        self.get(run)
        lock = self._lock(run)
        if lock is None:
            raise RunError(
                f"The run {run} is being worked on: `wordmill runs cancel {run}` stops it first."
            )
        with lock:
            with said(self.files(run)):
                shutil.rmtree(self.files(run))
            with self._database.begin() as connection:
                connection.execute(delete(runs).where(runs.c.id == run))

    def _lock(self, run: str) -> IO[bytes] | None:
        """The run's lock, taken; None when another process has it."""
        path = self.files(run) / "lock"
        with said(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = path.open("ab")
        for pause in (0.0, 0.05, 0.1, 0.2):
            time.sleep(pause)  # another process may only be looking (`_held`)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
        lock.close()
        return None

    def _held(self, run: str) -> bool:
        """Whether a process works on the run."""
        try:
            lock = (self.files(run) / "lock").open("rb")
        except FileNotFoundError:
            return False
        with lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        return True

    def _row(self, connection: Connection, run: str) -> RowMapping | None:
        query = select(runs).where(runs.c.id == run, runs.c.owner == self.owner)
        return connection.execute(query).mappings().one_or_none()

    def _run(self, row: RowMapping) -> Run:
        state = cast(State, row["state"])
        if state == "running" and not self._held(row["id"]):
            state = "interrupted"
        values = {field.name: row[field.name] for field in fields(Run)}
        return Run(**{**values, "folder": Path(row["folder"]), "state": state})


def _end(path: str) -> str:
    """As much of a path as the database holds: its end, which tells more. The files hold it all."""
    return path if len(path) <= _LONGEST else f"...{path[3 - _LONGEST :]}"


def _ours(lease: Lease) -> ColumnElement[bool]:
    return and_(runs.c.id == lease.run.id, runs.c.fence == lease.run.fence)
