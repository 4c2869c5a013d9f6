"""The catalog of models: which there are, where they are, what they cost, who stands in for whom.

Three sources, the later wins: the model `rehearsal`, which always exists; the database, where
`wordmill models add` writes; and the `[models.NAME]` tables of a project's wordmill.toml. A table
that says `provider` or `base_url` describes its model whole; one that does not changes single
fields of the database's model.

A person may have private entries beside these, which nobody else sees: servers that a batch named
by their addresses. In the database their names begin with the person's id and a space.

`providers` speaks to the servers; here they are only chosen.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from sqlalchemy import Row as DatabaseRow
from sqlalchemy import delete, insert, or_, select

from wordmill import database as tables
from wordmill import plugins
from wordmill.database import LOCAL, Database
from wordmill.errors import ConfigError, UnknownName
from wordmill.providers.base import VARIABLE, KeySource, Model, Private, Provider, no_keys
from wordmill.providers.dialect import BOUNDS
from wordmill.providers.local import IDENTITY as LOCAL_MODELS
from wordmill.providers.presets import PRESETS
from wordmill.providers.rehearsal import IDENTITY
from wordmill.secrets import scrub
from wordmill.settings import Settings

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["REHEARSAL", "Catalog", "Model", "checked"]

Source: TypeAlias = Literal["built in", "catalog", "wordmill.toml", "private"]

REHEARSAL = Model(name="rehearsal", provider="rehearsal", base_url=IDENTITY, model="rehearsal")
"""Always there, needs nothing, never a silent stand-in for another."""

LACKING = frozenset({
    "json_schema", "json_object", "system", "parts", "seed", "vision",
    *BOUNDS, "chat_template_kwargs", "frequency_penalty", "logit_bias", "logprobs", "metadata",
    "min_p", "modalities",
    "parallel_tool_calls", "presence_penalty", "prediction", "reasoning_effort",
    "repetition_penalty", "response_format", "service_tier", "stop", "store", "stream_options",
    "temperature", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "user", "verbosity",
})  # fmt: skip
"""What `without` may name: what a server may lack, or a field of a request."""

LOCAL_PROVIDER = "local"
"""Of the models of this machine, and of model servers elsewhere that have an address."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
LONGEST_URL, LONGEST_VARIABLE = 2_000, 200
"""Characters that the database holds."""

