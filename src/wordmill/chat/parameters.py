"""How a model is asked to write: named values with types and ranges, and modes that set several.

A value belongs to a person and a model together, so that it is still there after a while with
another model and never anybody else's affair; a conversation may have its own over that. What
nobody set is not sent: then the model's own default holds.

A **decoding mode** is a whole way of choosing words. Choosing one replaces the one before whole.
"""

from collections.abc import Mapping
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
            return "up to 4 texts, with | between"
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
            if not 1 <= len(texts) <= 4:
                raise ValueError(text)
            return texts
        number = float(str(text).strip())
        if not self.low <= number <= self.high:
            raise ValueError(text)
        if self.kind == "integer":
            if number != int(number):
                raise ValueError(text)
            return int(number)
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
        "reasoning_effort", "choice", "How long it thinks.", choices=("low", "medium", "high")
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
    "top-k": {"temperature": 1.0, "top_k": 50, "top_p": 1.0},
    "top-p": {"temperature": 1.0, "top_p": 0.95, "top_k": 0},
    "top-k+top-p": {"temperature": 1.0, "top_k": 50, "top_p": 0.95},
}
"""What each mode sets; all that a mode may set and this one does not is taken back."""

_IN_MODES: Final = frozenset(name for mode in MODES.values() for name in mode)

_HOSTED: Final = frozenset({"openai", "groq", "mistral", "deepseek", "gemini", "anthropic"})
"""Providers that refuse what is not in OpenAI's own list."""
_BEYOND: Final = frozenset({"top_k", "min_p", "repetition_penalty", "num_beams", "length_penalty"})
_BEAMS: Final = frozenset({"num_beams", "length_penalty"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A parameter as it stands. `origin`: where its value comes from, in words."""

    name: str
    value: Value
    origin: str
    range: str
    help: str


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
        """The decoding mode of a person with a model."""
        return self._stored(person, model)[0] or DEFAULT_MODE

    def set_mode(self, person: Person, model: str, mode: str) -> str:
        """Choose a mode, which replaces the one before whole; the one before.

        Raises UnknownName, InvalidInput for what the model's provider cannot do.
        """
        if mode not in MODES:
            raise UnknownName("decoding mode", mode, MODES)
        found = self._model(person, model)
        for name, value in MODES[mode].items():
            if not (name == "top_k" and value == 0):
                self._refuse(found, name, f"the mode {mode}")
        before, own = self._stored(person, model)
        kept = {name: value for name, value in own.items() if name not in _IN_MODES}
        self._store(person, model, mode, kept)
        return before or DEFAULT_MODE

    def set(self, person: Person, model: str, name: str, value: object) -> tuple[Value, Value]:
        """Set one value, or take it back with None; (what it was, what it is).

        Raises UnknownName with the nearest, InvalidInput with the range and for what the model's
        provider cannot do.
        """
        parameter = PARAMETERS.get(name) or PARAMETERS.get(name.replace("-", "_"))
        if parameter is None:
            raise UnknownName("parameter", name, PARAMETERS)
        found = self._model(person, model)
        mode, own = self._stored(person, model)
        before = self._resolved(mode, own, {}).get(parameter.name)
        if value is None:
            own.pop(parameter.name, None)
        else:
            self._refuse(found, parameter.name, parameter.name)
            own[parameter.name] = parameter.read(value)
        self._store(person, model, mode, own)
        return before, self._resolved(mode, own, {}).get(parameter.name)

    def effective(
        self, person: Person, model: str, conversation: Conversation | None = None
    ) -> dict[str, Value]:
        """What holds: the mode, the person's own values, the conversation's."""
        mode, own = self._stored(person, model)
        return self._resolved(mode, own, dict(conversation.settings) if conversation else {})

    def view(
        self, person: Person, model: str, conversation: Conversation | None = None
    ) -> list[Shown]:
        """Every parameter with its value and where that comes from."""
        mode, own = self._stored(person, model)
        of_mode = MODES[mode] if mode else {}
        here = dict(conversation.settings) if conversation else {}
        shown = []
        for name, parameter in PARAMETERS.items():
            value, origin = None, "the model's default"
            if name in of_mode:
                value, origin = of_mode[name], f"the mode {mode}"
            if name in own:
                value, origin = own[name], "you, with this model"
            if name in here:
                value, origin = here[name], "this conversation"
            shown.append(Shown(name, value, origin, parameter.range, parameter.help))
        return shown

    @staticmethod
    def checked(values: Mapping[str, object]) -> dict[str, Value]:
        """Values for a conversation. Raises UnknownName, InvalidInput."""
        made: dict[str, Value] = {}
        for name, value in values.items():
            if name not in PARAMETERS:
                raise UnknownName("parameter", name, PARAMETERS)
            made[name] = PARAMETERS[name].read(value)
        return made

    @staticmethod
    def _resolved(
        mode: str | None, own: Mapping[str, Any], here: Mapping[str, Any]
    ) -> dict[str, Value]:
        merged = {**(MODES[mode] if mode else {}), **own, **here}
        return {
            name: value
            for name, value in merged.items()
            if name in PARAMETERS and not (name == "top_k" and value == 0)
        }

    def _model(self, person: Person, model: str) -> Model:
        return catalog_of(self._database, self._settings, person.id).get(model)

    @staticmethod
    def _refuse(model: Model, name: str, what: str) -> None:
        """What a provider is known not to do."""
        preset = PRESETS.get(model.provider)
        own_place = preset is not None and model.base_url == preset.base_url
        lacking = set(model.without)
        if own_place and model.provider in _HOSTED:
            lacking |= _BEYOND
        elif model.provider not in ("local", "rehearsal"):
            lacking |= _BEAMS
        if name in lacking:
            raise InvalidInput(
                f"The model {model.name!r} cannot do {what}: its provider {model.provider} knows "
                f"no {name}.",
                name,
            )

    def _stored(self, person: Person, model: str) -> tuple[str | None, dict[str, Any]]:
        query = select(person_models.c.mode, person_models.c.settings).where(
            person_models.c.person == person.id, person_models.c.model == model
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None, {}
        return (row.mode if row.mode in MODES else None), dict(row.settings)

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
