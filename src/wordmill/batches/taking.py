"""Blocks that need Python, taken from their queues by `wordmill worker`.

What consumers in Rust do with other blocks is done here with these (`python`): a block is leased in
PostgreSQL with a fence, its lines are answered, its segment is written, and one transaction says
that it is done, with what it used. The message is gone as soon as the block is leased, since the
row is the truth: what a dead worker had is due again when its lease ends (`conductor`). The index
of results is filled from the segment.

A block is worked on by one process and keeps its answers in memory; one that is taken again is
asked again, but for what the cache knows.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, insert, or_, select, text, update

from wordmill._engine import EngineFault
from wordmill.accounts import Accounts, Person, catalog_of
from wordmill.batches.batches import Batches, segment
from wordmill.batches.engines import (
    Amounts,
    end_of,
    given_up,
    open_engine,
    owner_of,
    spent,
    within_quotas,
)
from wordmill.batches.python import answer_block
from wordmill.batches.types import Batch, Block, Counts, block_of
from wordmill.batches.work import counted
from wordmill.database import Database, grants, new_id, now
from wordmill.database import batches as batch_table
from wordmill.database import blocks as table
from wordmill.database import ledger as ledger_table
from wordmill.errors import BrokerError, EngineError, StorageError, WordmillError
from wordmill.queues.rabbitmq import PYTHON, Broker, Letter
from wordmill.settings import Settings

MOST: Final = 5
"""A block that so many workers have died of is given up."""
LEASE: Final = timedelta(seconds=30)
RENEW: Final = 5.0
"""Seconds between renewals, and looks at the batch."""
BUSY: Final = 1.0
"""Seconds after which a budget that others hold is looked at again."""

log = logging.getLogger(__name__)


class Lost(WordmillError):
    """The block is another worker's by now."""

    def __str__(self) -> str:
        return "The block is another worker's by now."


@dataclass(frozen=True, slots=True)
class Taken:
    """A block in our hands. plan: of its batch."""

    batch: Batch
    block: Block
    plan: Mapping[str, Any]
    fence: int


