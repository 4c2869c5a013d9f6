"""How a model is asked to write: named values with types and ranges, and modes that set several.

A value belongs to a person and a model together, so that it is still there after a while with
another model and never anybody else's affair; a conversation may have its own over that. What
nobody set is not sent: then the model's own default holds.

A **decoding mode** is a whole way of choosing words. Choosing one replaces the one before whole.
Who chose none has `top-k+top-p` where the model's provider can do it, and `own`, which sets
nothing, elsewhere.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import and_, delete, insert, select

from wordmill.accounts import Person, catalog_of
from wordmill.chat.types import Conversation
from wordmill.database import Database, now, person_models
from wordmill.errors import InvalidInput, UnknownName
from wordmill.providers.base import Model
from wordmill.providers.presets import PRESETS
from wordmill.settings import Settings

Kind: TypeAlias = Literal["number", "integer", "choice", "texts"]
Value: TypeAlias = int | float | str | list[str] | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that can be set. low, high: both belong to the range.

    sent: whether it is a field of the request; the others are ours.
    """

    name: str
    kind: Kind
    help: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    sent: bool = True

    @property
    def range(self) -> str:
        """What a value must be, in words."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "texts":
            return "up to 4 texts of at most 200 characters, with | between"
        what = "a whole number" if self.kind == "integer" else "a number"
        return f"{what} from {self.low:g} to {self.high:g}"

    def read(self, text: object) -> Value:
        """A value of it. Raises InvalidInput with the range."""
        try:
            return self._read(text)
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"{self.name} is {self.range}, not {str(text)[:80]!r}.", self.name
            ) from error

    def _read(self, text: object) -> Value:
        if isinstance(text, bool):
            raise ValueError(text)
        if self.kind == "choice":
            found = str(text).strip().lower()
            if found not in self.choices:
                raise ValueError(text)
            return found
        if self.kind == "texts":
            texts = text if isinstance(text, list) else str(text).split("|")
            texts = [str(one) for one in texts if str(one)]
            if not 1 <= len(texts) <= 4 or max(map(len, texts)) > 200:
                raise ValueError(text)
            return texts
        number = float(str(text).strip())
        if not self.low <= number <= self.high:
            raise ValueError(text)
        if self.kind == "integer":
            if number != int(number):
                raise ValueError(text)
            plain = str(text).strip()
            whole = int(plain) if plain.lstrip("+-").isdecimal() else int(number)
            if not self.low <= whole <= self.high:  # beyond what a float tells apart
                raise ValueError(text)
            return whole
        return number


BUFFER: Final = "input-buffer-size"

_ALL: Final = (
    Parameter("temperature", "number", "How freely words are chosen.", 0, 2),
    Parameter("top_p", "number", "Only the likeliest words that make up this part.", 0, 1),
    Parameter("top_k", "integer", "Only so many of the likeliest words; 0 is all.", 0, 1000),
    Parameter("min_p", "number", "Only words at least so likely beside the likeliest.", 0, 1),
    Parameter("max_tokens", "integer", "The longest answer.", 1, 1_000_000),
    Parameter("frequency_penalty", "number", "Against words that came often.", -2, 2),
    Parameter("presence_penalty", "number", "Against words that came at all.", -2, 2),
    Parameter("repetition_penalty", "number", "Against repeating; 1 is none.", 0.1, 10),
    Parameter("num_beams", "integer", "Ways that are followed side by side.", 1, 16),
    Parameter("length_penalty", "number", "For longer (above 0) or shorter beams.", -10, 10),
    Parameter("seed", "integer", "The same seed asks for the same answer.", 0, 2**53),
    Parameter("stop", "texts", "Where an answer ends."),
    Parameter(
        "reasoning_effort",
        "choice",
        "How long it thinks.",
        choices=("none", "minimal", "low", "medium", "high"),
    ),
    Parameter(
        BUFFER, "integer", "At most so many of the last messages are sent.", 1, 100_000, sent=False
    ),
)
PARAMETERS: Final[Mapping[str, Parameter]] = {one.name: one for one in _ALL}

DEFAULT_MODE: Final = "top-k+top-p"
MODES: Final[Mapping[str, Mapping[str, Value]]] = {
    "greedy": {"temperature": 0.0},
    "beam-search": {"num_beams": 4, "temperature": 0.0},
    "sampling": {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
    "top-k": {"top_k": 50, "top_p": 1.0},
    "top-p": {"top_k": 0, "top_p": 0.95},
    "top-k+top-p": {"top_k": 50, "top_p": 0.95},
    "own": {},
}
"""What each mode sets; all that a mode may set and this one does not is taken back. `own` is the
way in which the model's makers, or its server, have it choose."""