_SECRET_HEADER = re.compile(
    r"(?i)authorization|cookie|(?:api|access|auth)[-_]?(?:key|token)|secret"
)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Catalog:
    """The models that this person, in this project, can name.

    keys: where the person's stored keys are looked up; `accounts.catalog_of` hands them in.
    person: whose private entries it shows; without one, nobody's.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        keys: KeySource = no_keys,
        person: str | None = None,
    ) -> None:
        self._database, self._settings, self._keys = database, settings, keys
        self._person = person

    def names(self) -> list[str]:
        """All names, sorted."""
        column, own = tables.models.c.name, f"{self._person} "
        ours = or_(~column.contains(" "), column.startswith(own, autoescape=True))
        with self._database.read() as connection:
            stored = connection.execute(select(column).where(ours)).scalars()
            names = {name.partition(" ")[2] or name for name in stored}
        return sorted({REHEARSAL.name, *names, *self._settings.models})

    def get(self, name: str) -> Model:
        """The model of that name. Raises UnknownName with the nearest ones."""
        return self._find(name)[0]

    def all(self) -> list[tuple[Model, Source]]:
        """Every model and where it comes from, by name."""
        return [self._find(name) for name in self.names()]

    def chain(self, name: str) -> tuple[Model, ...]:
        """The model, its fallback, that one's fallback, and so on.

        Raises UnknownName for one that does not exist, ConfigError for a circle.
        """
        found: list[Model] = []
        wanted: str | None = name
        while wanted is not None:
            if any(model.name == wanted for model in found):
                circle = " -> ".join([*(model.name for model in found), wanted])
                raise ConfigError(
                    f"The fallbacks of {name!r} go in a circle: {circle}. Change one of them with "
                    f"`wordmill models add {found[-1].name} --replace ...`."
                )
            try:
                found.append(self.get(wanted))
            except UnknownName as error:
                if not found:
                    raise
                hint = f"It is the fallback of {found[-1].name!r}."
                raise UnknownName("model", wanted, error.known, hint) from error
            wanted = found[-1].fallback
        return tuple(found)

    def provider(self, name: str) -> Provider:
        """A provider for the model, made anew: it learns what its server refuses."""
        model = self.get(name)
        spoken = "openai" if model.provider in PRESETS else model.provider
        provider: Provider = plugins.load("providers", spoken)(model, self._settings, self._keys)
        return provider

    def add(self, model: Model, *, replacing: bool = False) -> Model:
        """Store a model that `checked` made; `replacing` overwrites one of the same name.

        Its fallback may come later, but must not lead back to it. Returns what was stored.
        Raises ConfigError for a name that is taken.
        """
        if model.name == REHEARSAL.name:
            raise ConfigError(
                "The model 'rehearsal' is built in. Choose another name; "
                "`--provider rehearsal` makes more of its kind."
            )
        if model.name in self._settings.models:
            raise ConfigError(
                f"The model {model.name!r} is described in {self._settings.project}: "
                "change it there."
            )
        self._refuse_circle(model)
        values = {**asdict(model), "owner": LOCAL, "created": datetime.now(UTC)}
        with self._database.begin() as connection:
            if self._stored(model.name) is not None:
                if not replacing:
                    raise ConfigError(
                        f"There is a model {model.name!r} already. `wordmill models show "
                        f"{model.name}` shows it; --replace overwrites it."
                    )
                connection.execute(delete(tables.models).where(tables.models.c.name == model.name))
            connection.execute(insert(tables.models).values(values))
        return model

    def keep_private(self, model: Model) -> Model:
        """Store a model for this person alone; a private one of the same name is replaced."""
        stored = f"{self._person} {model.name}"
        values = {
            **asdict(model), "name": stored, "owner": self._person, "created": datetime.now(UTC),
        }  # fmt: skip
        with self._database.begin() as connection:
            connection.execute(delete(tables.models).where(tables.models.c.name == stored))
            connection.execute(insert(tables.models).values(values))
        return model

    def private(self) -> list[Model]:
        """The private models of this person, by name."""
        return [model for model, source in self.all() if source == "private"]

    def remove_private(self, name: str) -> None:
        """Forget a private model of this person. Raises UnknownName."""
        stored = tables.models.c.name == f"{self._person} {name}"
        if self._private(name) is None:
            raise self._unknown(name)
        with self._database.begin() as connection:
            connection.execute(delete(tables.models).where(stored))

    def forget_private(self, person: str) -> None:
        """Remove all private models of a person."""
        theirs = tables.models.c.name.startswith(f"{person} ", autoescape=True)
        with self._database.begin() as connection:
            connection.execute(delete(tables.models).where(theirs))

    def remove(self, name: str) -> None:
        """Forget a stored model. Raises UnknownName, or ConfigError for one that is needed."""
        if name == REHEARSAL.name:
            raise ConfigError("The model 'rehearsal' is built in and cannot be removed.")
        dependent = [model.name for model, _ in self.all() if model.fallback == name]
        if dependent:
            raise ConfigError(
                f"The model {name!r} is the fallback of {', '.join(map(repr, dependent))}: "
                "give that another one first, with `wordmill models add ... --replace`."
            )
        with self._database.begin() as connection:
            query = delete(tables.models).where(tables.models.c.name == name)
            removed = connection.execute(query).rowcount
        if not removed:
            if name in self._settings.models:
                raise ConfigError(
                    f"The model {name!r} is described in {self._settings.project}: remove it there."
                )
            raise self._unknown(name)

    def _find(self, name: str) -> tuple[Model, Source]:
        if self._person is not None and (own := self._private(name)) is not None:
            return own, "private"
        table = self._settings.models.get(name)
        if table is not None:
            return self._described(name, table), "wordmill.toml"
        if name == REHEARSAL.name:
            return REHEARSAL, "built in"
        stored = self._stored(name)
        if stored is None:
            raise self._unknown(name)
        return stored, "catalog"

    def _stored(self, name: str) -> Model | None:
        if " " in name or not name.isprintable():  # another's, or what no database can hold
            return None
        options = self._row(name)
        return None if options is None else Model(**options)

    def _private(self, name: str) -> Model | None:
        if "@http" not in name or not name.isprintable():
            return None
        options = self._row(f"{self._person} {name}")
        return None if options is None else Private(**{**options, "name": name})

    def _row(self, stored: str) -> dict[str, Any] | None:
        query = select(tables.models).where(tables.models.c.name == stored)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _from_row(row)

    def _described(self, name: str, table: object) -> Model:
        source = str(self._settings.project)
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: models.{name} must be a table, as [models.{name}].")
        if name == REHEARSAL.name:
            raise ConfigError(f"{source}: the model 'rehearsal' is built in. Choose another name.")
        under: Mapping[str, object] = {}
        if not table.keys() & {"provider", "base_url"}:
            stored = self._stored(name)
            under = asdict(stored) if stored else {}
        options = {**under, **table, "name": name}
        if options.get("concurrency") == "auto":
            options["concurrency"] = None
        return checked(options, f"{source}, [models.{name}]")

    def _refuse_circle(self, model: Model) -> None:
        seen, wanted = [model.name], model.fallback
        while wanted is not None:
            if wanted in seen:
                circle = " -> ".join([*seen, wanted])
                raise ConfigError(f"This fallback goes in a circle: {circle}. Name another one.")
            seen.append(wanted)
            try:
                wanted = self.get(wanted).fallback
            except UnknownName:
                return

    def _unknown(self, name: str) -> UnknownName:
        return UnknownName(
            "model",
            name,
            self.names(),
            f"`wordmill models add {name} --base-url URL --model NAME` makes one.",
        )


def checked(options: Mapping[str, object], source: str = "") -> Model:
    """A model from what a person wrote, presets filled in.

    options: as `Model` names its fields.  source: put before the sentence of an error.
    Raises ConfigError for an unknown field, a value of the wrong kind, a missing or bad address.
    """
    from pydantic import ValidationError

    try:
        model = _adapter().validate_python(dict(options))
        _check_name(model.name)
        _check_key_env(model.key_env)
        if model.fallback is not None:
            _check_name(model.fallback)
        model = _with_preset(model)
        _check_headers(model)
        _check_without(model)
        return replace(model, base_url=_checked_url(model))
    except ValidationError as error:
        raise ConfigError(_placed(source, _words(error))) from error
    except ConfigError as error:
        if not source:
            raise
        raise ConfigError(_placed(source, str(error))) from error


@cache
def _adapter() -> "TypeAdapter[Model]":
    from pydantic import TypeAdapter  # here, because a model of the database needs no checking

    return TypeAdapter(Model)


def _placed(source: str, sentence: str) -> str:
    return f"{source}: {sentence}" if source else sentence


def _from_row(row: DatabaseRow[tuple[Any, ...]]) -> dict[str, Any]:
    """A model's fields, as they were checked when it was stored."""
    options = {field.name: getattr(row, field.name) for field in fields(Model)}
    return {**options, "without": tuple(options["without"])}


