"""Long work: a row in the database, leased to one worker at a time, shown, cancelled, resumed.

A worker holds a job for some seconds and renews that; when it dies, another takes the job. Each
taking has a higher number, the **fence**, and what an earlier holder still writes is refused by it.
Jobs with one `subject` are worked on one after another, in the order in which they came.

Where jobs wait, and who works on them, is a queue's affair (`queues`).
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, cast

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from wordmill.database import Database, new_id, now
from wordmill.database import jobs as table
from wordmill.errors import Conflict, NotFound, StorageError

State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED: Final[tuple[State, ...]] = ("done", "failed", "cancelled")

MOST_TAKINGS: Final = 5
"""A job that so many workers have died of is not given to another."""

PRIORITY: Final = 4
"""Of jobs whose payload has no `priority`."""

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `attempts`: how often it was taken; `fence` grows with each."""

    id: str
    kind: str
    owner: str
    state: State
    subject: str | None
    payload: Json
    progress: Json
    error: str | None
    cancel_requested: bool
    attempts: int
    fence: int
    created: datetime
    updated: datetime

    @property
    def priority(self) -> int:
        """Of those that wait, the job with the highest comes first: 0 to 9, by its payload."""
        return int(self.payload.get("priority", PRIORITY))


class Jobs:
    """All jobs. Safe from any thread and any process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        owner: str,
        kind: str,
        payload: Json,
        *,
        subject: str | None = None,
        once: str | None = None,
    ) -> str:
        """A new job; its id.

        once: an idempotency key: a second job of this owner with the same one is the first.
        """
        name, at = new_id(), now()
        values = {
            "id": name, "kind": kind, "owner": owner, "state": "waiting", "fence": 0,
            "payload": dict(payload), "progress": {}, "created": at, "updated": at,
            "subject": subject, "attempts": 0, "cancel_requested": False, "once": once,
        }  # fmt: skip
        try:
            with self._database.begin() as connection:
                if once is not None:
                    same = and_(table.c.owner == owner, table.c.once == once)
                    found = connection.execute(select(table.c.id).where(same)).scalar()
                    if found is not None:
                        return str(found)
                connection.execute(insert(table).values(values))
        except StorageError as error:
            if once is not None and isinstance(error.__cause__, IntegrityError):
                return self.put(owner, kind, payload, subject=subject, once=once)
            raise
        return name

    def get(self, owner: str, job: str) -> Job:
        """One job of a person. Raises NotFound."""
        query = select(table).where(table.c.id == job, table.c.owner == owner)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("job", job)
        return _job(row)

    def find(self, owner: str, once: str) -> Job | None:
        """The job of a person that was put with this idempotency key, if there is one."""
        query = select(table).where(table.c.owner == owner, table.c.once == once)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _job(row)

    def all(
        self,
        owner: str,
        *,
        kind: str | None = None,
        subject: str | None = None,
        open_only: bool = False,
        limit: int = 100,
    ) -> list[Job]:
        """The jobs of a person, the newest first."""
        query: Select[Any] = select(table).where(table.c.owner == owner)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        if subject is not None:
            query = query.where(table.c.subject == subject)
        if open_only:
            query = query.where(table.c.state.not_in(ENDED))
        query = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def open(self, kind: str) -> list[Job]:
        """Everybody's jobs of a kind that have not ended."""
        query = select(table).where(table.c.kind == kind, table.c.state.not_in(ENDED))
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def below(self, kind: str, subject: str) -> list[Job]:
        """The jobs of a kind whose subjects begin with this, the oldest first."""
        begins = table.c.subject.startswith(subject, autoescape=True)
        query = select(table).where(table.c.kind == kind, begins).order_by(table.c.id)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def these(self, names: Collection[str]) -> list[Job]:
        """The jobs of these ids, as far as there are any."""
        query = select(table).where(table.c.id.in_(names))
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def first(self, kinds: Collection[str]) -> Job | None:
        """The job that the next worker with a free hand takes."""
        with self._database.read() as connection:
            row = connection.execute(_free(kinds).limit(1)).mappings().one_or_none()
        return None if row is None else _job(row)

    def left(self, kinds: Collection[str], seconds: float, limit: int) -> list[Job]:
        """The first jobs that could be worked on and for so many seconds were not."""
        before = now() - timedelta(seconds=seconds)
        waits = and_(table.c.state == "waiting", table.c.updated <= before)
        query = _free(kinds).where(or_(waits, table.c.state == "running")).limit(limit)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def cancel(self, owner: str, job: str) -> Job:
        """Ask for a job's end; one that nobody works on ends at once. Raises NotFound."""
        at, mine = now(), and_(table.c.id == job, table.c.owner == owner)
        with self._database.begin() as connection:
            waits = and_(mine, table.c.state == "waiting")
            ended = {"state": "cancelled", "cancel_requested": True, "updated": at}
            if not connection.execute(update(table).where(waits).values(ended)).rowcount:
                running = and_(mine, table.c.state == "running")
                asked = {"cancel_requested": True, "updated": at}
                connection.execute(update(table).where(running).values(asked))
        return self.get(owner, job)

    def lease(
        self, worker: str, kinds: Collection[str], seconds: float, job: str | None = None
    ) -> "Leased | None":
        """Take the first job that may be worked on now; None where there is none.

        worker: its machine, its process and a token, with colons between.
        job: the id of the only one that is looked at.
        A job whose holder has not renewed it in time may be: its worker is taken for dead.
        """
        while True:
            query = _free(kinds).limit(1)
            if job is not None:
                query = query.where(table.c.id == job)
            with self._database.read() as connection:  # most looks find nothing, and lock nothing
                if connection.execute(query).one_or_none() is None:
                    return None
            at = now()
            with self._database.begin() as connection:
                row = connection.execute(query).mappings().one_or_none()
                if row is None:
                    return None
                same = and_(table.c.id == row["id"], table.c.fence == row["fence"])
                if row["attempts"] >= MOST_TAKINGS:
                    words = f"Its worker died {row['attempts']} times."
                    connection.execute(
                        update(table).where(same).values(state="failed", error=words, updated=at)
                    )
                    continue
                values = {
                    "state": "running", "worker": worker, "fence": row["fence"] + 1,
                    "attempts": row["attempts"] + 1, "updated": at,
                    "lease_until": at + timedelta(seconds=seconds),
                }  # fmt: skip
                connection.execute(update(table).where(same).values(values))
                return Leased(self, self._database, _job({**row, **values}), seconds)

    def renew(self, held: Sequence["Leased"]) -> list[str]:
        """Hold these longer; the ids of those that are another's by now, or have ended."""
        lost, at = [], now()
        with self._database.begin() as connection:
            for lease in held:
                until = at + timedelta(seconds=lease.seconds)
                renewed = update(table).where(_ours(lease.job)).values(lease_until=until)
                if not connection.execute(renewed).rowcount:
                    lost.append(lease.job.id)
        return lost

    def unwanted(self, names: Collection[str]) -> list[str]:
        """Of these jobs, those that somebody wants to end."""
        query = select(table.c.id).where(table.c.id.in_(names), table.c.cancel_requested)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def reclaim(self, worker: str, kinds: Collection[str]) -> int:
        """Free what processes of this machine held that are no more; how many jobs.

        Without it they are free when their leases run out.
        """
        host, pid, _ = worker.rsplit(":", 2)
        running = select(table.c.id, table.c.fence, table.c.worker).where(
            table.c.state == "running", table.c.kind.in_(kinds)
        )
        freed = 0
        with self._database.begin() as connection:
            for name, fence, holder in connection.execute(running).all():
                if not _is_dead(holder or "", host, pid, worker):
                    continue
                same = and_(table.c.id == name, table.c.fence == fence)
                connection.execute(update(table).where(same).values(lease_until=now()))
                freed += 1
        return freed

    def counts(self) -> list[tuple[str, State, int]]:
        """How many jobs there are, by kind and state."""
        query = select(table.c.kind, table.c.state, func.count()).group_by(
            table.c.kind, table.c.state
        )
        with self._database.read() as connection:
            return [(kind, state, number) for kind, state, number in connection.execute(query)]


