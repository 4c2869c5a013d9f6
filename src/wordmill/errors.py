"""Every error that Wordmill raises on purpose, in one tree.

    WordmillError
    ├── ConfigError            a setting, a model or a folder is not as it must be
    │   ├── UnknownName        a name that nothing has; carries the nearest ones
    │   ├── KeyMissing         a model needs an API key and none was found
    │   └── ExtraMissing       an optional part is not installed; carries its pip line
    ├── RecipeError            a recipe cannot be read; carries file, line and column
    │   └── RecipeErrors       several faults of one recipe; carries each
    ├── RunError               a run cannot start, go on or be found
    ├── AccessError            somebody may not do this, or not now
    │   ├── Unauthenticated    nobody is signed in, or the key or session is no longer good
    │   ├── Forbidden          signed in, but without the right
    │   ├── NotFound           nothing of that name is this person's: also somebody else's things
    │   ├── TooMany            too many tries; carries the seconds to wait
    │   └── QuotaReached       the person's quota is used up; carries when it opens again
    ├── Conflict               it has changed meanwhile, or is there already
    ├── InvalidInput           what somebody sent is not as it must be; carries the field
    ├── ModelFailed            a model gave no answer; carries the engine's kind and its words
    ├── ExportError            rows cannot leave in the asked form
    ├── StorageError           a file or a database cannot be written or read
    ├── ChannelError           a chat service does not answer, or not as it should
    │   ├── ChannelLimited     it wants to be asked less often; carries the seconds
    │   ├── ChannelRefused     it refuses this for good, and others not
    │   └── ChannelClosed      the account is no longer good: a person has to see to it
    ├── HubError               the hub of models does not answer, or refuses what is asked of it
    ├── BrokerError            the broker does not answer, or refuses what is asked of it
    └── EngineError            the engine ended; carries its last words

A message says what happened, with the value, and what to do next. The command line prints
it and exits with 2. What goes wrong with a single request or cell is no exception but a
value: `types.Reply.error` and `types.CellError`.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class WordmillError(Exception):
    """The root: catch this to catch all that Wordmill raises on purpose."""


class ConfigError(WordmillError):
    """A setting, a model or a folder is not as it must be."""


class UnknownName(ConfigError):
    """A name that nothing has. `known` is searched for the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        super().__init__(kind, name, known, hint)
        self.kind, self.name, self.known, self.hint = kind, name, known, hint

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.name!r}{nearest(self.name, self.known)}" + (
            f" {self.hint}" if self.hint else ""
        )


class KeyMissing(ConfigError):
    """A model needs an API key, or another value for a header, and none was found."""

    def __init__(self, model: str, variable: str) -> None:
        super().__init__(model, variable)
        self.model, self.variable = model, variable

    def __str__(self) -> str:
        return (
            f"No API key for the model {self.model!r}: the variable {self.variable} is not set. "
            f"Set it, or store the key with `wordmill models key {self.model}`."
        )


class ExtraMissing(ConfigError):
    """An optional part is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what, self.extra = what, extra

    def __str__(self) -> str:
        return f"{self.what} is not installed. Install it: pip install 'wordmill[{self.extra}]'"


class RecipeError(WordmillError):
    """A recipe cannot be read. `line` and `column` count from 1; 0 means not known."""

    def __init__(self, message: str, source: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message, source, line, column)
        self.message, self.source, self.line, self.column = message, source, line, column

    def __str__(self) -> str:
        place = self.source
        if self.line:
            place += f":{self.line}:{self.column}"
        return f"{place}: {self.message}" if place else self.message

    @property
    def each(self) -> tuple["RecipeError", ...]:
        """The single faults that this error tells of: itself, here."""
        return (self,)


class RecipeErrors(RecipeError):
    """Several faults of one recipe, one a line. As a RecipeError it is the first of them."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        first = errors[0]
        super().__init__(first.message, first.source, first.line, first.column)
        self.errors = tuple(errors)
        self.args = (self.errors,)  # what pickle hands to __init__

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    @property
    def each(self) -> tuple[RecipeError, ...]:
        """The single faults, in the order of their lines."""
        return self.errors


class RunError(WordmillError):
    """A run cannot start, go on or be found."""


class AccessError(WordmillError):
    """Somebody may not do this, or not now."""


class Unauthenticated(AccessError):
    """Nobody is signed in, or the key or session is no longer good."""


class Forbidden(AccessError):
    """Signed in, but without the right."""


class NotFound(AccessError):
    """Nothing of that name is this person's. Somebody else's things are not there either."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind, self.name = kind, name

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.name!r} that is yours."


class TooMany(AccessError):
    """Too many tries. `seconds`: when the next one counts."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.message, self.seconds = message, seconds

    def __str__(self) -> str:
        return self.message


class QuotaReached(AccessError):
    """The person's quota is used up. `seconds`: until its period ends."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.message, self.seconds = message, seconds

    def __str__(self) -> str:
        return self.message


class Conflict(WordmillError):
    """It has changed meanwhile, or is there already."""


class InvalidInput(WordmillError):
    """What somebody sent is not as it must be. `field` names it, or is ""."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message, field)
        self.message, self.field = message, field

    def __str__(self) -> str:
        return self.message


class ModelFailed(WordmillError):
    """A model gave no answer. `kind`: as `_engine.pyi` lists them; `detail`: its server's words."""

    def __init__(self, model: str, kind: str, detail: str) -> None:
        super().__init__(model, kind, detail)
        self.model, self.kind, self.detail = model, kind, detail

    def __str__(self) -> str:
        return f"The model {self.model!r} gave no answer ({self.kind}): {self.detail}"


class ExportError(WordmillError):
    """Rows cannot leave in the asked form."""


class StorageError(WordmillError):
    """A file or a database cannot be written or read."""


class ChannelError(WordmillError):
    """A chat service does not answer, or not as it should; it may later."""


class ChannelLimited(ChannelError):
    """A chat service wants to be asked less often. `seconds`: when it takes the next."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.message, self.seconds = message, seconds

    def __str__(self) -> str:
        return self.message


class ChannelRefused(ChannelError):
    """A chat service refuses this for good, as in a room that we left."""


class ChannelClosed(ChannelError):
    """The account at a chat service is no longer good: a person has to see to it."""


class HubError(WordmillError):
    """The hub of models does not answer, or refuses what is asked of it."""


class BrokerError(WordmillError):
    """The broker does not answer, or refuses what is asked of it."""


class EngineError(WordmillError):
    """The engine ended before its work was done; the message holds its last words."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `. Did you mean 'x' or 'y'?`.

    Without a near name the known ones are listed (at most twelve), or nothing if there are none.
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return ". Did you mean " + " or ".join(repr(word) for word in near) + "?"
    if known:
        more = f" and {len(known) - 12} more" if len(known) > 12 else ""
        return ". There are: " + ", ".join(known[:12]) + more + "."
    return "."