def _words(error: "ValidationError") -> str:
    (first, *_) = error.errors()
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return str(UnknownName("field", place, (field.name for field in fields(Model))))
    if first["type"] in ("missing", "missing_argument"):
        return f"{place} is missing."
    must = first["msg"].partition(",")[0].replace("Input should be", "must be")
    return f"{place} {must}, not {first['input']!r}."


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a model: it begins with a letter or digit, goes on with "
            "these or . _ - : / @, and has at most 100."
        )


def _check_key_env(variable: str | None) -> None:
    """The name of a variable. What looks like the key itself is not repeated."""
    if variable is None:
        return
    named = _VARIABLE_NAME.fullmatch(variable) and len(variable) <= LONGEST_VARIABLE
    if not named or scrub(variable) != variable:
        raise ConfigError(
            "key_env is the name of the environment variable that holds the key, as "
            "OPENAI_API_KEY; never the key itself, which would be stored and shown."
        )


def _with_preset(model: Model) -> Model:
    known: Iterable[str] = {*PRESETS, *plugins.names("providers")}
    if model.provider not in known:
        raise UnknownName("provider", model.provider, known)
    if model.provider == REHEARSAL.provider:
        if model.base_url not in ("", IDENTITY):
            raise ConfigError(
                "The provider 'rehearsal' runs inside Wordmill and has no address. For a server "
                "that `wordmill rehearse` started, use --provider openai."
            )
        return replace(model, base_url=IDENTITY, key_env=None)
    if model.provider == LOCAL_PROVIDER and _is_here(model.base_url or LOCAL_MODELS):
        return replace(model, base_url=model.base_url or LOCAL_MODELS, key_env=None)
    preset = PRESETS.get(model.provider)
    if preset is None or (model.base_url and _tidy(model.base_url) != preset.base_url):
        return model
    return replace(model, base_url=preset.base_url, key_env=model.key_env or preset.key_env)


