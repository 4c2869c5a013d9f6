"""Commands on runs and batches: make a dataset from here, see how far things are, use a row."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from wordmill.commands.base import Argument, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.words import block, code, count
from wordmill.errors import InvalidInput, NotFound
from wordmill.models import REHEARSAL
from wordmill.runs.registry import Run
from wordmill.runs.show import money

if TYPE_CHECKING:
    from wordmill.batches import Batch
    from wordmill.runs.desk import Wish

GROUP = Group("Datasets")

_SHOWN = 10
_REASONS = 5
_BUSY = ("created", "running")


def _recipes(context: Context) -> Iterable[Suggestion]:
    return [Suggestion(name, "built in") for name in context.house.desk(context.person).recipes()]


def _runs(context: Context) -> Iterable[Suggestion]:
    found = context.house.desk(context.person).registry.all()
    return [Suggestion(run.id, f"{run.name}, {run.state}") for run in found]


def _batches(context: Context) -> Iterable[Suggestion]:
    found = context.house.batches.all(context.person.id, limit=_SHOWN)
    return [Suggestion(one.id, f"{one.dataset or 'batch'}, {one.state}") for one in found]


def _price(
    context: Context, recipe: str, rows: int | None = None, parameters: str | None = None
) -> str | None:
    """What it will take, for whoever is asked before; None where no money can be spent."""
    wish = _wish(context, recipe, rows, parameters)
    foretold = context.house.desk(context.person).estimate(wish)
    model = wish.model or context.house.settings.default_model or REHEARSAL.name
    return None if model == REHEARSAL.name and "$" not in foretold else foretold


@GROUP.command(
    "Make a dataset by a recipe, in the background.",
    permission="runs",
    spoken=("generate", "dataset", "scenario", "recipe", "rows"),
    asks=_price,
)
def generate(
    context: Context,
    recipe: Annotated[str, Argument("A built-in recipe, such as `rlhi`.", suggest=_recipes)],
    rows: Annotated[int | None, Argument("How many rows; 100 without it.", low=1)] = None,
    parameters: Annotated[
        str | None, Argument("The recipe's parameters, as `actions=3`.", rest=True)
    ] = None,
) -> Outcome:
    """A run of the person's; `run` shows how far it is."""
    wish = _wish(context, recipe, rows, parameters)
    foretold = context.house.desk(context.person).estimate(wish)
    run = context.house.start_run(context.person, wish)
    return Outcome(
        f"The run {code(run.id)} has begun: {count(run.rows, 'row')} of {code(recipe)}. "
        f"{foretold} {context.typed('run ' + run.id)} shows how far it is.",
        {"run": run.id, "rows": run.rows, "state": run.state},
    )


@GROUP.command(
    "List your runs, the newest first.",
    permission="read",
    private=True,
    spoken=("run", "runs", "dataset", "lauf", "läufe"),
)
def runs(context: Context) -> Outcome:
    """The last ten."""
    found = context.house.desk(context.person).registry.all()
    if not found:
        return Outcome(
            f"You have no runs yet. {context.typed('generate rlhi 20')} makes one.", {"runs": []}
        )
    lines = [f"- {code(run.id)} {_standing(run)}" for run in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"- and {count(len(found) - _SHOWN, 'older one')}")
    return Outcome("\n".join(lines), {"runs": [_described(run) for run in found[:_SHOWN]]})


@GROUP.command(
    "Show how a run stands; the newest without an id.", permission="read", spoken=("run", "lauf")
)
def run(
    context: Context, run: Annotated[str | None, Argument("Its id.", suggest=_runs)] = None
) -> Outcome:
    """Its state, its counts, where its dataset is."""
    found = _found(context, run)
    lines = [f"{code(found.id)} {_standing(found)}"]
    if found.state in ("finished", "short", "cancelled"):
        lines.append(f"{context.typed(f'use {found.id} 0')} brings its first row here.")
    return Outcome("\n\n".join(lines), _described(found))


