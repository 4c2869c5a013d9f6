"""What every door of a process shares: opened once, closed in order.

A door (the web, the API, the shell) translates and asks the house; the rules of the business are in
what the house opens, so that they are the same behind every door.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Final

from sqlalchemy import delete, insert

from wordmill.accounts import Accounts, Person, ProviderKeys, catalog_of, need_admin
from wordmill.batches import JOB as BATCH
from wordmill.batches import Batch, Batches, Files, Index, Worker, open_store
from wordmill.batches import Wish as BatchWish
from wordmill.batches.batches import job_of
from wordmill.batches.conductor import Conductor
from wordmill.batches.plan import missing, scaled_out
from wordmill.batches.queues import Queues
from wordmill.batches.servers import Servers
from wordmill.batches.work import TURN
from wordmill.channels.model_shelf import ModelShelf
from wordmill.chat.conversations import Conversations
from wordmill.chat.documents import Documents
from wordmill.chat.turns import Chat
from wordmill.completions import Completions
from wordmill.database import LOCAL, Database, now, open_database
from wordmill.database import settings as stored_settings
from wordmill.errors import (
    ConfigError,
    Conflict,
    Forbidden,
    KeyMissing,
    NotFound,
    UnknownName,
    WordmillError,
)
from wordmill.jobs import Job, Jobs
from wordmill.models import Catalog, checked
from wordmill.providers.base import Model, Trial
from wordmill.queues.base import Handler, Work
from wordmill.queues.celery import Announced, is_configured
from wordmill.queues.embedded import Embedded
from wordmill.runs.crew import Crew
from wordmill.runs.desk import Desk, Wish
from wordmill.runs.part import PartWorker
from wordmill.runs.parts import PART
from wordmill.runs.preview import Preview
from wordmill.runs.registry import Run
from wordmill.settings import Settings, table
from wordmill.sharing import Sharing
from wordmill.storage import Folder, open_storage

RUN: Final = "run"
RUNS: Final = 2
"""Runs that are worked on at once."""
SHARED_RUNS: Final = 8
"""The same where workers in other processes make the rows."""
SWEEP: Final = 6 * 3600.0
"""Seconds between looks for files that no message got."""

log = logging.getLogger(__name__)


class House:
    """The services of a process. Made by `open_house`."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings
        self.accounts = Accounts(database, settings)
        self.conversations = Conversations(database, settings)
        self.completions = Completions(database, settings, self.accounts)
        self.jobs = Jobs(database)
        self.chat = Chat(
            database, settings, self.accounts, self.conversations, self.completions, self.jobs
        )
        self.documents = Documents(database, settings, self.accounts, self.conversations)
        self.catalog = Catalog(database, settings)
        self.shelf = ModelShelf(database, settings, self.accounts, self.jobs)
        self.accounts.people.when_removed(self._forget)
        self.channels: dict[str, Callable[[], str | None]] = {}
        """What each door says of itself: a sentence when something is wrong with it."""
        self.storage = open_storage(settings)
        self.sharing = Sharing(settings)
        self._crew = self._hired()
        self._runs = Embedded(
            self.jobs,
            {RUN: self._work_on_run},
            RUNS if self._crew is None else SHARED_RUNS,
            background=True,
        )
        self.files = Files(database, self.storage, settings.batch_file_bytes)
        self.batches = Batches(database, self.files, Folder(settings.home))
        self.results = Index(
            self.batches, open_store(settings), settings.index_days, settings.index_documents
        )
        self._worker = Worker(
            database, settings, self.accounts, self.batches, self.results.want, self.results.place
        )
        self.queues = Queues(database, settings, self.batches)
        self.conductor: Conductor | None = None
        if scaled_out(settings):
            self.conductor = Conductor(database, settings, self.batches, self.results.want)
            self.channels["batches"] = self.conductor.trouble
        elif words := missing(settings):
            self.channels["batches"] = lambda: words
        self._batches = Embedded(
            self.jobs, {BATCH: self._worker}, settings.batches_at_once, TURN, background=True
        )
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="wordmill-sweep", daemon=True)

    def start(self) -> None:
        """Begin to work on jobs."""
        for words in self.sharing.warnings():
            log.warning("%s", words)
        self.chat.open()
        if self._crew is not None:
            self._crew.queue.start()
        self._runs.start()
        self.shelf.start()
        self.results.start()
        self._batches.start()
        if self.conductor is not None:
            self.conductor.start()
        self._sweeper.start()

    def close(self, grace: float) -> None:
        """Give back what is at hand, and close everything.

        grace: seconds that turns and runs together have to come to a stop. What has come of an
        answer is kept; whoever opens the house next goes on.
        """
        self._closed.set()
        until = time.monotonic() + grace
        ending = [
            threading.Thread(target=queue.stop, args=(grace,), daemon=True)
            for queue in (self._runs, self._batches, self.shelf)
        ]
        for thread in ending:
            thread.start()
        self.chat.close(grace)
        for thread in (*ending, self._sweeper):
            thread.join(max(0.1, until - time.monotonic()))
        if self._crew is not None:
            self._crew.queue.stop(grace=1.0)
        if self.conductor is not None:
            self.conductor.stop()
        self.results.close()
        self.completions.close()
        self.conversations.close()

    @property
    def working(self) -> bool:
        """Whether the workers are at their places."""
        announced = self._crew is None or self._crew.queue.alive
        conducted = self.conductor is None or self.conductor.alive
        at_work = self._runs.alive and self._batches.alive and self.shelf.working
        return self.chat.working and at_work and announced and conducted

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What `wordmill worker` can do, by kind of job."""
        part = PartWorker(self.database, self.settings, self.storage)
        return {PART: part, BATCH: self._worker, RUN: self._work_on_run}

    def _hired(self) -> Crew | None:
        """The workers in other processes; None where there is no broker for them."""
        if not is_configured(self.settings):
            return None
        # A batch that stands in a queue needs of a job only that its lines are looked through.
        kinds = (PART, BATCH) if scaled_out(self.settings) else (PART,)
        return Crew(
            self.database, self.settings, Announced(self.jobs, self.settings, kinds), self.storage,
            charge=True, check=self.accounts.ledger.check,
        )  # fmt: skip

    def trouble(self) -> dict[str, str]:
        """Models whose last requests went wrong, in words."""
        found: dict[str, str] = {}
        for lane in self.completions.lanes.all():
            for name, shown in json.loads(lane.engine.metrics())["lanes"].items():
                if words := shown["stopped"] or shown["trouble"]:
                    found[name] = words
        return found

    def troubled_channels(self) -> dict[str, str]:
        """Doors with which something is wrong, in words."""
        found = {name: ask() for name, ask in self.channels.items()}
        return {name: words for name, words in found.items() if words is not None}

    # Models

    def has_key(self, person: Person, model: str) -> bool:
        """Whether a person's requests to a model have the key that they need."""
        try:
            self._catalog(person).provider(model).key()
        except KeyMissing:
            return False
        return True

    def rehearses(self, person: Person, model: str) -> bool:
        """Whether nobody thinks behind a model. Raises UnknownName."""
        return self._catalog(person).provider(model).rehearsal

    def try_model(self, person: Person, model: str) -> Trial:
        """Ask a model one small question, at the person's expense."""
        provider = self._catalog(person).provider(model)
        with self.accounts.ledger.reserve(person.id) as reserved:
            trial = provider.test()
            usage = trial.usage
            reserved.settle(
                "test",
                model,
                input_tokens=usage.input if usage else 0,
                output_tokens=usage.output if usage else 0,
            )
        return trial

    def add_model(self, person: Person, model: Model, key: str | None = None) -> Model:
        """Add a model for everybody, with everybody's key. Raises Forbidden, ConfigError."""
        need_admin(person, "add models")
        added = self.catalog.add(model)
        if key:
            self.accounts.provider_keys.set(person, model.name, key, everyone=True)
        self.accounts.audit.note(person.id, "model added", model.name)
        return added

    def change_model(self, person: Person, model: str, **fields: object) -> Model:
        """Change fields of a model of the catalog, as its prices, for everybody.

        Raises Forbidden, UnknownName, ConfigError for one that is described outside.
        """
        need_admin(person, "change models")
        new = checked({**asdict(self.catalog.get(model)), **fields})
        changed = self.catalog.add(new, replacing=True)
        self.accounts.audit.note(person.id, "model changed", model)
        return changed

    def slow_to_begin(self, model: Model) -> bool:
        """Whether a model must be loaded on this machine before it answers."""
        return self.shelf.slow_to_begin(model)

    def remove_model(self, person: Person, model: str) -> None:
        """Remove a model for everybody. Raises Forbidden, UnknownName, ConfigError."""
        need_admin(person, "remove models")
        if model in self.shelf.models.registry.names():
            self.shelf.remove(person, model)
            return
        self.catalog.remove(model)
        self.accounts.audit.note(person.id, "model removed", model)

    def private_models(self, person: Person) -> list[Model]:
        """Servers that batches of this person named."""
        return self._catalog(person).private()

    def remove_private_model(self, person: Person, model: str) -> None:
        """Forget a server that a batch of this person named, and the key that it was lent.

        Raises UnknownName.
        """
        self._catalog(person).remove_private(model)
        keys = ProviderKeys(self.database, self.settings)
        with suppress(NotFound):
            keys.remove(person, model)
        self.accounts.audit.note(person.id, "model removed", model)

    # Runs

    def desk(self, person: Person) -> Desk:
        """The runs of a person."""
        return Desk(
            self.database, self.settings, self._catalog(person), person.id,
            trusted=person.admin, crew=self._crew,
        )  # fmt: skip

    def preview(self, person: Person, wish: Wish, rows: int) -> Preview:
        """The first rows of a run in full, at the person's expense; nothing is kept.

        Raises as `Desk.preview`, QuotaReached.
        """
        self.accounts.ledger.check(person.id)
        seen = self.desk(person).preview(wish, rows, self._closed.is_set)
        used = seen.reading
        if used.requests:
            self.accounts.ledger.charge(
                person.id, "preview", "", requests=used.requests, input_tokens=used.tokens_in,
                output_tokens=used.tokens_out, money=used.money,
            )  # fmt: skip
        return seen

    def start_run(self, person: Person, wish: Wish) -> Run:
        """Begin a run; a worker takes it. Raises as `Desk.begin`, QuotaReached."""
        self.accounts.ledger.check(person.id)
        run = self.desk(person).begin(wish)
        self._put(person, run)
        return run

    def resume_run(self, person: Person, run: str) -> Run:
        """Go on with a run that ended short, was cancelled or interrupted."""
        found = self.desk(person).registry.get(run)
        if found.state in ("running", "finished"):
            raise Conflict(f"The run {run} is {found.state}: there is nothing to go on with.")
        if not self.jobs.all(person.id, kind=RUN, subject=run, open_only=True):
            self._put(person, found)
        return found

    def cancel_run(self, person: Person, run: str) -> None:
        """Stop a run; it can go on later."""
        found = self.desk(person).registry.get(run)
        for job in self.jobs.all(person.id, kind=RUN, subject=run, open_only=True):
            self.jobs.cancel(person.id, job.id)
            self._runs.ask(job.id)
        if found.state == "running":
            self.desk(person).registry.cancel(run)

    def open_run(self, person: Person, run: str) -> tuple[Run, Job | None]:
        """A run, and the job that works on it or did so last."""
        found = self.desk(person).registry.get(run)
        jobs = self.jobs.all(person.id, kind=RUN, subject=run, limit=1)
        return found, jobs[0] if jobs else None

    def _put(self, person: Person, run: Run) -> None:
        self.jobs.put(person.id, RUN, {"run": run.id}, subject=run.id)
        self._runs.wake()

    def _work_on_run(self, work: Work) -> None:
        person = self.accounts.people.local()
        if work.job.owner != person.id:
            person = self.accounts.people.get(work.job.owner)
        if person.disabled:
            raise Forbidden("The account is disabled, so its runs are not worked on.")
        desk = self.desk(person)
        before = desk.registry.get(work.job.payload["run"]).counts
        result = desk.work(
            work.job.payload["run"], lambda: work.stop, lambda: work.closing or work.lost
        )
        if not result.charged:
            self._charge(person, result.run, before, result.counts())

    def _charge(self, person: Person, run: str, before: object, after: object) -> None:
        """What this sitting of a run used, in the one ledger."""
        old = before if isinstance(before, dict) else {}
        new = after if isinstance(after, dict) else {}

        def more(name: str) -> float:
            return max(0.0, float(new.get(name, 0)) - float(old.get(name, 0)))

        if more("requests"):
            self.accounts.ledger.charge(
                person.id,
                "run",
                "",
                requests=int(more("requests")),
                input_tokens=int(more("tokens_in")),
                output_tokens=int(more("tokens_out")),
                money=more("money"),
                subject=run,
            )

    # Batches

    def order_batch(self, person: Person, wish: BatchWish) -> tuple[Batch, bool]:
        """Order a batch; a worker takes it. Whether it is new. Raises as `Batches.order` and
        `Servers.check`, QuotaReached, ConfigError for a part that is missing.
        """
        if words := missing(self.settings):
            raise ConfigError(words)
        self.accounts.ledger.check(person.id)
        Servers(self.database, self.settings, person).check(wish)
        batch, new = self.batches.order(person.id, wish)
        self.jobs.put(person.id, BATCH, job_of(batch), subject=batch.id, once=batch.id)
        self._batches.wake()
        return batch, new

    def replay_batch(
        self, person: Person, batch: str, blocks: Sequence[int] | None = None
    ) -> Batch:
        """Let blocks be tried again that were given up. Raises NotFound, Conflict."""
        found = self.queues.replay(person.id, batch, blocks)
        if self.conductor is not None:
            self.conductor.wake()
        return found

    def cancel_batch(self, person: Person, batch: str) -> Batch:
        """End a batch; what is answered stays. Raises NotFound, Conflict."""
        found = self.batches.cancel(person.id, batch)
        if not self.jobs.all(person.id, kind=BATCH, subject=batch, open_only=True):
            self.jobs.put(person.id, BATCH, job_of(found), subject=batch)
        self._batches.wake()
        return found

    def resume_batch(self, person: Person, batch: str) -> Batch:
        """Let a batch go on that a fault stopped. Raises NotFound, Conflict."""
        found = self.batches.resume(person.id, batch)
        if not self.jobs.all(person.id, kind=BATCH, subject=batch, open_only=True):
            self.jobs.put(person.id, BATCH, job_of(found), subject=batch)
            self._batches.wake()
        return found

    def retry_batch(self, person: Person, batch: str) -> Batch:
        """A new batch out of the requests that failed. Raises NotFound, Conflict."""
        found = self.batches.get(person.id, batch)
        if not found.ended:
            raise Conflict(f"The batch {batch} is {found.state}: let it end first.")
        upload = self.files.begin(person.id, f"{batch}_again.jsonl")
        try:
            for line in self.batches.failed_requests(person.id, batch):
                upload.write(line)
            if not upload.bytes:
                raise Conflict(f"No request of the batch {batch} failed after it was sent.")
            file = upload.commit()
        finally:
            upload.abort()
        options = found.options
        wish = BatchWish(
            file=file.id, endpoint=found.endpoint, window=options["window"], dataset=found.dataset,
            source=found.source, priority=found.priority, cache=options["cache"],
            budget=options["budget"], metadata=options["metadata"], **found.beyond,
        )  # fmt: skip
        return self.order_batch(person, wish)[0]

    # Settings

    def change_setting(self, person: Person, name: str, text: str) -> None:
        """Set something for this server; it holds from the next start. "" takes it back.

        Raises Forbidden, UnknownName, Conflict for what is set outside, ConfigError.
        """
        need_admin(person, "change the settings of this server")
        rows = {setting.name: setting for setting in table()}
        if name not in rows:
            raise UnknownName("setting", name, rows)
        row, origin = rows[name].row, self.settings.origin(name)
        if row.early or row.secret:
            raise Conflict(f"{name} can only be set outside, in {rows[name].variable}.")
        if origin not in ("default", "set in the UI"):
            raise Conflict(f"{name} is locked: it is set in {origin}.")
        if text:
            try:
                row.kind.parse(text)
            except ValueError as error:
                raise Conflict(f"{name} must be {row.kind.expects}, not {text!r}.") from error
        with self.database.begin() as connection:
            connection.execute(delete(stored_settings).where(stored_settings.c.name == name))
            if text:
                connection.execute(
                    insert(stored_settings).values(name=name, value=text, updated=now())
                )
        self.accounts.audit.note(person.id, "setting changed", name)

    def _sweep(self) -> None:
        """Forget files that nobody sent, now and then."""
        while True:
            try:
                if count := self.conversations.attachments.sweep():
                    log.info("%d files that no message got were forgotten", count)
            except (WordmillError, OSError) as error:
                log.error("files that no message got could not be forgotten: %s", error)
            if self._closed.wait(SWEEP):
                return

    def _catalog(self, person: Person) -> Catalog:
        return catalog_of(self.database, self.settings, person.id)

    def _forget(self, person: Person) -> None:
        """What is left of somebody whose account was removed.

        The runs of whoever has the command line are the machine's too, and stay.
        """
        self.conversations.remove_all(person)
        self.documents.forget(person)
        self.catalog.forget_private(person.id)
        if person.id == LOCAL:
            return
        for run in self.desk(person).registry.all():
            try:
                self.desk(person).remove(run.id)
            except WordmillError:
                self.cancel_run(person, run.id)


@contextmanager
def open_house(settings: Settings, left: Callable[[], float] | None = None) -> Iterator[House]:
    """Open everything, and work on jobs until the end. Raises StorageError, ConfigError.

    left: the seconds that closing may take, asked then; the setting `grace_seconds` without it.
    """
    with open_database(settings) as database:
        house = House(database, settings)
        house.start()
        try:
            yield house
        finally:
            house.close(settings.grace_seconds if left is None else left())