class Leased:
    """A job in the hands of a worker. Every method raises Conflict when it is another's by now."""

    def __init__(self, jobs: Jobs, database: Database, job: Job, seconds: float) -> None:
        self.jobs, self._database, self.job, self.seconds = jobs, database, job, seconds

    @property
    def fence(self) -> int:
        """The number of this taking."""
        return self.job.fence

    def progress(self, **values: Any) -> None:
        """Say how far it is; what was said before is replaced."""
        with self._database.begin() as connection:
            self._write(connection, {"progress": values, "updated": now()})

    def advanced(self) -> None:
        """Something of it is done for good: workers that died before did not die of the job."""
        with self._database.begin() as connection:
            self._write(connection, {"attempts": 1})

    def finish(self, **progress: Any) -> None:
        """It is done."""
        self._end("done", {"progress": progress} if progress else {})

    def fail(self, words: str) -> None:
        """It cannot be done; in a sentence, why."""
        self._end("failed", {"error": words})

    def cancelled(self) -> None:
        """It was ended because somebody wanted that."""
        self._end("cancelled", {})

    def release(self) -> None:
        """Give it back, to be taken up again: this worker ends, and not because of the job."""
        with self._database.begin() as connection:
            back = {"state": "waiting", "lease_until": None, "updated": now()}
            self._write(connection, {**back, "attempts": self.job.attempts - 1})

    def _end(self, state: State, values: dict[str, Any]) -> None:
        with self._database.begin() as connection:
            self._write(
                connection, {"state": state, "lease_until": None, "updated": now(), **values}
            )

    def _write(self, connection: Any, values: dict[str, Any]) -> None:
        if not connection.execute(update(table).where(_ours(self.job)).values(values)).rowcount:
            raise Conflict(f"The job {self.job.id} is another worker's now, or has ended.")