@GROUP.command(
    "List your batches, the newest first.", permission="read", spoken=("batch", "stapel")
)
def batches(context: Context) -> Outcome:
    """The last ten."""
    found = context.house.batches.all(context.person.id, limit=_SHOWN + 1)
    if not found:
        return Outcome(
            "You have no batches yet. The page Batches, the API and `wordmill batch submit` "
            "take a file of requests.",
            {"batches": []},
        )
    lines = [f"- {code(one.id)} {batch_standing(one)}" for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append("- and older ones")
    return Outcome("\n".join(lines), {"batches": [_told(one) for one in found[:_SHOWN]]})


@GROUP.command(
    "Show how a batch stands; the newest without an id.",
    permission="read",
    spoken=("batch", "stapel"),
)
def batch(
    context: Context, batch: Annotated[str | None, Argument("Its id.", suggest=_batches)] = None
) -> Outcome:
    """Its state, its counts, what it cost, what was wrong with it."""
    person = context.person.id
    if batch is None:
        found = next(iter(context.house.batches.all(person, limit=1)), None)
        if found is None:
            raise InvalidInput("You have no batches yet.")
    else:
        found = context.house.batches.get(person, batch)
    lines = [f"{code(found.id)} {batch_standing(found)}"]
    for reason in found.errors[:_REASONS]:
        where = f"line {reason['line']}: " if reason.get("line") else ""
        lines.append(f"- {where}{code(str(reason['message'])[:300])}")
    return Outcome("\n".join(lines), _told(found))


def _usable(context: Context) -> Iterable[Suggestion]:
    page = context.house.conversations.all(context.person, limit=_SHOWN)
    yield from (Suggestion(one.id, one.title or "without a title") for one in page.items)
    yield from _runs(context)


@GROUP.command(
    "Bring a row of a run into this conversation, or go on with another conversation here.",
    permission="read",
    spoken=("row", "rows", "scenario", "zeile"),
)
def use(
    context: Context,
    run: Annotated[str, Argument("The run's id, or a conversation's.", suggest=_usable)],
    row: Annotated[int, Argument("The row's number, from 0.", low=0)] = 0,
) -> Outcome:
    """A row comes as a file that goes with the next message."""
    try:
        found = context.house.conversations.get(context.person, run)
    except NotFound:
        return _bring(context, run, row)
    title = found.title or "without a title"
    return Outcome(
        f"Here goes on the conversation {code(title)}.",
        {"conversation": found.id, "title": found.title},
        conversation=found.id,
    )


@GROUP.command(
    "List your conversations, the last used first.",
    permission="read",
    private=True,
    spoken=("conversation", "conversations", "unterhaltung", "gespräch"),
)
def conversations(context: Context) -> Outcome:
    """The last ten, with the ids by which `use` goes on with one."""
    page = context.house.conversations.all(context.person, limit=_SHOWN)
    lines = [f"- {code(one.id)} {code(one.title or 'without a title')}" for one in page.items]
    if not lines:
        return Outcome("You have no conversations yet.", {"conversations": []})
    lines += ["", f"{context.typed('use ID')} goes on with one here."]
    data = [{"conversation": one.id, "title": one.title} for one in page.items]
    return Outcome("\n".join(lines), {"conversations": data})


def _bring(context: Context, run: str, row: int) -> Outcome:
    """A row of a run, as a file."""
    desk = context.house.desk(context.person)
    page = desk.rows(run, 1, 1, row=row)
    if not page.records:
        raise InvalidInput(f"The run {run} has no row {row}.", "row")
    begun = context.begun()
    values = page.records[0]["values"]
    text = json.dumps(values, ensure_ascii=False, indent=2)
    attachment = context.house.conversations.attachments.add(
        context.person,
        f"{run}-row-{row}.json",
        text.encode(),
        "application/json",
        conversation=begun.id,
    )
    return Outcome(
        f"Row {row} of {code(run)} goes with your next message:\n\n{block(text, 'json')}",
        {"run": run, "row": row, "values": values},
        conversation=begun.id,
        attachments=(attachment.id,),
    )


def _wish(context: Context, recipe: str, rows: int | None, parameters: str | None) -> "Wish":
    from wordmill.runs.desk import Wish

    given = _assignments(parameters or "")
    return Wish(recipe=recipe, rows=rows, model=_model(context), parameters=given)


def _found(context: Context, run: str | None) -> Run:
    registry = context.house.desk(context.person).registry
    if run is not None:
        return registry.get(run)
    newest = next(iter(registry.all()), None)
    if newest is None:
        raise InvalidInput(f"You have no runs yet. {context.typed('generate rlhi 20')} makes one.")
    return newest


def _model(context: Context) -> str | None:
    """A run is made with the model that is talked to here."""
    if context.conversation_id is None:
        return context.model
    return context.conversation().model or context.model


def _assignments(text: str) -> dict[str, str]:
    """`actions=3 tone=calm` by name; the recipe reads the values by its own types."""
    found = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInput(
                f"{word[:80]!r} is no parameter: write it as `actions=3`.", "parameters"
            )
        found[name] = value
    return found


def _standing(run: Run) -> str:
    made = run.counts.get("ended", 0)
    return f"{run.state}: {made:,} of {count(run.rows, 'row')} of {run.name}"


def batch_standing(batch: "Batch") -> str:
    """`completed: 18 of 20 requests of support answered, 2 failed, $0.01`; one line."""
    counts = batch.counts
    of = f" of {code(batch.dataset)}" if batch.dataset else ""
    words = [f"{counts.completed:,} of {count(counts.total, 'request')}{of} answered"]
    if counts.failed:
        words.append(f"{counts.failed:,} failed")
    if counts.money:
        words.append(money(counts.money))
    return f"{batch.state.replace('_', ' ')}: {', '.join(words)}"


def _told(batch: "Batch") -> dict[str, object]:
    counts = batch.counts
    return {
        "batch": batch.id,
        "dataset": batch.dataset,
        "state": batch.state,
        "requests": counts.total,
        "answered": counts.completed,
        "failed": counts.failed,
        "money": counts.money,
        "errors": [str(reason["message"]) for reason in batch.errors[:_REASONS]],
    }


def _described(run: Run) -> dict[str, object]:
    return {
        "run": run.id,
        "name": run.name,
        "state": run.state,
        "rows": run.rows,
        "made": run.counts.get("ended", 0),
        "counts": dict(run.counts),
    }