def _is_here(url: str) -> bool:
    """Whether it is what a model of this machine has as its address."""
    return re.fullmatch(rf"{LOCAL_MODELS}[0-9a-f]{{0,16}}", url) is not None


def _tidy(url: str) -> str:
    return url.strip().rstrip("/")


def _checked_url(model: Model) -> str:
    if model.provider == REHEARSAL.provider:
        return IDENTITY
    if model.provider == LOCAL_PROVIDER and _is_here(model.base_url):
        return model.base_url
    url = _tidy(model.base_url)
    if len(url) > LONGEST_URL:
        raise ConfigError(f"The base URL has {len(url):,} characters; at most {LONGEST_URL:,} fit.")
    if not url:
        raise ConfigError(
            f"The provider {model.provider!r} has no address of its own: give --base-url, "
            "as http://host:port/v1."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}.") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "A URL with a user or a password in it would be stored and shown: name the variable "
            "that holds the key with --key-env."
        )
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address of a server: it begins with http:// or https://.")
    if not parts.hostname or port == 0 or set(url) & set(' \t\r\n"<>\\^`{|}'):
        raise ConfigError(f"{url!r} is no address of a server, as http://host:port/v1.")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigError(
            f"{url!r} has more than an address: leave out what begins with ? or #. "
            "A key goes into --key-env, another parameter into --header."
        )
    for ending in ("/chat/completions", "/completions", "/models", "/embeddings", "/rerank"):
        if parts.path.endswith(ending):
            raise ConfigError(
                f"{url!r} is the address of one operation; the base URL ends before it: "
                f"{url.removesuffix(ending)}"
            )
    host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def _check_without(model: Model) -> None:
    for name in model.without:
        if name not in LACKING:
            raise UnknownName(
                "capability", name, LACKING, "`--without` names what a server does not take."
            )


def _check_headers(model: Model) -> None:
    for name, value in model.headers.items():
        if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise ConfigError(f"{name!r} is no header: write it as 'Name: value'.")
        if _SECRET_HEADER.search(name) and not VARIABLE.search(value):
            raise ConfigError(
                f"The header {name!r} would store a secret: put it into a variable and write "
                f"'{name}: ${{VARIABLE}}', or use --key-env."
            )
