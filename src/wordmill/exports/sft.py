"""Examples for supervised fine-tuning, as TRL, axolotl, LLaMA-Factory and Unsloth read them.

One JSON object a line, by default `{"messages": [{"role", "content"}, ...]}` that ends with the
answer to learn. What is learnt is the recipe's column with items, or else its only prompt column.
Of items, those of the recipe's first variant are learnt: it is the one that the others differ from.
"""

from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import Field, model_validator

from wordmill.errors import ExportError, nearest
from wordmill.exports.base import Counted, Source, SourceColumn
from wordmill.exports.examples import (
    NO_ANSWER,
    NO_PROMPT,
    Example,
    ExampleOptions,
    Examples,
    Linked,
    Rule,
    Turns,
    as_text,
    check_messages,
    check_prompt_completion,
    column_of,
    field_of,
    items_columns,
    prompter,
    seen,
    turn,
)
from wordmill.types import Row, Value


class SftOptions(ExampleOptions):
    """Options of SFT."""

    completion: str = Field("", description="the column that is learnt")
    form: Literal["messages", "prompt-completion"] = Field(
        "messages", description="one list of messages, or prompt and completion apart"
    )
    plain: bool = Field(False, description="prompt and completion as texts, not as messages")
    variant: str = Field("", description="of items: the variant that is learnt, or `any`")

    @model_validator(mode="after")
    def _plain_pairs(self) -> "SftOptions":
        if self.plain and self.form != "prompt-completion":
            raise ValueError("plain goes with form=prompt-completion")
        return self


class Sft(Examples[SftOptions]):
    """SFT."""

    name = "sft"
    options = SftOptions

    def rule(self, options: SftOptions) -> Rule:
        """TRL's rule for the form."""
        return check_messages if options.form == "messages" else check_prompt_completion

    def begin(
        self, dataset: Source, options: SftOptions, counted: Counted
    ) -> Callable[[Row, Linked], Iterator[Example]]:
        """An example an answer."""
        answer = _learnt(dataset, options)
        before = prompter(dataset, options, answer)
        variant = _variant(dataset, answer, options)

        def examples(row: Row, linked: Linked) -> Iterator[Example]:
            prompt = before(seen(row, linked))
            for text in _answers(row, linked, answer, options, variant, counted):
                if prompt is None:
                    counted.skip(NO_PROMPT)
                else:
                    yield _example(prompt, text, options)

        return examples


def _learnt(dataset: Source, options: SftOptions) -> SourceColumn:
    """The column that is learnt. Raises ExportError where it must be named."""
    if options.completion:
        column = column_of(dataset, options.completion)
        if column.joins is not None:
            raise ExportError(
                f"The column {column.name!r} belongs to the items of {column.joins!r}: learn it "
                f"with completion={column.joins} and field={column.name}."
            )
        return column
    asked = [c for c in dataset.columns if c.type == "prompt" and c.joins is None]
    found = items_columns(dataset) or asked
    if len(found) == 1:
        return found[0]
    names = ", ".join(column.name for column in found) or "none that a model wrote"
    raise ExportError(
        f"Which column is to be learnt? There is {names}. Name one with the option completion, as "
        f"--option completion={found[0].name if found else 'COLUMN'}."
    )


def _variant(dataset: Source, answer: SourceColumn, options: SftOptions) -> str | None:
    """The variant that is learnt, or None for any. Raises ExportError for an unknown one."""
    if answer.table is None or options.variant == "any":
        return None
    variants = dataset.option(answer.name, "variants") or []
    names = [variant["name"] for variant in variants]
    if options.variant and options.variant not in names:
        raise ExportError(
            f"{answer.name!r} has no variant {options.variant!r}{nearest(options.variant, names)}"
        )
    return options.variant or (names[0] if names else None)


def _answers(
    row: Row,
    linked: Linked,
    answer: SourceColumn,
    options: SftOptions,
    variant: str | None,
    counted: Counted,
) -> Iterator[str]:
    if answer.table is None:
        values: list[Value] = [row[answer.name]]
    else:
        items = linked.get(answer.name, [])
        values = [field_of(item, options.field) for item in items if _is(item, variant)]
        for _ in range(len(items) - len(values)):
            counted.skip("of another variant")
    for value in values:
        text = as_text(value)
        if text is None:
            counted.skip(NO_ANSWER)
        else:
            yield text


def _is(item: Row, variant: str | None) -> bool:
    return variant is None or item["variant"] == variant


def _example(prompt: Turns, answer: str, options: SftOptions) -> Example:
    reply = turn("assistant", answer)
    if options.form == "messages":
        return {"messages": [*prompt, reply]}
    if options.plain:
        return {"prompt": "\n\n".join(one["content"] for one in prompt), "completion": answer}
    return {"prompt": prompt, "completion": [reply]}
