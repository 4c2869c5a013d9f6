"""What every door of a process shares: opened once, closed in order.

A door (the web, the API, the shell) translates and asks the house; the rules of the business are in
what the house opens, so that they are the same behind every door.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import delete, insert

from wordmill.accounts import Accounts, Person, catalog_of, need_admin
from wordmill.chat.conversations import Conversations
from wordmill.chat.turns import Chat
from wordmill.completions import Completions
from wordmill.database import LOCAL, Database, now, open_database
from wordmill.database import settings as stored_settings
from wordmill.errors import Conflict, Forbidden, KeyMissing, UnknownName, WordmillError
from wordmill.jobs import Jobs
from wordmill.models import Catalog
from wordmill.providers.base import Model, Trial
from wordmill.queues.base import Work
from wordmill.queues.embedded import Embedded
from wordmill.runs.desk import Desk, Wish
from wordmill.runs.registry import Run
from wordmill.settings import Settings, table

RUN: Final = "run"
RUNS: Final = 2
"""Runs that are worked on at once."""
GRACE: Final = 8.0
"""Seconds that work at hand has to come to a stop when the house closes."""


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
        self.catalog = Catalog(database, settings)
        self.accounts.people.when_removed(self._forget)
        self._runs = Embedded(self.jobs, {RUN: self._work_on_run}, RUNS)

    def start(self) -> None:
        """Begin to work on jobs."""
        self.chat.open()
        self._runs.start()

    def close(self) -> None:
        """Give back what is at hand, and close everything."""
        self.chat.close(GRACE)
        self._runs.stop(GRACE)
        self.completions.close()
        self.conversations.close()

    @property
    def working(self) -> bool:
        """Whether the workers are at their places."""
        return self.chat.working and self._runs.alive

    def trouble(self) -> dict[str, str]:
        """Models whose last requests went wrong, in words."""
        found: dict[str, str] = {}
        for lane in self.completions.lanes.all():
            for name, shown in json.loads(lane.engine.metrics())["lanes"].items():
                if words := shown["stopped"] or shown["trouble"]:
                    found[name] = words
        return found

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

    def remove_model(self, person: Person, model: str) -> None:
        """Remove a model for everybody. Raises Forbidden, UnknownName, ConfigError."""
        need_admin(person, "remove models")
        self.catalog.remove(model)
        self.accounts.audit.note(person.id, "model removed", model)

    # Runs

    def desk(self, person: Person) -> Desk:
        """The runs of a person."""
        return Desk(
            self.database, self.settings, self._catalog(person), person.id, trusted=person.admin
        )

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
        result = desk.work(work.job.payload["run"], lambda: work.stop)
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

    def _catalog(self, person: Person) -> Catalog:
        return catalog_of(self.database, self.settings, person.id)

    def _forget(self, person: Person) -> None:
        """What is left of somebody whose account was removed.

        The runs of whoever has the command line are the machine's too, and stay.
        """
        self.conversations.remove_all(person)
        if person.id == LOCAL:
            return
        for run in self.desk(person).registry.all():
            try:
                self.desk(person).remove(run.id)
            except WordmillError:
                self.cancel_run(person, run.id)


@contextmanager
def open_house(settings: Settings) -> Iterator[House]:
    """Open everything, and work on jobs until the end. Raises StorageError, ConfigError."""
    with open_database(settings) as database:
        house = House(database, settings)
        house.start()
        try:
            yield house
        finally:
            house.close()
