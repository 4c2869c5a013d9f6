"""The blocks of batches as consumers and the conductor see them: who has which, and what is due.

A row is the outbox: a block with a queue that is not published, not done and not dead is due. It is
published once its message is confirmed; a consumer takes it by a lease, whose fence refuses whoever
held it before. All times are the database's own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, select, update

from wordmill.batches.types import Counts, State
from wordmill.database import Database, now, workers
from wordmill.database import batches as batch_table
from wordmill.database import blocks as table

_OPEN: Final = ("in_progress", "cancelling", "finalizing")
_ALIVE: Final = and_(table.c.done.is_(False), table.c.dead.is_(None))
_OUT: Final = and_(_ALIVE, table.c.published.is_not(None))
_DUE: Final = and_(_ALIVE, table.c.published.is_(None), table.c.queue.is_not(None))


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that has a plan and has not ended. Numbers are of blocks.

    due: to be published.  out: published, not done.  left: not done, dead ones too.
    """

    id: str
    owner: str
    state: State
    priority: int
    created: datetime
    expires: datetime
    due: int
    out: int
    left: int
    dead: int

    @property
    def abandoned(self) -> bool:
        """Whether its lines are sent no more."""
        return self.state == "cancelling" or self.expires <= now()


@dataclass(frozen=True, slots=True)
class Due:
    """A block that is to be published."""

    batch: str
    number: int
    queue: str
    fence: int