def _free(kinds: Collection[str]) -> Select[Any]:
    """The jobs that may be worked on now: by priority, then who has waited for longest.

    One whose worker died comes before those that nobody has begun; one that was given back has
    waited since then.
    """
    dead = case((table.c.state == "running", 1), else_=0)
    priority = func.coalesce(table.c.payload["priority"].as_integer(), PRIORITY)
    stale = and_(table.c.state == "running", table.c.lease_until < now())
    before = table.alias("before")
    busy = exists().where(
        before.c.subject == table.c.subject,
        before.c.id != table.c.id,
        or_(
            before.c.state == "running",
            and_(before.c.state == "waiting", before.c.id < table.c.id),
        ),
    )
    return (
        select(table)
        .where(table.c.kind.in_(kinds), or_(table.c.state == "waiting", stale))
        .where(or_(table.c.subject.is_(None), ~busy))
        .order_by(priority.desc(), dead.desc(), table.c.updated, table.c.id)
    )


def _ours(job: Job) -> ColumnElement[bool]:
    """The row of a job, as long as it is in the hands of who took it then."""
    return and_(table.c.id == job.id, table.c.fence == job.fence, table.c.state == "running")


def _is_dead(holder: str, host: str, pid: str, worker: str) -> bool:
    """Whether a worker of this machine is no more. Of other machines nothing is known."""
    theirs, _, rest = holder.partition(":")
    number = rest.partition(":")[0]
    if theirs != host or holder == worker or not number.isdecimal():
        return False
    if number == pid:  # in a container, each process that starts may be the first
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is somebody else's, and so not ours
    return False


def _job(row: RowMapping | Mapping[str, Any]) -> Job:
    return Job(
        id=row["id"], kind=row["kind"], owner=row["owner"], state=cast(State, row["state"]),
        subject=row["subject"], payload=row["payload"], progress=row["progress"],
        error=row["error"], cancel_requested=row["cancel_requested"], attempts=row["attempts"],
        fence=row["fence"], created=row["created"], updated=row["updated"],
    )  # fmt: skip
