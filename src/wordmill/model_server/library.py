"""Where the server looks models up: those of this machine's catalog, and those named at its start.

Here the engine of a model is chosen, and said why: the best that reads its weights and is
installed, unless a person chose one.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wordmill.backends.base import CACHE_TOKENS
from wordmill.database import Database
from wordmill.errors import ConfigError, InvalidInput, UnknownName
from wordmill.local_models.fit import need
from wordmill.local_models.machine import installed
from wordmill.local_models.registry import Registry
from wordmill.local_models.types import BYTES, ENGINES, Form, LocalModel
from wordmill.local_models.weights import form_of
from wordmill.model_server.types import Described, Library
from wordmill.settings import Settings


class Shelf:
    """The models of this machine, as `wordmill models` keeps them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._registry = Registry(database, settings)
        self._allowed = settings.remote_code

    def find(self, name: str) -> Described | None:
        """See Library."""
        try:
            return described(self._registry.find(name), self._allowed)
        except UnknownName:
            return None

    def names(self) -> Sequence[str]:
        """See Library."""
        return self._registry.names()


class Named:
    """Models that were named when the server started; beside them, those of another library."""

    def __init__(self, paths: Mapping[str, Path], others: Library | None = None) -> None:
        self._models = {name: _named(name, path.expanduser()) for name, path in paths.items()}
        self._others = others

    def find(self, name: str) -> Described | None:
        """See Library."""
        found = self._models.get(name)
        if found is None and self._others is not None:
            return self._others.find(name)
        return found

    def names(self) -> Sequence[str]:
        """See Library."""
        others = () if self._others is None else self._others.names()
        return sorted({*self._models, *others})


def described(model: LocalModel, allowed: Collection[str] = ()) -> Described:
    """A model of the shelf, with the engine that runs it and the memory that it will take.

    allowed: repositories at a commit whose code may run, as `owner/name@commit` in lower case: what
    was allowed when it was fetched may have been taken back.
    """
    code = model.remote_code and f"{model.repository}@{model.revision}".lower() in allowed
    engine, why = chosen(model.form, model.engine)
    options: dict[str, object] = {
        "device": model.device,
        "dtype": model.dtype,
        "threads": model.threads,
        "context": model.context,
        "remote_code": code or None,
    }
    dtype = model.dtype or model.facts.dtype
    memory = None
    if dtype in BYTES or (dtype == model.facts.dtype and model.facts.weights):
        context = min(model.context or CACHE_TOKENS, model.facts.context or CACHE_TOKENS)
        # An engine's room has its size whatever the context is; what embeds has none.
        streams = -(-CACHE_TOKENS // context) if model.facts.task == "chat" else 1
        wanted = need(model.facts, dtype, engine=engine, context=context, streams=streams)
        memory = wanted.memory
        if engine == "gguf":
            options["kept_bytes"] = wanted.cache // 2
            memory += wanted.cache // 2
    return Described(
        name=model.name,
        path=model.path,
        engine=engine,
        options=options,
        memory=memory,
        pinned=model.pinned,
        why=why,
    )


def chosen(form: Form, wanted: str | None = None) -> tuple[str, str]:
    """The engine for weights of a form, and why it, in a sentence.

    wanted: the one that a person chose.
    """
    able = ENGINES[form]
    if wanted is not None:
        return wanted, f"{wanted} was chosen."
    here = [engine for engine in able if installed(engine)]
    if not here:
        return able[0], f"{able[0]} reads its weights ({form}); it is not installed."
    others = [engine for engine in able if engine != here[0]]
    beside = f" before {' and '.join(others)}" if others else ", and no other engine does"
    return here[0], f"{here[0]} reads its weights ({form}){beside}."


def paths_of(texts: Sequence[str]) -> Mapping[str, Path]:
    """Of `NAME=PATH`, each. Raises ConfigError for another form, and for a path that is not."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise ConfigError(f"--model {text!r} is not written as NAME=FOLDER.")
        found[name] = Path(path)
        if not found[name].expanduser().exists():
            raise ConfigError(f"--model {text!r}: there is nothing at {path}.")
    return found


def _named(name: str, path: Path) -> Described:
    engine, why = chosen(_form(path))
    return Described(name=name, path=path, engine=engine, why=why)


def _form(path: Path) -> Form:
    """How its weights are kept; where there are none, the engine says so."""
    try:
        return form_of(path)
    except InvalidInput:
        return "safetensors"
