"""The models of this machine, for every door: admins look after them, everybody sees and uses them.

What takes long is a job of whoever asked for it: a fetch, an update, a conversion. A fetch that is
paused keeps what has come, and goes on there.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from wordmill.accounts import Accounts, Person, need_admin
from wordmill.database import Database
from wordmill.errors import Conflict, InvalidInput, NotFound, WordmillError
from wordmill.jobs import ENDED, Job, Jobs
from wordmill.local_models.cache import Used
from wordmill.local_models.fit import Fit
from wordmill.local_models.hub import Found, Sort
from wordmill.local_models.local_models import Ask, LocalModels, Planned, Update
from wordmill.local_models.options import read
from wordmill.local_models.quantizing import TO, quantize
from wordmill.local_models.registry import ADDRESS, PROVIDER
from wordmill.local_models.rules import check_repository, check_revision
from wordmill.local_models.types import LocalModel
from wordmill.model_server.client import Overview, client, running
from wordmill.providers.base import Model
from wordmill.queues.base import Handler, Work
from wordmill.queues.embedded import Embedded
from wordmill.settings import Settings

FETCH: Final = "model-fetch"
UPDATE: Final = "model-update"
QUANTIZE: Final = "model-quantize"
KINDS: Final = (FETCH, UPDATE, QUANTIZE)
WORKERS: Final = 2
"""Jobs at once."""
SAID: Final = 0.5
"""Seconds between two notes in the database on how far one is."""
ENDING: Final = 15.0
"""Seconds that a job has to end before what it fetched is thrown away."""
LISTED: Final = 20

Order: TypeAlias = Literal["load", "unload", "restart", "warm"]


@dataclass(frozen=True)
class Task:
    """A job on models, as people see it. what: fetch, update or quantize.  name: of the model.

    state: as of a job, or paused.  done, of: bytes, where it fetches.
    """

    id: str
    what: str
    name: str
    repository: str
    state: str
    done: int
    of: int
    step: str
    error: str | None


class ModelShelf:
    """What people do with the models of this machine. Safe from any thread."""

    def __init__(
        self, database: Database, settings: Settings, accounts: Accounts, jobs: Jobs
    ) -> None:
        self.models = LocalModels(database, settings)
        self._accounts, self._jobs, self._settings = accounts, jobs, settings
        self._queue = Embedded(jobs, self.handlers, WORKERS)

    def start(self) -> None:
        """Begin to work on jobs."""
        self._queue.start()

    def stop(self, grace: float) -> None:
        """Give back what is at hand; another process, or the next one, goes on with it."""
        self._queue.stop(grace)

    @property
    def working(self) -> bool:
        """Whether jobs are looked for."""
        return self._queue.alive

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What does each kind of job."""
        return {FETCH: self._fetch, UPDATE: self._update, QUANTIZE: self._quantize}

    # Everybody

    def all(self) -> list[LocalModel]:
        """The models of this machine."""
        return self.models.registry.all()

    def find(self, name: str) -> LocalModel:
        """One of them. Raises UnknownName."""
        return self.models.registry.find(name)

    def fit(self, name: str, context: int | None = None, streams: int = 1) -> Fit:
        """Whether a model that is here fits the memory now. Raises UnknownName."""
        model = self.find(name)
        context = context or model.context
        return self.models.fit(model.facts, model.form, 0, context, streams)

    def used(self) -> list[tuple[Used, tuple[str, ...]]]:
        """What fetched models take of the disk, by revision, and who holds each."""
        return self.models.used()

    def loaded(self) -> Overview | None:
        """What the model server has in memory; None where none runs. Raises ConfigError."""
        client = running(self._settings)
        return None if client is None else client.overview()

    def slow_to_begin(self, model: Model) -> bool:
        """Whether a model must be loaded on this machine before it answers."""
        if model.provider != PROVIDER or not model.base_url.startswith(ADDRESS):
            return False
        try:
            there = self.loaded()
        except (WordmillError, LookupError, TypeError):  # perhaps no server of ours answers
            return True
        ready = {one.name for one in there.models if one.workers} if there is not None else set()
        return model.model not in ready

    def history(self, since: float = 0.0) -> Mapping[str, Any]:
        """By model: `history` (samples, oldest first) and `total`; empty where no server runs.

        since: Unix seconds.  Raises ConfigError.
        """
        client = running(self._settings)
        found = {} if client is None else client.history(since=since)
        return {
            name: {"history": one["history"], "total": one["total"]} for name, one in found.items()
        }

    def unfinished(self) -> Mapping[str, int]:
        """By repository, bytes of fetches that were not ended."""
        return self.models.cache.leftovers()

    # Admins

    def people(self, person: Person) -> Mapping[str, Any]:
        """By model and person, what was used since the server began. Raises Forbidden."""
        need_admin(person, "see what others use")
        client = running(self._settings)
        found = {} if client is None else client.history()
        return {name: one["people"] for name, one in found.items()}

    def order(self, person: Person, order: Order, name: str) -> None:
        """Load a model, unload, restart or warm it, and wait until that is done.

        Raises Forbidden, UnknownName, ModelFailed with the reason, ConfigError.
        """
        need_admin(person, f"{order} models")
        self.find(name)
        if order == "unload":
            if (there := running(self._settings)) is not None:
                there.unload(name)
            return
        server = client(self._settings)
        if order == "warm":
            server.warm(name)
        elif order == "load":
            server.load(name)
        else:
            server.restart(name)

    def search(
        self,
        person: Person,
        words: str = "",
        *,
        task: str = "",
        license_: str = "",
        author: str = "",
        least: int | None = None,
        most: int | None = None,
        sort: Sort = "downloads",
        limit: int = 20,
    ) -> list[Found]:
        """Models on the hub. Raises Forbidden, HubError."""
        need_admin(person, "search the hub with this server's token")
        return self.models.search(
            words, task=task, license_=license_, author=author, least=least, most=most,
            sort=sort, limit=limit,
        )  # fmt: skip

    def card(self, person: Person, repository: str, revision: str = "main") -> str:
        """A model's card: Markdown of a stranger. Raises Forbidden, HubError."""
        need_admin(person, "look into the hub with this server's token")
        return self.models.card(repository, revision)

    def plan(
        self, person: Person, ask: Ask, context: int | None = None, streams: int = 1
    ) -> Planned:
        """What a fetch would bring, and whether it fits. Raises Forbidden, as `LocalModels`."""
        need_admin(person, "look into the hub with this server's token")
        return self.models.plan(ask, context=context, streams=streams)

    def fetch(self, person: Person, ask: Ask, *, anyway: bool = False) -> Task:
        """Begin to fetch a model. Raises Forbidden, InvalidInput, ConfigError for the name."""
        need_admin(person, "fetch models")
        check_repository(ask.repository)
        check_revision(ask.revision)
        if self.models.lost(ask) is None:
            self.models.registry.check_free(ask.called)
        payload = {
            "repository": ask.repository, "revision": ask.revision, "name": ask.called,
            "file": ask.file, "anyway": anyway,
        }  # fmt: skip
        return self._put(person, FETCH, payload)

    def pause(self, person: Person, task: str) -> Task:
        """Stop a job; what has come of a model stays for `resume`. Raises Forbidden, NotFound."""
        need_admin(person, "stop what another admin began")
        job = self._job(task)
        job = self._jobs.cancel(job.owner, job.id)
        self._queue.ask(job.id)
        return _task(job)

    def resume(self, person: Person, task: str) -> Task:
        """Go on with a job that was paused or failed. Raises Forbidden, NotFound, Conflict."""
        need_admin(person, "fetch models")
        job = self._job(task)
        if job.state not in ("cancelled", "failed"):
            raise Conflict(f"This is {job.state}: there is nothing to go on with.")
        return self._put(person, job.kind, job.payload)

    def discard(self, person: Person, task: str) -> int:
        """Stop a job, and throw away what it fetched; the bytes. Raises Forbidden, NotFound."""
        job = self._job(task)
        self.pause(person, task)
        until = time.monotonic() + ENDING
        while self._job(task).state not in ENDED:
            if time.monotonic() > until:
                raise Conflict("It has not stopped yet. Try again in a moment.")
            time.sleep(0.05)
        repository = job.payload.get("repository")
        return self.models.discard(str(repository)) if repository else 0

    def take(self, person: Person, path: Path, name: str = "") -> LocalModel:
        """Put a folder or a GGUF file of one's own on the shelf. Raises Forbidden, InvalidInput."""
        need_admin(person, "add models")
        model = self.models.take(path, person.id, name)
        self._note(person, "model added", model.name)
        return model

    def quantize(
        self, person: Person, name: str, to: str, called: str = "", text: str = ""
    ) -> Task:
        """Begin to make a smaller model out of one. Raises Forbidden, UnknownName, InvalidInput."""
        need_admin(person, "convert models")
        self.find(name)
        if to not in TO:
            raise InvalidInput(f"A model can be made {', '.join(TO)}, not {to[:40]!r}.", "to")
        self.models.registry.check_free(called or f"{name}-{to}")
        payload = {"model": name, "to": to, "name": called or f"{name}-{to}", "text": text}
        return self._put(person, QUANTIZE, payload)

    def newer(self, person: Person, name: str) -> Update | None:
        """What is newer of a model. Raises Forbidden, UnknownName, HubError."""
        need_admin(person, "look into the hub with this server's token")
        return self.models.newer(name)

    def update(self, person: Person, name: str) -> Task:
        """Begin to fetch what is newer of a model. Raises Forbidden, UnknownName."""
        need_admin(person, "update models")
        model = self.find(name)
        return self._put(person, UPDATE, {"name": name, "repository": model.repository})

    def roll_back(self, person: Person, name: str, revision: str = "") -> LocalModel:
        """Use an earlier revision again. Raises Forbidden, UnknownName, Conflict."""
        need_admin(person, "change models")
        model = self.models.roll_back(name, revision)
        self._note(person, "model rolled back", name)
        return model

    def set(self, person: Person, name: str, words: Mapping[str, str]) -> LocalModel:
        """Change how a model is run, from its next load on. Raises Forbidden, InvalidInput."""
        need_admin(person, "change models")
        model = self.models.registry.change(name, **read(self.find(name), words))
        there = running(self._settings) if "pinned" in words else None
        if there is not None and any(one.name == name for one in there.overview().models):
            there.pin(name, model.pinned)
        self._note(person, "model changed", name)
        return model

    def remove(self, person: Person, name: str) -> int:
        """Forget a model and what was fetched or made of it; bytes. Raises Forbidden."""
        need_admin(person, "remove models")
        self.find(name)
        if (there := running(self._settings)) is not None:
            there.unload(name)
        freed = self.models.remove(name)
        self._note(person, "model removed", name)
        return freed

    def remove_revision(self, person: Person, repository: str, commit: str) -> int:
        """Delete a revision that no model uses; bytes. Raises Forbidden, Conflict."""
        need_admin(person, "remove models")
        freed = self.models.remove_revision(repository, commit)
        self._note(person, "model revision removed", f"{repository}@{commit}")
        return freed

    def store_token(self, person: Person, token: str) -> str:
        """Try a token of the hub and keep it encrypted; whose it is. Raises Forbidden, HubError."""
        need_admin(person, "store the token for the hub")
        name = self.models.store_token(token)
        self._note(person, "hub token stored", name)
        return name

    def remove_token(self, person: Person) -> None:
        """Forget the stored token. Raises Forbidden, NotFound."""
        need_admin(person, "remove the token for the hub")
        if not self.models.tokens.remove():
            raise NotFound("stored token of the hub", self.models.tokens.url)
        self._note(person, "hub token removed", "")

    # Jobs

    def tasks(self, person: Person) -> list[Task]:
        """What is under way, and what this admin had done before, the newest first."""
        need_admin(person, "see what is being fetched")
        found = {job.id: job for kind in KINDS for job in self._jobs.open(kind)}
        for kind in KINDS:
            own = self._jobs.all(person.id, kind=kind, limit=LISTED)
            found.update({job.id: job for job in own})
        return [_task(found[name]) for name in sorted(found, reverse=True)][:LISTED]

    def task(self, person: Person, task: str) -> Task:
        """One of them. Raises Forbidden, NotFound."""
        need_admin(person, "see what is being fetched")
        return _task(self._job(task))

    def _job(self, task: str) -> Job:
        found = [job for job in self._jobs.these([task]) if job.kind in KINDS]
        if not found:
            raise NotFound("task", task)
        return found[0]

    def _put(self, person: Person, kind: str, payload: Mapping[str, Any]) -> Task:
        for job in self._jobs.open(kind):
            if job.payload.get("name") == payload["name"] and not job.cancel_requested:
                return _task(job)
        subject = f"model {payload['name']}"[:64]
        put = self._jobs.put(person.id, kind, payload, subject=subject)
        self._queue.wake()
        return _task(self._job(put))

    def _fetch(self, work: Work) -> None:
        wish = work.job.payload
        ask = Ask(wish["repository"], wish["revision"], wish["name"], wish["file"])
        self._doing(work, "model fetched", ask.called, lambda heard: self.models.fetch(
            ask, work.job.owner, heard, lambda: work.stop, anyway=bool(wish.get("anyway"))
        ))  # fmt: skip

    def _update(self, work: Work) -> None:
        name = work.job.payload["name"]
        self._doing(work, "model updated", name, lambda heard: self.models.update(
            name, heard, lambda: work.stop
        ))  # fmt: skip

    def _quantize(self, work: Work) -> None:
        wish = work.job.payload
        self._doing(work, "model quantized", wish["name"], lambda heard: quantize(
            self.models, wish["model"], wish["to"], work.job.owner, heard, lambda: work.stop,
            called=wish["name"], text=wish["text"],
        ))  # fmt: skip

    def _doing(self, work: Work, action: str, name: str, do: Any) -> None:
        """Do the work of a job with the rights that its owner has now; note it."""
        owner = self._owner(work.job.owner)
        need_admin(owner, "look after models")
        if work.job.kind != UPDATE and self._made(work.job, name):
            return
        last = 0.0

        def heard(line: Mapping[str, Any]) -> None:
            nonlocal last
            whole = line.get("bytes") == line.get("of")
            if whole or time.monotonic() - last >= SAID:
                last = time.monotonic()
                work.lease.progress(**line)

        try:
            do(heard)
        except InterruptedError:
            return  # somebody asked for it, or this process ends: the queue knows which
        self._note(owner, action, name)

    def _made(self, job: Job, name: str) -> bool:
        """Whether the process that had the job before ended when all was done but this."""
        models = self.models.registry
        again = job.attempts > 1 and name in models.names()
        return again and models.find(name).created >= job.created

    def _owner(self, person: str) -> Person:
        local = self._accounts.people.local()
        return local if person == local.id else self._accounts.people.get(person)

    def _note(self, person: Person, action: str, subject: str) -> None:
        self._accounts.audit.note(person.id, action, subject)


def _task(job: Job) -> Task:
    progress = job.progress
    state: str = job.state
    if state == "cancelled":
        state = "paused" if job.kind != QUANTIZE else state
    elif job.cancel_requested and state not in ENDED:
        state = "stopping"
    return Task(
        id=job.id, what=job.kind.removeprefix("model-"), name=str(job.payload.get("name", "")),
        repository=str(job.payload.get("repository") or job.payload.get("model") or ""),
        state=state, done=int(progress.get("bytes", 0)), of=int(progress.get("of", 0)),
        step=str(progress.get("step", "")), error=job.error,
    )  # fmt: skip
