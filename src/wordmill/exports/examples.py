"""What the exports of training examples share: the file, its prompts, the trainers' column rules.

The rules are those of TRL's dataset formats (huggingface/trl, docs/source/dataset_formats.md):
nothing but the columns that a format has, messages of a role and a text, a prompt that ends with
the user and an answer that is the assistant's.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import orjson
from pydantic import Field

from wordmill.errors import ExportError, RecipeError
from wordmill.exports.base import (
    Counted,
    Export,
    Options,
    Source,
    SourceColumn,
    Target,
    Written,
    checked_file,
    kept,
)
from wordmill.types import CellError, Row, Value

Turn: TypeAlias = dict[str, str]
"""{"role": ..., "content": ...}"""

Turns: TypeAlias = list[Turn]
Linked: TypeAlias = Mapping[str, list[Row]]
Example: TypeAlias = dict[str, Value]
Rule: TypeAlias = Callable[[Mapping[str, Value]], None]
"""Raises for an example that a trainer would not read."""

NO_PROMPT: Final = "without a prompt"
NO_ANSWER: Final = "without an answer"


class ExampleOptions(Options):
    """Options of the exports that write training examples."""

    prompt: str = Field(
        "", description="a column, or a template over the row; the messages as sent if not given"
    )
    system: str = Field("", description="a system message, as a template over the row")
    field: str = Field("text", description="of items of a linked table, the field that is learnt")


E = TypeVar("E", bound=ExampleOptions)


class Examples(Export[E]):
    """One file of training examples, one a line, read back by the trainer's rule."""

    ending = ".jsonl"

    @abstractmethod
    def begin(
        self, dataset: Source, options: E, counted: Counted
    ) -> Callable[[Row, Linked], Iterable[Example]]:
        """Read the options; what is returned makes the examples of a row.

        counted: told of what cannot be learnt.  Raises ExportError for options that do not fit.
        """

    @abstractmethod
    def rule(self, options: E) -> Rule:
        """What each example must keep to."""

    def fill(self, dataset: Source, target: Target, options: E) -> Written:
        """Write the examples of all rows. Raises ExportError where there are none."""
        counted = Counted()
        examples = self.begin(dataset, options, counted)
        path = target.examples(self.name)

        def read_back(part: Path) -> None:
            if not counted.rows:
                raise nothing(dataset, counted)
            check_file(part, self.rule(options), counted.rows)

        with checked_file(path, read_back) as file:
            for row, linked in kept(dataset, options, counted):
                for example in examples(row, linked):
                    file.write(orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE))
                    counted.rows += 1
        return Written(counted.rows, counted.skipped, (path,))


Prompter: TypeAlias = Callable[[Row], Turns | None]
"""The messages before the answer; None where a row has none."""


def prompter(dataset: Source, options: ExampleOptions, answer: SourceColumn) -> Prompter:
    """How the prompt of an example is made.

    answer: the column that is learnt. Without the option `prompt`: for items of a linked table,
    which were asked for in different words, the text that they are about; else the messages as
    they were sent. Raises ExportError where that cannot be told.
    """
    named = options.prompt
    if not named and answer.table is not None:
        named = _subject(dataset, answer)
    if not named:
        return _as_sent(dataset, options, answer)
    text = _text(dataset, named)
    system = _text(dataset, options.system, template=True) if options.system else None

    def turns(row: Row) -> Turns | None:
        prompt = text(row)
        before = system(row) if system else None
        if not prompt or (system and not before):
            return None
        return [*([turn("system", before)] if before else []), turn("user", prompt)]

    return turns


def _subject(dataset: Source, answer: SourceColumn) -> str:
    """The one text of a row that a model wrote: what its items answer."""
    texts = free_texts(dataset)
    if len(texts) == 1:
        return texts[0]
    found = ", ".join(texts) or "none"
    raise ExportError(
        f"What do the items of {answer.name!r} answer? A prompt is taken from the only column of "
        f"text that a model wrote, and there is: {found}. Name it with the option prompt."
    )


def free_texts(dataset: Source) -> list[str]:
    """Columns of the main table with free text of a model."""
    return [
        column.name
        for column in dataset.columns
        if column.type == "prompt"
        and column.joins is None
        and column.schema.get("type") == "string"
        and "enum" not in column.schema
    ]


def _as_sent(dataset: Source, options: ExampleOptions, answer: SourceColumn) -> Prompter:
    try:
        asked = dataset.asked(answer.name)
    except RecipeError as error:
        raise ExportError(
            f"The prompts of {answer.name!r} cannot be made again here ({error}). Name a column, "
            "or give a template, with the option prompt."
        ) from error
    system = _text(dataset, options.system, template=True) if options.system else None

    def turns(row: Row) -> Turns | None:
        messages = asked(row)
        if isinstance(messages, CellError):
            return None
        sent = [turn(message.role, message.text or "") for message in messages]
        if system is None:
            return sent
        before = system(row)
        if not before:
            return None
        return [turn("system", before), *(one for one in sent if one["role"] != "system")]

    return turns