class PythonBlocks:
    """Takes blocks, one after the other. One thread.

    name: of this worker.  stopping: whether the process ends; the block at hand is given back.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        accounts: Accounts,
        batches: Batches,
        name: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database, self._settings, self._accounts = database, settings, accounts
        self._batches, self._name = batches, name
        self._taken: Taken | None = None
        self.stopping = stopping

    def once(self, broker: Broker) -> bool:
        """Take one block and answer it; whether there was one. Raises BrokerError, StorageError."""
        for queue in self._queues():
            depth = broker.depth(queue)
            if depth is None or not depth.waiting:
                continue
            self._taken = None
            if broker.take(queue, self._hold):
                if self._taken is not None:
                    self._answer(self._taken, broker)
                return True
        return False

    def _hold(self, letter: Letter) -> None:
        self._taken = self._lease(letter)

    def _queues(self) -> list[str]:
        """Queues with blocks in them, the most urgent first."""
        out = and_(table.c.published.is_not(None), table.c.done.is_(False))
        query = select(table.c.queue).where(out, table.c.queue.startswith(PYTHON)).distinct()
        with self._database.read() as connection:
            return sorted(connection.execute(query).scalars(), reverse=True)

    def _lease(self, letter: Letter) -> Taken | None:
        """Hold a block; None for one that is done, given up, or another's."""
        this = and_(table.c.batch == letter.batch, table.c.number == letter.block)
        free = or_(table.c.lease_until.is_(None), table.c.lease_until < now())
        with self._database.begin() as connection:
            mine = and_(this, table.c.done.is_(False), table.c.dead.is_(None), free)
            row = connection.execute(select(table).where(mine)).mappings().one_or_none()
            if row is None:
                return None
            if row["attempts"] >= MOST:
                words = f"Its worker died {row['attempts']} times."
                values = {"dead": words, "holder": None, "lease_until": None}
                connection.execute(update(table).where(this).values(values))
                return None
            fence = row["fence"] + 1
            values = {"attempts": row["attempts"] + 1, "holder": self._name, "fence": fence}
            held = {**values, "lease_until": now() + LEASE}
            connection.execute(update(table).where(this).values(held))
            query = select(batch_table.c.plan).where(batch_table.c.id == letter.batch)
            plan = connection.execute(query).scalar()
        batch = self._batches.find(letter.batch)
        if batch is None or plan is None:
            return None
        return Taken(batch, block_of(row), plan, fence)

    def _answer(self, taken: Taken, broker: Broker) -> None:
        """Answer a block, and write down how that ended. Raises StorageError."""
        watch = _Watch(self, taken, broker)
        try:
            person = owner_of(self._accounts, taken.batch)
            ceilings = self._grant(taken, person, watch)
            made, used = self._ask(taken, person, ceilings, watch)
        except Lost:
            log.info("a block of the batch %s is another worker's now", taken.batch.id)
        except Stopping:
            self._free(taken, blameless=True)
        except StorageError:
            self._free(taken)
            raise
        except WordmillError as error:
            self._bury(taken, str(error))
        else:
            self._done(taken, made, used, person)

    def _ask(
        self,
        taken: Taken,
        person: Person,
        ceilings: Amounts,
        watch: "_Watch",
    ) -> tuple[Counts, Mapping[str, Any]]:
        batch, block, plan = taken.batch, taken.block, taken.plan
        catalog = catalog_of(self._database, self._settings, person.id)
        names = block.models.keys() - batch.options.get("refused", {}).keys()
        engine = open_engine(self._settings, catalog, batch, names, ceilings)
        storage = self._batches.files.storage
        try:
            file = self._batches.files.get(batch.owner, batch.file)
            data = storage.whole(file.place, block.offset, block.size)
            whole = answer_block(
                engine, batch, self._settings, block, data,
                path=plan["path"], rules=json.dumps(plan["rules"]), going=watch,
            )  # fmt: skip
            used = json.loads(engine.metrics())
        except EngineFault as fault:
            raise EngineError(f"The engine ended: {fault}") from fault
        finally:
            engine.close()
        made = whole.data
        storage.write(segment(batch.id, block.number), made)
        return counted(whole, made), used

    # What it may spend

    def _grant(self, taken: Taken, person: Person, watch: "_Watch") -> Amounts:
        """All that is left of budget and quotas, once nobody else holds some of it."""
        budget = {**dict.fromkeys(("requests", "tokens", "money")), **taken.plan["budget"]}
        quotas = [
            used
            for used in self._accounts.ledger.used(person.id).values()
            if used.quota is not None
        ]
        if not quotas and all(value is None for value in budget.values()):
            return budget
        while True:
            left = self._left(taken, person, budget)
            if left is not None:
                return left
            if watch() is not None:
                return dict.fromkeys(budget, 0)
            time.sleep(BUSY)

    def _left(self, taken: Taken, person: Person, budget: Amounts) -> Amounts | None:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended('wordmill grants ' || :who, 0))")
        with self._database.begin() as connection:
            if connection.dialect.name == "postgresql":  # as the consumers do
                connection.execute(lock, {"who": person.id})
            theirs = select(grants.c.holder).join(
                batch_table, batch_table.c.id == grants.c.batch
            ).where(
                batch_table.c.owner == person.id, grants.c.holder != self._name,
                grants.c.until > now(),
            )  # fmt: skip
            if connection.execute(theirs).first() is not None:
                return None
            used = spent(self._batches.summed(taken.batch.id))
            rest = {
                name: None if most is None else max(0.0, most - used[name])
                for name, most in budget.items()
            }
            left = within_quotas(self._accounts, person, rest, {})
            mine = and_(grants.c.batch == taken.batch.id, grants.c.holder == self._name)
            connection.execute(delete(grants).where(mine))
            connection.execute(
                insert(grants).values(
                    batch=taken.batch.id, holder=self._name, requests=left["requests"] or 0,
                    tokens=left["tokens"] or 0, money=left["money"] or 0.0, until=now() + LEASE,
                )
            )  # fmt: skip
        return left

    # How it ends

    def _done(self, taken: Taken, counts: Counts, used: Mapping[str, Any], person: Person) -> None:
        with self._database.begin() as connection:
            values = {"done": True, "counts": asdict(counts), "ended": now(), "lease_until": None}
            done = connection.execute(update(table).where(_ours(taken)).values(values))
            if done.rowcount and used["sent"]:
                connection.execute(
                    insert(ledger_table).values(
                        id=new_id(), at=now(), person=person.id, door="batch", model="",
                        subject=taken.batch.id, requests=used["sent"],
                        input_tokens=used["tokens_in"], output_tokens=used["tokens_out"],
                        money=used["money"],
                    )
                )  # fmt: skip
            self._drop_grant(connection, taken)

    def _free(self, taken: Taken, *, blameless: bool = False) -> None:
        """Give it back: it is published again."""
        values: dict[str, Any] = {"published": None, "holder": None, "lease_until": None}
        if blameless:
            values["attempts"] = table.c.attempts - 1
        with self._database.begin() as connection:
            connection.execute(update(table).where(_ours(taken)).values(values))
            self._drop_grant(connection, taken)

    def _bury(self, taken: Taken, words: str) -> None:
        values = {"dead": words[:2000], "holder": None, "lease_until": None}
        with self._database.begin() as connection:
            connection.execute(update(table).where(_ours(taken)).values(values))
            self._drop_grant(connection, taken)

    def _drop_grant(self, connection: Any, taken: Taken) -> None:
        mine = and_(grants.c.batch == taken.batch.id, grants.c.holder == self._name)
        connection.execute(delete(grants).where(mine))

    def renew(self, taken: Taken) -> None:
        """Hold a block longer. Raises Lost, StorageError."""
        until = now() + LEASE
        with self._database.begin() as connection:
            held = connection.execute(
                update(table).where(_ours(taken)).values(lease_until=until)
            ).rowcount
            mine = and_(grants.c.batch == taken.batch.id, grants.c.holder == self._name)
            connection.execute(update(grants).where(mine).values(until=until))
        if not held:
            raise Lost

    def end_of(self, batch: Batch) -> tuple[str, str] | None:
        """Why what is open of a batch is given up; None while it goes on."""
        end = end_of(self._batches, batch)
        return None if end is None else given_up(end)


