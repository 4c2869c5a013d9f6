"""Finds models, says whether they fit, brings them here, and keeps them in order.

Who may do which of it is decided above; here it is done. What is begun and fails leaves nothing
behind but whole files that the next try does not fetch again.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from wordmill.database import Database, now
from wordmill.errors import Conflict, HubError, InvalidInput, WordmillError
from wordmill.local_models import rules
from wordmill.local_models.cache import Cache, Used, check_links
from wordmill.local_models.child import Json, run
from wordmill.local_models.fetching import Wish
from wordmill.local_models.fit import Fit, fit
from wordmill.local_models.gguf import Pieces, read_head
from wordmill.local_models.hub import About, Change, Found, Hub, Sort
from wordmill.local_models.machine import PACKAGES, installed, room, this_machine
from wordmill.local_models.registry import Registry
from wordmill.local_models.tokens import Tokens
from wordmill.local_models.types import (
    BYTES,
    ENGINES,
    Earlier,
    Facts,
    Form,
    LocalModel,
    Remote,
    Task,
)
from wordmill.local_models.weights import facts_from, facts_of, form_of, read_json
from wordmill.settings import Settings
from wordmill.storage import said

FETCHING: Final = "wordmill.local_models.fetching"
DTYPES: Final = ("float32", "bfloat16", "float16", "int8", "int4")
_BEGINS: Final = ("config.json", "openvino_model.xml")
GGUF_HEAD: Final = 64 << 20
"""Bytes of a GGUF file that are looked at before it is fetched: its vocabulary is in its head."""

Stop = Callable[[], bool]
Heard = Callable[[Json], None]


@dataclass(frozen=True)
class Ask:
    """Which model is wanted. name: for the catalog; "" for the repository's own.

    revision: a branch or tag that will be followed, or a commit that it stays at.
    file: the one of several GGUF files.
    """

    repository: str
    revision: str = "main"
    name: str = ""
    file: str | None = None

    @property
    def called(self) -> str:
        """Its name in the catalog."""
        return self.name or self.repository.rpartition("/")[2]


@dataclass(frozen=True)
class Planned:
    """What a fetch would bring. notes: sentences for who decides."""

    ask: Ask
    about: About
    form: Form
    files: tuple[Remote, ...]
    facts: Facts
    fit: Fit
    remote_code: bool
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Update:
    """What is newer on the hub. files: names that are new, changed or gone."""

    revision: str
    changes: tuple[Change, ...]
    files: tuple[str, ...]
    download: int


class LocalModels:
    """The models of this machine. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.models_folder or settings.home / "models"
        self.cache = Cache(self.folder)
        self.registry = Registry(database, settings)
        self.tokens = Tokens(database, settings)

    # The hub

    @property
    def offline(self) -> bool:
        """Whether the hub is not asked at all."""
        said = (self.settings.secret("HF_HUB_OFFLINE") or "").upper()
        return self.settings.hub_offline or said in ("1", "TRUE", "YES", "ON")

    def hub(self) -> Hub:
        """The hub. Raises HubError in offline mode."""
        if self.offline:
            raise HubError(
                "Offline mode is on (the setting hub_offline, or HF_HUB_OFFLINE): the hub is not "
                "asked. Models that are here can be used, and a folder or a GGUF file imported."
            )
        return Hub(self.tokens.url, self.tokens.find())

    def store_token(self, token: str) -> str:
        """Try a token at the hub and keep it, encrypted; whose it is. Raises HubError."""
        self.hub()
        return self.tokens.store(token)

    def search(
        self,
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
        """Models on the hub. Raises HubError."""
        return self.hub().search(
            words, task=task, license_=license_, author=author, least=least, most=most,
            sort=sort, limit=limit,
        )  # fmt: skip

    def card(self, repository: str, revision: str = "main") -> str:
        """What a model's owner wrote about it, as Markdown of a stranger. Raises HubError."""
        return self.hub().card(repository, rules.check_revision(revision))

    def plan(self, ask: Ask, *, context: int | None = None, streams: int = 1) -> Planned:
        """What a fetch would bring, and whether it would run here; nothing is fetched.

        context: tokens to reckon with.  streams: conversations at once.
        Raises HubError; InvalidInput for what may not or cannot be used, with the reason.
        """
        rules.check_repository(ask.repository)
        rules.check_revision(ask.revision)
        hub = self.hub()
        about = hub.about(ask.repository, ask.revision)
        rules.check_license(ask.repository, about.found.license, self.settings.model_licenses)
        allowed = self.settings.remote_code
        form, files = rules.chosen(about.files, ask.repository, ask.file)
        config = {} if form == "gguf" else hub.config(ask.repository, about.commit)
        code = rules.check_code(config, ask.repository, about.commit, allowed)
        if code:
            form, files = rules.chosen(about.files, ask.repository, ask.file, code=True)
        notes = []
        if config.get("auto_map") and not code:
            notes.append("It brings code of its own, which is not fetched: it runs without.")
        if about.found.gated:
            notes.append("It is gated: its owner let this server's token in.")
        facts = self._facts(hub, ask, about, form, files, config)
        notes += _engine(form, facts.task)
        measured = self.fit(
            facts, form, self.cache.missing(ask.repository, files), context, streams
        )
        return Planned(ask, about, form, tuple(files), facts, measured, code, tuple(notes))

    def fit(
        self,
        facts: Facts,
        form: Form,
        download: int,
        context: int | None = None,
        streams: int = 1,
    ) -> Fit:
        """Whether a model fits this machine now, at its own precision and at smaller ones."""
        own = facts.dtype or "float32"
        smaller = [name for name in DTYPES if BYTES[name] < BYTES[own] and name != "float16"]
        dtypes = (own, *smaller) if form == "safetensors" and facts.task == "chat" else (own,)
        engine = "transformers" if form == "safetensors" else form
        return fit(
            facts, this_machine(), room=room(self.folder), download=download, dtypes=dtypes,
            engine=engine, context=context, streams=streams,
        )  # fmt: skip

    def _facts(
        self,
        hub: Hub,
        ask: Ask,
        about: About,
        form: Form,
        files: Sequence[Remote],
        config: Mapping[str, Any],
    ) -> Facts:
        kinds = {"safetensors": ".safetensors", "openvino": ".bin", "gguf": ".gguf"}
        weights = [file for file in files if file.name.endswith(kinds[form])]
        whole = sum(file.size for file in weights)
        if form == "gguf":
            url = hub.place(ask.repository, about.commit, weights[0].name)
            opened = hub.open(url, ask.repository, about.commit)
            if opened is None:
                raise HubError(f"{weights[0].name} of {ask.repository} is not there any more.")
            try:
                head = Pieces(opened.pieces(), GGUF_HEAD)
                return read_head(head, weights[0].name, weights[0].size)
            finally:
                opened.close()
        template = any(file.name == "chat_template.jinja" for file in files)
        counts = about.counts if form == "safetensors" else {}
        sentences = any(file.name == "modules.json" for file in files)
        facts = facts_from(config, counts, whole, template, sentences=sentences)
        if form == "openvino":
            name = ask.repository.lower()
            dtype = "int4" if "int4" in name else "int8" if "int8" in name else "float16"
            facts = replace(facts, dtype=dtype)
        return facts

    # Bringing here

    def fetch(
        self, ask: Ask, owner: str, heard: Heard, stop: Stop, *, anyway: bool = False
    ) -> LocalModel:
        """Fetch a model, check it, and put it on the shelf.

        heard: how far it is, as `{"bytes": 1, "of": 2}`.  stop: ends it; what has come is kept, and
        the next fetch goes on there.  anyway: also where it does not fit the memory.
        Raises as `plan`; InvalidInput where it does not fit or its files are not as they must be,
        ConfigError for a name that is taken, StorageError, InterruptedError after a `stop`.
        A model of that name whose files are gone, as after a restored backup, gets them back.
        """
        lost = self.lost(ask)
        if lost is None:
            self.registry.check_free(ask.called)
        else:
            ask = replace(ask, revision=lost.revision, file=self.registry.files(lost.name)["file"])
        planned = self.plan(ask)
        if planned.fit.verdict == "no" and (planned.fit.disk == "no" or not anyway):
            raise InvalidInput(f"{ask.repository} was not fetched. {planned.fit.sentence}")
        path, facts = self._bring(planned, heard, stop)
        if lost is not None:
            return self.registry.change(lost.name, path=path, facts=facts)
        at, follows = now(), "" if rules.COMMIT.fullmatch(ask.revision) else ask.revision
        model = LocalModel(
            name=ask.called, source="hub", form=planned.form, path=path, owner=owner, created=at,
            updated=at, repository=ask.repository, revision=planned.about.commit, follows=follows,
            license=planned.about.found.license, remote_code=planned.remote_code,
            size=planned.size, facts=facts,
        )  # fmt: skip
        return self.registry.add(model, {"file": ask.file})

    def lost(self, ask: Ask) -> LocalModel | None:
        """The model of that name, if it is of that repository and its files are gone."""
        if ask.called not in self.registry.names():
            return None
        model = self.registry.find(ask.called)
        same = model.source == "hub" and model.repository == ask.repository
        return model if same and not model.path.exists() else None

    def _bring(self, planned: Planned, heard: Heard, stop: Stop) -> tuple[Path, Facts]:
        ask, commit = planned.ask, planned.about.commit
        ref = ask.revision if not rules.COMMIT.fullmatch(ask.revision) else ""
        wish = Wish(
            self.tokens.url, self.tokens.find(), str(self.folder), ask.repository, commit,
            planned.files, ref,
        )  # fmt: skip
        done = run(FETCHING, wish.line(), heard, stop)
        folder = Path(done["path"])
        path = folder
        if planned.form == "gguf":
            (name,) = (one.name for one in planned.files if one.name.endswith(".gguf"))
            path = folder / name
        try:
            check_links(folder, self.cache.at(ask.repository))
            return path, facts_of(path)
        except WordmillError:
            if not self._holders(ask.repository, commit):
                self.cache.remove(ask.repository, commit)
            raise

    def discard(self, repository: str) -> int:
        """Throw away what was fetched of a repository and belongs to no model; bytes."""
        return self.cache.sweep(repository)

    def take(self, path: Path, owner: str, name: str = "") -> LocalModel:
        """Put a folder or a GGUF file of one's own on the shelf; its files stay where they are.

        Raises InvalidInput for what is no model that can be run, ConfigError for the name.
        """
        if not path.exists():
            raise InvalidInput(f"There is no {path}.", "path")
        path = path.resolve()
        if path.is_file() and path.suffix != ".gguf":
            raise InvalidInput(
                f"{path.name} is a single file: only a GGUF file is a whole model. Name the folder "
                "with config.json and *.safetensors.",
                "path",
            )
        called = name or (path.stem if path.is_file() else path.name)
        self.registry.check_free(called)
        form = self._checked(path)
        facts, at = facts_of(path), now()
        size = sum(one.stat().st_size for one in _files(path))
        model = LocalModel(
            name=called, source="file" if path.is_file() else "folder", form=form, path=path,
            owner=owner, created=at, updated=at, size=size, facts=facts,
        )  # fmt: skip
        return self.registry.add(model)

    def _checked(self, path: Path) -> Form:
        """The form of somebody's own model, by the same rules as one of the hub."""
        if path.is_file():
            return "gguf"
        with said(path):
            begins = any((path / name).is_file() for name in _BEGINS) or any(path.glob("*.gguf"))
            if not begins:  # before all that lies below is looked through
                raise InvalidInput(
                    f"{path} has no config.json, so nothing says what model it is.", "path"
                )
            files = _files(path)
        check_links(path, path)
        named = [
            Remote(one.relative_to(path).as_posix(), 0, "")
            for one in files
            if not one.name.startswith(".")
        ]
        rules.chosen(named, str(path))
        form = form_of(path)
        if form == "safetensors" and rules.needs_code(read_json(path / "config.json")):
            raise InvalidInput(
                f"{path} brings Python code of its own (auto_map in its config.json), which is "
                "not run."
            )
        return form

    # Keeping

    def newer(self, name: str) -> Update | None:
        """What is newer on the hub; None for nothing, or for a model that stays as it is.

        Raises UnknownName, HubError.
        """
        model = self.registry.find(name)
        if not model.follows:
            return None
        hub = self.hub()
        about = hub.about(model.repository, model.follows)
        if about.commit == model.revision:
            return None
        file = self.registry.files(name).get("file")
        _, new = rules.chosen(about.files, model.repository, file, model.remote_code)
        old = hub.about(model.repository, model.revision)
        _, had = rules.chosen(old.files, model.repository, file, model.remote_code)
        known = {one.name: one.digest for one in had}
        changed = {one.name for one in new if known.pop(one.name, None) != one.digest}
        changes = []
        for change in hub.history(model.repository, about.commit):
            if change.commit == model.revision:
                break
            changes.append(change)
        download = self.cache.missing(model.repository, new)
        return Update(about.commit, tuple(changes), tuple(sorted({*changed, *known})), download)

    def update(self, name: str, heard: Heard, stop: Stop) -> LocalModel:
        """Fetch what is newer and use it, in a moment where it is loaded; the old revision stays
        for `roll_back`. Raises Conflict where there is nothing newer, and as `fetch`.
        """
        model = self.registry.find(name)
        if not model.follows:
            raise Conflict(
                f"{name} stays at {model.revision[:12] or 'its files'}: it follows no branch. "
                f"`wordmill models set {name} follows=main` lets it."
            )
        file = self.registry.files(name).get("file")
        planned = self.plan(Ask(model.repository, model.follows, name, file))
        if planned.about.commit == model.revision:
            raise Conflict(f"{name} is at the newest commit of {model.follows} already.")
        if planned.fit.disk == "no":
            raise InvalidInput(f"{name} was not updated. {planned.fit.sentence}")
        path, facts = self._bring(planned, heard, stop)
        return self.registry.change(
            name, path=path, facts=facts, revision=planned.about.commit, form=planned.form,
            size=planned.size, license=planned.about.found.license,
            remote_code=planned.remote_code, earlier=_with(model),
        )  # fmt: skip

    def roll_back(self, name: str, revision: str = "") -> LocalModel:
        """Use an earlier revision again, in a moment where it is loaded: the last one, or the one
        whose commit begins so. Raises Conflict where there is none, InvalidInput for one whose code
        may not run any more.
        """
        model = self.registry.find(name)
        fitting = [
            one
            for one in reversed(model.earlier)
            if one.revision.startswith(revision) and one.path.exists()
        ]
        if not fitting:
            raise Conflict(
                f"{name} has no earlier revision{f' {revision!r}' if revision else ''} on this "
                "disk. Fetch it again at that commit, under another name."
            )
        back = fitting[0]
        form, code = form_of(back.path), False
        if form == "safetensors":
            config = read_json(back.path / "config.json")
            allowed = self.settings.remote_code
            code = rules.check_code(config, model.repository, back.revision, allowed)
        return self.registry.change(
            name, path=back.path, revision=back.revision, facts=facts_of(back.path), form=form,
            size=sum(one.stat().st_size for one in _files(back.path)), remote_code=code,
            earlier=tuple(one for one in _with(model) if one.revision != back.revision),
        )  # fmt: skip

    def remove(self, name: str) -> int:
        """Forget a model and its files; the bytes that this frees. One's own files stay."""
        model = self.registry.remove(name)
        if model.source == "made":
            there = model.path.exists()
            with said(model.path):
                if there:
                    shutil.rmtree(model.path)
            return model.size if there else 0
        freed = 0
        if model.source == "hub":
            for revision in {model.revision, *(one.revision for one in model.earlier)}:
                if not self._holders(model.repository, revision):
                    freed += self.cache.remove(model.repository, revision)
        return freed

    def remove_revision(self, repository: str, commit: str) -> int:
        """Delete a commit that no model uses now; the bytes that this frees.

        commit: its first digits are enough.  Raises Conflict for one in use, InvalidInput.
        """
        rules.check_repository(repository)
        fitting = [
            one
            for one in self.cache.used()
            if one.repository == repository and commit and one.commit.startswith(commit)
        ]
        if len(fitting) != 1:
            what = "several revisions begin" if fitting else "no revision begins"
            raise InvalidInput(f"Of {repository}, {what} with {commit[:40]!r}.", "revision")
        (found,) = fitting
        using = [
            model.name
            for model in self.registry.all()
            if model.repository == repository and model.revision == found.commit
        ]
        if using:
            raise Conflict(
                f"{using[0]} uses this revision. `wordmill models remove {using[0]}` removes both."
            )
        for model in self.registry.all():
            kept = tuple(one for one in model.earlier if one.revision != found.commit)
            if model.repository == repository and len(kept) < len(model.earlier):
                self.registry.change(model.name, earlier=kept)
        return self.cache.remove(repository, found.commit)

    def used(self) -> list[tuple[Used, tuple[str, ...]]]:
        """Every revision on the disk, and the models that hold it, now or to go back to."""
        return [
            (one, tuple(model.name for model in self._holders(one.repository, one.commit)))
            for one in self.cache.used()
        ]

    def _holders(self, repository: str, commit: str) -> list[LocalModel]:
        return [
            model
            for model in self.registry.all()
            if model.repository == repository
            and commit in {model.revision, *(one.revision for one in model.earlier)}
        ]


def _with(model: LocalModel) -> tuple[Earlier, ...]:
    """The earlier revisions and the one of now, which is about to be one."""
    kept = [one for one in model.earlier if one.revision != model.revision]
    return (*kept, Earlier(model.revision, model.path, now()))


def _files(path: Path) -> list[Path]:
    """The files of a folder, or the file. Raises InvalidInput for too many."""
    if path.is_file():
        return [path]
    found = list(islice(path.rglob("*"), rules.FILES + 1))
    if len(found) > rules.FILES:
        raise InvalidInput(
            f"{path} has more than {rules.FILES:,} files: it is no folder of a model.", "path"
        )
    return sorted(one for one in found if one.is_file())


def _engine(form: Form, task: Task) -> Iterator[str]:
    """What runs a model of this form, where that is not there, or another would be faster."""
    engine = ENGINES[form][0]
    if not installed(engine):
        extra = PACKAGES[engine][1]
        yield f'It runs on {engine}, which is not installed here: pip install "wordmill[{extra}]".'
    if form == "safetensors" and task == "chat" and not this_machine().gpus:
        yield (
            "On a processor OpenVINO answers about twice as fast: `wordmill models quantize` makes "
            "such a model out of it, in int8 or in its own precision, or fetch one that was "
            "converted already (their names often end in -ov)."
        )