def _text(dataset: Source, named: str, template: bool = False) -> Callable[[Row], str | None]:
    """The text of a column or of a template, for a row."""
    names = {column.name for column in dataset.columns}
    if named in names and not template:
        return lambda row: as_text(row[named])
    if "{" not in named and not template:
        raise ExportError(
            f"There is no column {named!r}; there are {', '.join(sorted(names))}. "
            "A template has names in double braces: 'Answer this: {{ question }}'."
        )
    try:
        render = dataset.template(
            named, "the option prompt" if not template else "the option system"
        )
    except RecipeError as error:
        raise ExportError(f"{error}") from error

    def rendered(row: Row) -> str | None:
        text = render(row)
        return None if isinstance(text, CellError) else text

    return rendered


def seen(row: Row, linked: Linked) -> Row:
    """A row as templates of the recipe see it: with the items themselves, not their ids."""
    return {**row, **linked}


def as_text(value: Value) -> str | None:
    """What a model is to write for a value: a text itself, else its JSON; None for none."""
    if value is None or isinstance(value, str):
        return value or None
    return orjson.dumps(value).decode()


def turn(role: str, content: str) -> Turn:
    """One message."""
    return {"role": role, "content": content}


def column_of(dataset: Source, name: str) -> SourceColumn:
    """A column of the recipe. Raises ExportError for an unknown one."""
    for column in dataset.columns:
        if column.name == name:
            return column
    names = ", ".join(column.name for column in dataset.columns)
    raise ExportError(f"There is no column {name!r}; there are {names}.")


def pairwise_of(dataset: Source) -> list[SourceColumn]:
    """Columns whose items are pairs that a judge compared, and that hold any."""
    return [
        column
        for column in dataset.columns
        if column.name in dataset.tables
        and column.table is not None
        and {"first", "second", "winner", "agree"} <= set(column.table.get("properties", {}))
    ]


def items_columns(dataset: Source) -> list[SourceColumn]:
    """Columns whose items are answers."""
    pairs = {column.name for column in pairwise_of(dataset)}
    return [
        column
        for column in dataset.columns
        if column.type == "candidates" and column.name not in pairs
    ]


def field_of(item: Row, field: str) -> Value:
    """A field of an item. Raises ExportError for one that the items do not have."""
    if field not in item:
        fields = ", ".join(name for name in item if name not in ("row", "item", "id"))
        raise ExportError(f"The items have no field {field!r}; they have {fields}.")
    return item[field]


def nothing(dataset: Source, counted: Counted) -> ExportError:
    """The error of an export that no row got into."""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counted.skipped.most_common())
    return ExportError(
        f"Nothing of {dataset.name!r} can be exported in this form"
        + (f" ({reasons})." if reasons else ": it has no rows for it.")
        + " No file was written."
    )


# Reading back ---------------------------------------------------------------------------------


class _Wrong(ValueError):
    """What a line breaks of the rules."""


def check_messages(example: Mapping[str, Value]) -> None:
    """TRL's SFT, conversational: `messages` that end with the assistant."""
    _columns(example, ("messages",))
    _conversation(example["messages"], last="assistant")


def check_prompt_completion(example: Mapping[str, Value]) -> None:
    """TRL's SFT as `prompt` and `completion`: both texts, or both messages."""
    _columns(example, ("prompt", "completion"))
    prompt, completion = example["prompt"], example["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not prompt or not completion:
            raise _Wrong("a text is empty")
        return
    _conversation(prompt, last="user")
    _answer(completion)


def check_preference(example: Mapping[str, Value]) -> None:
    """TRL's DPO with an explicit prompt, conversational."""
    _columns(example, ("prompt", "chosen", "rejected"))
    _conversation(example["prompt"], last="user")
    _answer(example["chosen"])
    _answer(example["rejected"])
    if example["chosen"] == example["rejected"]:
        raise _Wrong("chosen and rejected are equal")


def _columns(example: Mapping[str, Value], wanted: Sequence[str]) -> None:
    if list(example) != list(wanted):
        raise _Wrong(f"its columns are {', '.join(example)}, not {', '.join(wanted)}")


def _conversation(messages: Value, last: str) -> None:
    """An optional system message, then user and assistant by turns; no text is empty."""
    if not isinstance(messages, list) or not messages:
        raise _Wrong("a list of messages is missing")
    for message in messages:
        if not isinstance(message, dict) or list(message) != ["role", "content"]:
            raise _Wrong("a message has other fields than role and content")
        if not isinstance(message["content"], str) or not message["content"]:
            raise _Wrong(f"the {message['role']} says nothing")
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if turns != [("user", "assistant")[n % 2] for n in range(len(turns))] or roles[-1] != last:
        raise _Wrong(f"the roles are {', '.join(roles)}, and {last} must be the last")


def _answer(messages: Value) -> None:
    if not isinstance(messages, list) or [m.get("role") for m in messages] != ["assistant"]:
        raise _Wrong("an answer is not one message of the assistant")
    if not messages[0].get("content"):
        raise _Wrong("an answer is empty")


def check_file(path: Path, check: Rule, rows: int) -> None:
    """Read examples back, one a line. Raises ExportError with the line."""
    found = 0
    for found, example in enumerate(_lines(path), start=1):
        try:
            check(example)
        except _Wrong as wrong:
            raise ExportError(
                f"Example {found} breaks a rule of the trainer: {wrong}. Nothing was left behind; "
                "please report this with the dataset's run.json."
            ) from wrong
    if found != rows:
        raise ExportError(f"{rows:,} examples were written, and {found:,} read back.")


def _lines(path: Path) -> Iterator[Example]:
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)