@dataclass(frozen=True, slots=True)
class DeadBlock:
    """A block that was given up. first: the number of its first line, from 1."""

    number: int
    first: int
    lines: int
    attempts: int
    queue: str
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A process that answers lines. detail: what it says of itself."""

    id: str
    kind: str
    started: datetime
    seen: datetime
    detail: Mapping[str, Any]


class Outbox:
    """The table of blocks. Safe from any thread. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(
        self, batch: str, plan: Mapping[str, Any], queue: Callable[[Mapping[str, int]], str]
    ) -> None:
        """Hand a batch over to consumers: its plan and its state, at once.

        queue: that of blocks which have none yet, by their models.
        """
        here = batch_table.c.id == batch
        with self._database.begin() as connection:
            row = connection.execute(
                select(batch_table.c.state, batch_table.c.times).where(here)
            ).one_or_none()
            if row is None or row.state not in ("validating", "in_progress", "cancelling"):
                return
            bare = select(table.c.number, table.c.models).where(
                table.c.batch == batch, table.c.queue.is_(None)
            )
            for number, models in connection.execute(bare).all():
                this = and_(table.c.batch == batch, table.c.number == number)
                connection.execute(update(table).where(this).values(queue=queue(models)))
            values: dict[str, Any] = {"plan": dict(plan)}
            if row.state == "validating":
                times = {**row.times, "in_progress": now().timestamp()}
                values |= {"state": "in_progress", "times": times}
            connection.execute(update(batch_table).where(here).values(values))

    def planned(self, batch: str) -> bool:
        """Whether a batch was handed over."""
        query = select(batch_table.c.plan.is_not(None)).where(batch_table.c.id == batch)
        with self._database.read() as connection:
            return bool(connection.execute(query).scalar())

    def under_way(self) -> list[UnderWay]:
        """All batches that consumers are at, the most urgent first."""

        def number(which: ColumnElement[bool]) -> ColumnElement[int]:
            return func.coalesce(func.sum(case((which, 1), else_=0)), 0)

        of = batch_table.c
        query = (
            select(
                of.id, of.owner, of.state, of.priority, of.created, of.expires,
                number(_DUE).label("due"),
                number(_OUT).label("out"),
                number(table.c.done.is_(False)).label("left"),
                number(and_(table.c.done.is_(False), table.c.dead.is_not(None))).label("dead"),
            )
            .join(table, table.c.batch == of.id)
            .where(of.state.in_(_OPEN), of.plan.is_not(None))
            .group_by(of.id)
            .order_by(of.priority.desc(), of.created)
        )  # fmt: skip
        with self._database.read() as connection:
            return [UnderWay(**row) for row in connection.execute(query).mappings()]

    def due(self, batch: str, most: int) -> list[Due]:
        """Its first blocks that are to be published."""
        of = table.c
        query = select(of.batch, of.number, of.queue, of.fence).where(of.batch == batch, _DUE)
        query = query.order_by(of.number).limit(most)
        with self._database.read() as connection:
            return [Due(**row) for row in connection.execute(query).mappings()]

    def published(self, blocks: Iterable[Due]) -> None:
        """The broker has them. One that a consumer has taken meanwhile is left to it."""
        with self._database.begin() as connection:
            for one in blocks:
                same = and_(table.c.batch == one.batch, table.c.number == one.number)
                same = and_(same, table.c.fence == one.fence, _DUE)
                connection.execute(update(table).where(same).values(published=func.now()))

    # What was lost

    def sweep(self) -> int:
        """What a dead holder had is due again; how many blocks."""
        stale = and_(_ALIVE, table.c.holder.is_not(None), table.c.lease_until < func.now())
        values = {"published": None, "holder": None, "lease_until": None}
        with self._database.begin() as connection:
            return connection.execute(update(table).where(stale).values(values)).rowcount

    def untaken(self, seconds: float) -> dict[str, int]:
        """Queues with blocks that for so long nobody has taken, and how many."""
        query = select(table.c.queue, func.count()).where(_untaken(seconds))
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(table.c.queue)).all()
        return {row[0]: row[1] for row in rows}

    def again(self, queue: str, seconds: float) -> int:
        """Blocks of a queue that for so long nobody has taken are due again; how many."""
        these = and_(table.c.queue == queue, _untaken(seconds))
        with self._database.begin() as connection:
            return connection.execute(update(table).where(these).values(published=None)).rowcount

    def innocent(self, batch: str, number: int) -> bool:
        """A block whose message died is due again, unless somebody has it; whether it is."""
        these = and_(table.c.batch == batch, table.c.number == number, _OUT)
        free = table.c.lease_until.is_(None) | (table.c.lease_until < func.now())
        values = {"published": None, "holder": None, "lease_until": None}
        with self._database.begin() as connection:
            done = connection.execute(update(table).where(these, free).values(values))
        return bool(done.rowcount)

    def attempts(self, batch: str, number: int) -> int | None:
        """How often a block was taken; None where it is done, dead or no more."""
        these = and_(table.c.batch == batch, table.c.number == number, _ALIVE)
        with self._database.read() as connection:
            found = connection.execute(select(table.c.attempts).where(these)).scalar()
            return None if found is None else int(found)

    def give_up(self, batch: str, number: int, reason: str) -> None:
        """Nobody takes a block any more, until it is replayed."""
        these = and_(table.c.batch == batch, table.c.number == number, _ALIVE)
        values = {"dead": reason, "holder": None, "lease_until": None}
        with self._database.begin() as connection:
            connection.execute(update(table).where(these).values(values))

    # What was given up

    def dead(self, batch: str) -> list[DeadBlock]:
        """The blocks of a batch that were given up, in order."""
        of = table.c
        query = select(of.number, of.first, of.lines, of.attempts, of.queue, of.dead)
        query = query.where(of.batch == batch, of.dead.is_not(None), of.done.is_(False))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(of.number)).all()
        return [
            DeadBlock(row.number, row.first + 1, row.lines, row.attempts, row.queue or "", row.dead)
            for row in rows
        ]

    def replay(self, batch: str, blocks: Sequence[int] | None = None) -> int:
        """Let blocks that were given up be tried again, all without `blocks`; how many."""
        of = table.c
        these = and_(of.batch == batch, of.dead.is_not(None), of.done.is_(False))
        if blocks is not None:
            these = and_(these, of.number.in_(blocks))
        values = {
            "dead": None, "published": None, "attempts": 0, "holder": None, "lease_until": None,
        }  # fmt: skip
        with self._database.begin() as connection:
            return connection.execute(update(table).where(these).values(values)).rowcount

    # How it stands

    def queues(self, *, all_of_them: bool = False) -> dict[str, int]:
        """Queues and how many blocks in them are open. all_of_them: also those that have none."""
        query = select(table.c.queue, func.sum(case((_OUT, 1), else_=0))).where(
            table.c.queue.is_not(None)
        )
        if not all_of_them:
            query = query.where(_ALIVE)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(table.c.queue)).all()
        return {row[0]: int(row[1]) for row in sorted(rows)}

    def ended(self, batch: str, since: datetime | None) -> list[tuple[int, Counts, datetime]]:
        """Blocks of a batch that were done since then: number, counts, when."""
        of = table.c
        query = select(of.number, of.counts, of.ended).where(of.batch == batch, of.done.is_(True))
        if since is not None:
            query = query.where(of.ended >= since - timedelta(seconds=60))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [(row.number, Counts(**row.counts), row.ended) for row in rows]

    def begun(self, batch: str) -> list[Counts]:
        """What is answered already of blocks that are not done."""
        query = select(table.c.counts).where(
            table.c.batch == batch, table.c.done.is_(False), table.c.attempts > 0
        )
        with self._database.read() as connection:
            found = connection.execute(query).scalars().all()
        return [Counts(**counts) for counts in found if counts]

    def workers(self, seconds: float = 60.0) -> list[Seen]:
        """Processes that were heard of within so many seconds."""
        query = select(workers).where(workers.c.seen > now() - timedelta(seconds=seconds))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(workers.c.kind, workers.c.id)).mappings()
            return [Seen(**row) for row in rows]


def _untaken(seconds: float) -> ColumnElement[bool]:
    before = now() - timedelta(seconds=seconds)
    return and_(_OUT, table.c.holder.is_(None), table.c.published < before)
