"""What every provider promises: a model of the catalog, made into requests that its server takes.

A provider says what to send (`body`, `path`), where (`lane`), what to leave out when a server
refuses it (`degrade`), and whether the server is there at all (`probe`, `test`). Sending in numbers
is the engine's. A provider is made for one run and remembers in memory what its server refused.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

from annotated_types import Ge, Le, Len

from wordmill.errors import ConfigError, KeyMissing
from wordmill.providers.dialect import Dialect
from wordmill.settings import Settings
from wordmill.types import RequestShape, Usage, Value

Name: TypeAlias = Annotated[str, Len(1, 500)]
Price: TypeAlias = Annotated[float, Ge(0), Le(1e9)]
Count: TypeAlias = Annotated[int, Ge(1), Le(2**53)]

Kind: TypeAlias = Literal["chat", "completions", "embeddings", "rerank", "responses"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the catalog. pydantic checks it where it comes from outside (see `models`).

    provider: a preset's name or a provider's.  base_url: without a slash at its end.
    model: what the server calls it.  key_env: the variable that holds its API key.
    headers: sent with each request; `${NAME}` in a value is read from the environment.
    concurrency: requests at once; None adapts.  rpm, tpm: requests and tokens a minute.
    price_in, price_out: money per million tokens.  context: tokens.
    fallback: the model that takes over when this one's server is down.
    without: what it lacks: `json_schema`, `json_object`, `system`, `seed`, `vision`, or a field.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    guarded: ClassVar[bool] = False
    """Only public addresses are asked for it, and never through a proxy."""

    name: Name
    provider: Name = "openai"
    base_url: str = ""
    model: Name
    key_env: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    concurrency: Count | None = None
    rpm: Count | None = None
    tpm: Count | None = None
    price_in: Price = 0.0
    price_out: Price = 0.0
    context: Count | None = None
    fallback: Name | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Private(Model):
    """A model whose address somebody brought: theirs alone, and guarded."""

    guarded: ClassVar[bool] = True


class Keys(NamedTuple):
    """The keys that are stored for a model, opened: whoever asks' own, and everybody's."""

    own: str | None = None
    shared: str | None = None


KeySource: TypeAlias = Callable[[Model], Keys]
"""Looks the stored keys up, at the moment of sending."""


def no_keys(_: Model) -> Keys:
    """The source of somebody who stores none."""
    return Keys()


class Place(NamedTuple):
    """Where a request stands that waits. place: from 1.  seconds: about how long it will be, None
    where nothing is known.  state: of its model, `loading` or `ready` and others.
    """

    place: int
    seconds: float | None
    state: str

    def words(self) -> str:
        """As `third in line, about 20 s`."""
        number = self.place
        nth = ORDINALS[number - 1] if 0 < number <= len(ORDINALS) else f"number {number:,}"
        line = "" if self.state == "loading" and number == 1 else f"{nth} in line"
        loads = "the model is being loaded" if self.state == "loading" else ""
        about = "" if self.seconds is None else f"about {max(1, round(self.seconds)):,} s"
        return ", ".join(filter(None, (line, loads, about)))


ORDINALS: Final = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip


class Credential(NamedTuple):
    """A key that is sent, and where it came from, in words."""

    key: str
    origin: str


class Probe(NamedTuple):
    """Whether a server is there.

    reachable: it answered over HTTP.  usable: and nothing in its answer says that a request for a
    completion would fail.  names: the models it offers, () where it does not say.
    sentence: all of it in words.
    """

    reachable: bool
    seconds: float
    names: tuple[str, ...]
    sentence: str
    usable: bool


@dataclass(frozen=True)
class Trial:
    """One real question, asked. `text` and `usage` are empty where it failed."""

    passed: bool
    sentence: str
    seconds: float = 0.0
    text: str = ""
    usage: Usage | None = None
    degraded: tuple[str, ...] = ()
    """Sentences on what the server refused and got without."""


class Degraded(NamedTuple):
    """What to ask for from now on. `sentence` is "" when it has been said before."""

    dialect: Dialect
    sentence: str


class Provider(ABC):
    """One model's server. Made from a catalog entry; cheap, and nothing is opened."""

    tells: ClassVar[bool] = False
    """`notes` may have something to say, and may ask the server for it."""

    def __init__(self, model: Model, settings: Settings, keys: KeySource = no_keys) -> None:
        self.model, self.settings, self.keys = model, settings, keys

    @property
    @abstractmethod
    def dialect(self) -> Dialect:
        """What is asked for now; it only ever grows simpler. Hashable."""

    @property
    def identity(self) -> str:
        """The address by which answers are remembered; stable where the real one is not."""
        return self.model.base_url

    @property
    def rehearsal(self) -> bool:
        """Nobody thinks behind this model: its rows are marked so."""
        return False

    @property
    def free(self) -> bool:
        """Its answers cost nothing: it needs no price."""
        return self.rehearsal

    @abstractmethod
    def path(self, kind: str) -> str:
        """Below the base URL: of a `Kind`, or a literal path that begins with "/".

        Raises ConfigError for anything else.
        """

    @abstractmethod
    def body(self, shape: RequestShape) -> dict[str, Value]:
        """The request as JSON, in the dialect of now, without `model` (the lane sets it).

        A slot is a string value that is exactly "\\0"; they stand in the order of `Ask.texts`.
        The answer always has a bound. `seed` null means that the engine sends none, whatever the
        lane says.
        """

    @abstractmethod
    def degrade(
        self, shape: RequestShape, detail: str, sent: Dialect | None = None
    ) -> Degraded | None:
        """What to ask instead, when a server refused a request (400, 422) with the words `detail`.

        sent: the dialect in which it had been asked; many requests may be refused for one reason,
        and only the first changes anything. Without it, a refusal of what is no longer sent means
        "ask again", so bound the attempts.
        Returns None when nothing may be left out: the refusal stands.
        """

    @abstractmethod
    def probe(self) -> Probe:
        """Ask for the list of models. Costs nothing; does not raise for a server's sake."""

    @abstractmethod
    def test(self) -> Trial:
        """Ask one small question, and explain what went wrong."""

    def whose(self, person: str) -> dict[str, str]:
        """Headers that say whose requests they are, for a server of ours that is told."""
        return {}

    def marked(self, body: Mapping[str, Any], person: str, request: str) -> Mapping[str, Any]:
        """A request that says whose it is, for a server of ours that is told.

        request: a name by which the server is asked where it stands in the queue.
        """
        return body

    def place(self, request: str) -> Place | None:
        """Where a request stands that waits, for a server that says so."""
        return None

    def notes(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Sentences on what the server makes of a request for a chat that its writer may not
        expect, as far as it `tells`. Asked when an answer has begun; does not raise.
        """
        return ()

    def lane(self, person: str | None = None) -> dict[str, Value]:
        """One entry of `lanes` in the engine's config; its key is looked up now.

        person: whose requests all of them are, where they are one person's.
        Raises KeyMissing when a key, or a variable that a header names, is nowhere.
        """
        model, settings = self.model, self.settings
        return {
            "name": model.name,
            "base_url": self.address(),
            "identity": self.identity,
            "model": model.model,
            "key": self.key(),
            "headers": {**self.headers(), **(self.whose(person) if person else {})},
            "concurrency": model.concurrency or settings.concurrency,
            "max_concurrency": settings.max_concurrency,
            "requests_per_minute": model.rpm,
            "tokens_per_minute": model.tpm,
            "price_input": model.price_in,
            "price_output": model.price_out,
            "context": model.context,
            "fallback": model.fallback,
            "seed": self.dialect.seed,
            "connect_seconds": settings.connect_seconds,
            "first_byte_seconds": settings.first_byte_seconds,
            "total_seconds": settings.total_seconds,
            "deadline_seconds": settings.deadline_seconds,
            "attempts": settings.attempts,
            "max_reply_bytes": settings.max_reply_bytes,
            **({"public": True, "allowed": list(settings.private_hosts)} if model.guarded else {}),
        }

    def plan(self, person: str) -> dict[str, Value]:
        """The lane as another process may be told of it: no key in it, and headers as they were
        written. Under `secret` it says where the key is found at the moment of sending:
        `{"env": VARIABLE}`, `{"stored": [owner, model]}`, or null for none.

        person: whose requests they are. Raises as `lane`: what is missing here is missed there.
        """
        self.headers()
        headers = {**self.model.headers, **self.whose(person)}
        lane = {**self.lane(), "headers": headers, "key": None}
        return {**lane, "secret": self.reference(person)}

    def reference(self, person: str) -> Value:
        """Where the key is that `credential` finds."""
        found = self.credential()
        if found is None:
            return None
        own, shared = self.keys(self.model)
        if found.key not in (own, shared):
            return {"env": self.model.key_env}
        return {"stored": [person if own is not None else "", self.model.name]}

    def address(self) -> str:
        """The base URL that is really used."""
        return self.model.base_url

    def key(self) -> str | None:
        """The API key, looked up now; None for a server that wants none. Raises KeyMissing."""
        found = self.credential()
        return None if found is None else found.key

    def credential(self) -> Credential | None:
        """The key and where it came from: one's own stored key, else the variable that the model
        names, else everybody's stored key. None where none is wanted. Raises KeyMissing.
        """
        own, shared = self.keys(self.model)
        if own is not None:
            return Credential(own, "the stored key")
        variable = self.model.key_env
        if variable is not None and (shared is None or self.settings.secret(variable)):
            return Credential(self._variable(variable), f"the key in {variable}")
        return None if shared is None else Credential(shared, "the stored key")

    def headers(self) -> dict[str, str]:
        """The model's own headers, with `${NAME}` filled in. Raises KeyMissing."""
        return {
            name: VARIABLE.sub(lambda match: self._variable(match[1]), value)
            for name, value in self.model.headers.items()
        }

    def secrets(self) -> Iterable[str]:
        """The values that must never be shown, as far as they are set."""
        variables = [
            match for value in self.model.headers.values() for match in VARIABLE.findall(value)
        ]
        for variable in (self.model.key_env, *variables):
            if variable and (value := self.settings.secret(variable)):
                yield value
        yield from (key for key in self.keys(self.model) if key is not None)

    def _variable(self, variable: str) -> str:
        value = self.settings.secret(variable)
        if value is None:
            raise KeyMissing(self.model.name, variable)
        if not value.isprintable() or not value.isascii():
            raise ConfigError(
                f"The value of {variable} cannot be sent in a header: it holds a line break or a "
                "letter that is not ASCII. Was more copied than the key?"
            )
        return value


VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable inside a header's value."""