_IN_MODES: Final = frozenset(name for mode in MODES.values() for name in mode)

_HOSTED: Final = frozenset({"openai", "groq", "mistral", "deepseek", "gemini", "anthropic"})
"""Providers that refuse what is not in OpenAI's own list."""
_BEYOND: Final = frozenset({"top_k", "min_p", "repetition_penalty", "num_beams", "length_penalty"})
_BEAMS: Final = frozenset({"num_beams", "length_penalty"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A parameter as it stands. `origin`: where its value comes from, in words.

    changed: somebody chose it, and it is not there by itself.
    """

    name: str
    value: Value
    origin: str
    range: str
    help: str
    changed: bool = False


class Parameters:
    """The settings of every person with every model. Safe from any thread."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    @staticmethod
    def names() -> list[str]:
        """What can be set."""
        return list(PARAMETERS)

    @staticmethod
    def modes() -> list[str]:
        """The decoding modes."""
        return list(MODES)

    def mode(self, person: Person, model: str) -> str:
        """The decoding mode of a person with a model. Raises UnknownName."""
        return self._chosen(self._model(person, model), self._stored(person, model)[0])

    def set_mode(self, person: Person, model: str, mode: str) -> str:
        """Choose a mode, which replaces the one before whole; the one before.

        Raises UnknownName, InvalidInput for what the model's provider cannot do.
        """
        if mode not in MODES:
            raise UnknownName("decoding mode", mode, MODES)
        found = self._model(person, model)
        if (name := _beyond(found, mode)) is not None:
            raise _refusal(found, name, f"the mode {mode}")
        before, own = self._stored(person, model)
        kept = {name: value for name, value in own.items() if name not in _IN_MODES}
        self._store(person, model, mode, kept)
        return self._chosen(found, before)

    def set(self, person: Person, model: str, name: str, value: object) -> tuple[Value, Value]:
        """Set one value, or take it back with None; (what it was, what it is).

        Raises UnknownName with the nearest, InvalidInput with the range and for what the model's
        provider cannot do.
        """
        parameter = named(name)
        found = self._model(person, model)
        mode, own = self._stored(person, model)
        before = self._resolved(found, mode, own, {}).get(parameter.name)
        if value is None:
            own.pop(parameter.name, None)
        else:
            self.check(found, parameter.name)
            own[parameter.name] = parameter.read(value)
        self._store(person, model, mode, own)
        return before, self._resolved(found, mode, own, {}).get(parameter.name)

    def effective(
        self, person: Person, model: str, conversation: Conversation | None = None
    ) -> dict[str, Value]:
        """What holds: the mode, the person's own values, the conversation's. Raises UnknownName."""
        mode, own = self._stored(person, model)
        return self._resolved(self._model(person, model), mode, own, _here(conversation))

    def view(
        self, person: Person, model: str, conversation: Conversation | None = None
    ) -> list[Shown]:
        """Every parameter with its value and where that comes from. Raises UnknownName."""
        found = self._model(person, model)
        stored, own = self._stored(person, model)
        mode, here = self._chosen(found, stored), _here(conversation)
        whole = f"the mode {mode}" if stored else f"the mode {mode}, the default"
        shown = []
        for name, parameter in PARAMETERS.items():
            value, origin, changed = None, "the model's default", False
            if name in MODES[mode] and name not in _lacking(found):
                value, origin, changed = MODES[mode][name], whole, stored is not None
            if name in own:
                value, origin, changed = own[name], "you, with this model", True
            if name in here:
                value, origin, changed = here[name], "this conversation", True
            shown.append(Shown(name, value, origin, parameter.range, parameter.help, changed))
        return shown

    @staticmethod
    def checked(values: Mapping[str, object]) -> dict[str, Value]:
        """Values for a conversation. Raises UnknownName, InvalidInput."""
        return {named(name).name: named(name).read(value) for name, value in values.items()}

    @staticmethod
    def check(model: Model, name: str) -> None:
        """Raises InvalidInput for what a model's provider is known not to do."""
        if name in _lacking(model):
            raise _refusal(model, name, name)

    @staticmethod
    def _chosen(model: Model, mode: str | None) -> str:
        return mode or (DEFAULT_MODE if _beyond(model, DEFAULT_MODE) is None else "own")

    def _resolved(
        self, model: Model, mode: str | None, own: Mapping[str, Any], here: Mapping[str, Any]
    ) -> dict[str, Value]:
        lacking = _lacking(model)
        of_mode = MODES[self._chosen(model, mode)]
        of_mode = {name: value for name, value in of_mode.items() if name not in lacking}
        return {**of_mode, **own, **here}

    def _model(self, person: Person, model: str) -> Model:
        return catalog_of(self._database, self._settings, person.id).get(model)

    def _stored(self, person: Person, model: str) -> tuple[str | None, dict[str, Any]]:
        query = select(person_models.c.mode, person_models.c.settings).where(
            person_models.c.person == person.id, person_models.c.model == model
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None, {}
        own = {name: value for name, value in row.settings.items() if name in PARAMETERS}
        return (row.mode if row.mode in MODES else None), own

    def _store(
        self, person: Person, model: str, mode: str | None, values: Mapping[str, Any]
    ) -> None:
        same = and_(person_models.c.person == person.id, person_models.c.model == model)
        with self._database.begin() as connection:
            connection.execute(delete(person_models).where(same))
            connection.execute(
                insert(person_models).values(
                    person=person.id, model=model, mode=mode, settings=dict(values), updated=now()
                )
            )


def named(name: str) -> Parameter:
    """The parameter of that name, hyphens or underscores. Raises UnknownName with the nearest."""
    parameter = PARAMETERS.get(name) or PARAMETERS.get(name.replace("-", "_"))
    if parameter is None:
        raise UnknownName("parameter", name[:100], PARAMETERS)
    return parameter


def _here(conversation: Conversation | None) -> dict[str, Value]:
    """The values of a conversation; one that cannot be read, as from an import, is left out."""
    made: dict[str, Value] = {}
    for name, value in (conversation.settings if conversation else {}).items():
        if name in PARAMETERS:
            with suppress(InvalidInput):
                made[name] = PARAMETERS[name].read(value)
    return made


def _lacking(model: Model) -> set[str]:
    """What a provider is known not to do."""
    preset = PRESETS.get(model.provider)
    own_place = preset is not None and model.base_url == preset.base_url
    lacking = set(model.without)
    if own_place and model.provider in _HOSTED:
        lacking |= _BEYOND
    elif model.provider not in ("local", "rehearsal"):
        lacking |= _BEAMS
    return lacking


def _beyond(model: Model, mode: str) -> str | None:
    """What of a mode a provider cannot do. That all words may be chosen from needs no saying."""
    lacking = _lacking(model)
    told = (name for name, value in MODES[mode].items() if not (name == "top_k" and value == 0))
    return next((name for name in told if name in lacking), None)


def _refusal(model: Model, name: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"The model {model.name!r} cannot do {what}: its provider {model.provider} knows no "
        f"{name}.",
        name,
    )
