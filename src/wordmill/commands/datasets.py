"""Commands on runs: make a dataset from here, see how far it is, bring a row into what is said."""

import json
from collections.abc import Iterable
from typing import Annotated

from wordmill.commands.base import Argument, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.words import block, code, count
from wordmill.errors import InvalidInput
from wordmill.runs.registry import Run

GROUP = Group("Datasets")

_SHOWN = 10
_BUSY = ("created", "running")


def _recipes(context: Context) -> Iterable[Suggestion]:
    return [Suggestion(name, "built in") for name in context.house.desk(context.person).recipes()]


def _runs(context: Context) -> Iterable[Suggestion]:
    found = context.house.desk(context.person).registry.all()
    return [Suggestion(run.id, f"{run.name}, {run.state}") for run in found]


@GROUP.command(
    "Make a dataset by a recipe, in the background.",
    permission="runs",
    spoken=("generate", "dataset", "scenario", "recipe", "rows"),
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
    from wordmill.runs.desk import Wish

    given = _assignments(parameters or "")
    wish = Wish(recipe=recipe, rows=rows, model=_model(context), parameters=given)
    foretold = context.house.desk(context.person).estimate(wish)
    run = context.house.start_run(context.person, wish)
    return Outcome(
        f"The run {code(run.id)} has begun: {count(run.rows, 'row')} of {code(recipe)}. "
        f"{foretold} {context.typed('run ' + run.id)} shows how far it is.",
        {"run": run.id, "rows": run.rows},
    )


@GROUP.command(
    "List your runs, the newest first.",
    permission="read",
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
    "Bring a row of a run into this conversation.",
    permission="read",
    spoken=("row", "rows", "scenario", "zeile"),
)
def use(
    context: Context,
    run: Annotated[str, Argument("The run's id.", suggest=_runs)],
    row: Annotated[int, Argument("The row's number, from 0.", low=0)] = 0,
) -> Outcome:
    """As a file that goes with the next message."""
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


def _described(run: Run) -> dict[str, object]:
    return {
        "run": run.id,
        "name": run.name,
        "state": run.state,
        "rows": run.rows,
        "made": run.counts.get("ended", 0),
        "counts": dict(run.counts),
    }
