"""What `wordmill preview` prints."""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from wordmill.columns.base import KEEP
from wordmill.recipes import Recipe
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import House, Options, prepare
from wordmill.runs.preview import Preview, Sent, preview
from wordmill.runs.show import count, money, paragraph, row_lines, safe, width


def show(
    house: House, recipe: Recipe, rows: int, *, prompts: bool, as_json: bool, cache: bool
) -> int:
    """Make the rows and print them; the exit code."""
    job = prepare(house, recipe, Options(cache=cache), rows, Path())
    with Interrupts() as stop:
        made = preview(job, house.settings, lambda text: click.echo(text, err=True),
                       lambda: stop.asked)  # fmt: skip
    if as_json:
        for record in made.records:
            click.echo(json.dumps(record, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_blocks(made, tuple(recipe.columns), prompts)))
    reading = made.reading
    click.echo(
        f"\n{count(reading.requests, 'request')}, {reading.cached:,} from the cache, "
        f"{reading.tokens_in:,} tokens in, {reading.tokens_out:,} out, {money(reading.money)}. "
        "Nothing was written.",
        err=True,
    )
    if made.end.kind == "cancelled":
        return 130
    if made.end.sentence:
        click.echo(f"Short: {made.end.sentence}", err=True)
    whole = len(made.records) == rows and not any(record["errors"].keys() - {KEEP}
                                                  for record in made.records)  # fmt: skip
    return 0 if whole else 3


def _blocks(made: Preview, columns: tuple[str, ...], prompts: bool) -> Iterator[str]:
    for record in made.records:
        yield "\n".join(row_lines(record, columns, width()))
        if prompts:
            for sent in made.sent:
                if sent.row == record["row"]:
                    yield "\n".join(_sent(sent))


def _sent(sent: Sent) -> Iterator[str]:
    """A question, word for word: each message, then the other fields."""
    item = f"[{sent.item}]" if sent.item else ""
    again = f", again because {safe(sent.because)}" if sent.because else ""
    yield f"  sent for {sent.column}{item} of row {sent.row} to {sent.model}{again}"
    for message in sent.body.get("messages", []):
        yield f"    {message['role']}:"
        content = message["content"]
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        yield from paragraph(safe(text), 6, width())
    for name, value in sent.body.items():
        if name != "messages":
            written = f"{name}: {json.dumps(value, ensure_ascii=False)}"
            yield from paragraph(safe(written), 4, width())