class Stopping(Exception):
    """This process ends; the block is given back."""


class _Watch:
    """Asked while a block is answered whether to go on; keeps lease and connection meanwhile."""

    def __init__(self, worker: PythonBlocks, taken: Taken, broker: Broker) -> None:
        self._worker, self._taken, self._broker = worker, taken, broker
        self._at = time.monotonic() + RENEW
        self._until = time.monotonic() + LEASE.total_seconds()
        self._end = worker.end_of(taken.batch)

    def __call__(self) -> tuple[str, str] | None:
        if self._worker.stopping():
            raise Stopping
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + RENEW
            self._renew()
        return self._end

    def _renew(self) -> None:
        try:
            self._broker.beat()
        except BrokerError as error:  # the block is leased: its message is needed no more
            log.warning("%s", error)
        try:
            self._worker.renew(self._taken)
            self._until = time.monotonic() + LEASE.total_seconds()
            self._end = self._worker.end_of(self._taken.batch)
        except StorageError as error:
            log.warning("a block could not be held: %s", error)
            if time.monotonic() > self._until:
                raise Lost from error


def _ours(taken: Taken) -> Any:
    return and_(
        table.c.batch == taken.batch.id, table.c.number == taken.block.number,
        table.c.fence == taken.fence, table.c.done.is_(False),
    )  # fmt: skip
