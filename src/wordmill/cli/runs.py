"""`wordmill runs` and `wordmill export`: what was made, and out of the house with it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click

from wordmill import plugins
from wordmill.cli.recipe_options import Assignment
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.errors import ExportError, RunError
from wordmill.runs.files import RunFiles, reading
from wordmill.runs.launch import House, open_house
from wordmill.runs.places import shown
from wordmill.runs.records import page
from wordmill.runs.registry import Run
from wordmill.runs.show import by_cause, count, duration, money, row_lines, width
from wordmill.settings import load
from wordmill.types import Value


@click.group()
def runs() -> None:
    """The runs: what was made, how far they are."""


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """List the runs, the newest first."""
    with _opened() as house:
        found = house.registry.all()
    if as_json:
        click.echo(json.dumps([_described(run) for run in found], indent=2))
        return
    if not found:
        click.echo("There are no runs yet. `wordmill generate rlhi --rows 20` makes the first.")
        return
    rows = [
        (
            run.id,
            run.state,
            f"{run.counts.get('ended', 0):,}/{run.rows:,}",
            f"{run.counts.get('requests', 0):,}",
            money(run.counts.get("money", 0.0)),
            duration(run.counts.get("seconds", 0.0)),
            _day(run.created),
            shown(run.folder),
        )
        for run in found
    ]
    head = ("run", "state", "rows", "requests", "money", "time", "begun", "folder")
    click.echo(table(head, rows, {"money": money(0.0)}))


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(run: str, as_json: bool) -> None:
    """Show how a run stands, what it took, what failed."""
    with _opened() as house:
        found = house.registry.get(run)
        files = RunFiles(run, house.registry.files(run))
    if as_json:
        click.echo(json.dumps(_described(found), indent=2))
        return
    click.echo(table(("field", "value"), list(_facts(found, files))))
    for line in _next(found):
        click.echo(line)


@runs.command()
@click.argument("run")
@click.option("--page", "number", type=click.IntRange(1), default=1, show_default=True)
@click.option("--size", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Rows a page.")  # fmt: skip
@click.option("--row", type=click.IntRange(0), help="That row alone, by its number.")
@click.option("--failed", is_flag=True, help="Only rows in which something failed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines, with where each came from.")
def rows(run: str, number: int, size: int, row: int | None, failed: bool, as_json: bool) -> None:
    """Show the rows of a run in full, a page at a time."""
    with _opened() as house:
        found = _idle(house.registry.get(run))
        files = RunFiles(run, house.registry.files(run))
        columns = tuple(files.saved().load().columns)
        with reading(files) as engine:
            part = page(engine, number, size, row=row, failed=failed)
    if as_json:
        for record in part.records:
            click.echo(json.dumps(record, ensure_ascii=False))
        return
    if failed and not part.total:
        click.echo(f"No row of {run} holds a failure.", err=True)
        return
    if not part.records:
        what = f"row {row}" if row is not None else f"page {number}"
        raise RunError(
            f"The run {run} has no {what}: {count(part.total, 'row')} "
            f"{'with a failure ' if failed else ''}can be shown."
        )
    click.echo(
        "\n\n".join("\n".join(row_lines(record, columns, width())) for record in part.records)
    )
    if row is None:
        pages = -(-part.total // size)
        more = f"; --page {number + 1} shows more" if number < pages else ""
        of = count(part.total, "row")
        click.echo(f"\npage {number:,} of {pages:,}, {of} of {found.rows:,}{more}",
                   err=True)  # fmt: skip


@runs.command()
@click.argument("run")
def cancel(run: str) -> None:
    """Ask a run to stop.

    What is in flight is awaited, and the run can go on later.
    """
    with _opened() as house:
        found = house.registry.cancel(run)
    click.echo(
        f"The run {run} (pid {found.pid}) is asked to stop. "
        f"`wordmill resume {run}` goes on with it."
    )


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dataset", is_flag=True, help="Delete the dataset in its folder too.")
def remove(run: str, yes: bool, dataset: bool) -> None:
    """Forget a run; its dataset stays.

    Its records are deleted, and with them its answers in the cache.
    """
    from wordmill.runs.places import clear, holds

    with _opened() as house:
        found = house.registry.get(run)
        files = house.registry.files(run)
        size = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
        ours = dataset and holds(found.folder, run)
        what = f"the records of {run} ({size / 1e6:.1f} MB), and its answers in the cache"
        if ours:
            what += f", and the dataset in {shown(found.folder)}"
        if not yes:
            click.confirm(f"Delete {what}?", abort=True, err=True)
        house.registry.remove(run)
        if house.crew is not None:
            house.crew.forget(run)
        if ours:
            clear(found.folder)
    kept = "" if ours else f" The dataset in {shown(found.folder)} stays."
    click.echo(f"Deleted {what}.{kept}")


@click.command()
@click.argument("run")
@click.option("--format", "form", required=True, help="jsonl, csv, parquet, sft or dpo.")
@click.option("--to", required=True, type=click.Path(path_type=Path),
              help="The file or folder to write.")  # fmt: skip
@click.option("--option", "options", type=Assignment(), multiple=True,
              help="An option of the format.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Rows that `keep` turned down too.")
def export(
    run: str, form: str, to: Path, options: tuple[tuple[str, str], ...], everything: bool
) -> None:
    """Write the rows of a run in another form.

    RUN may be the folder of a dataset too. docs/exports.md lists the options of each format.

    \b
    wordmill export tickets-1 --format csv --to tickets.csv
    wordmill export tickets-1 --format sft --option completion=ticket --to train.jsonl
    """
    if form not in plugins.names("exports"):
        plugins.load("exports", form)
    folder = Path(run)
    if not (folder / "run.json").is_file():
        with _opened() as house:
            folder = _dataset(_idle(house.registry.get(run)))
    from wordmill.datasets import export as write

    given = dict(options) | ({"all": "true"} if everything else {})
    click.echo(write(folder, form, to, given).sentence())


def _dataset(run: Run) -> Path:
    from wordmill.runs.places import holds

    if not holds(run.folder, run.id):
        raise ExportError(
            f"The dataset of the run {run.id} is not in {shown(run.folder)} (any more): "
            f"`wordmill resume {run.id} --out FOLDER` writes it again, and asks for nothing that "
            "was answered."
        )
    if run.unfinished:
        click.echo(f"note: {run.id} is {run.state}: {run.counts.get('ended', 0):,} of "
                   f"{run.rows:,} rows are made.", err=True)  # fmt: skip
    return run.folder


@contextmanager
def _opened() -> Iterator[House]:
    settings = load()
    warn(settings)
    with open_house(settings) as house:
        yield house


def _idle(run: Run) -> Run:
    if run.state == "running":
        raise RunError(
            f"The run {run.id} is at work: {run.counts.get('ended', 0):,} of {run.rows:,} rows. "
            f"Its rows can be read when it ended; `wordmill runs cancel {run.id}` ends it early."
        )
    return run


def _described(run: Run) -> dict[str, Value]:
    return {
        "run": run.id,
        "state": run.state,
        "recipe": run.recipe,
        "name": run.name,
        "digest": run.digest,
        "folder": str(run.folder),
        "rows": run.rows,
        "counts": dict(run.counts),
        "host": run.host,
        "pid": run.pid,
        "created": run.created.isoformat(),
        "started": run.started and run.started.isoformat(),
        "heartbeat": run.heartbeat and run.heartbeat.isoformat(),
        "ended": run.ended and run.ended.isoformat(),
    }


def _facts(run: Run, files: RunFiles) -> Iterator[tuple[str, str]]:
    counts = run.counts
    yield "run", run.id
    yield "state", run.state
    if counts.get("why"):
        yield "because", str(counts["why"])
    yield "recipe", run.recipe or run.name
    yield "rows", f"{counts.get('ended', 0):,} of {run.rows:,}"
    for name, label in (
        ("kept", "kept"), ("turned_down", "turned down"), ("part_done", "part-done"),
        ("failed_cells", "failed cells"),
    ):  # fmt: skip
        if counts.get(name):
            yield label, f"{counts[name]:,}"
    for column, causes in _causes(counts).items():
        yield f"  {column}", by_cause(causes)
    yield "requests", f"{counts.get('requests', 0):,} sent, {counts.get('cached', 0):,} cached"
    yield "tokens", f"{counts.get('tokens_in', 0):,} in, {counts.get('tokens_out', 0):,} out"
    yield "money", money(counts.get("money", 0.0))
    yield "time", duration(counts.get("seconds", 0.0))
    if run.state == "running":
        yield "worked on by", f"pid {run.pid} on {run.host}"
    yield "begun", run.created.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if run.ended:
        yield "ended", run.ended.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    yield "dataset", shown(run.folder)
    yield "records", str(files.folder)


def _causes(counts: Mapping[str, Value]) -> Mapping[str, Mapping[str, int]]:
    causes: Mapping[str, Mapping[str, int]] = counts.get("causes", {})
    return causes


def _next(run: Run) -> Iterator[str]:
    if run.state == "running":
        yield f"\n`wordmill runs cancel {run.id}` stops it."
    elif run.unfinished:
        yield f"\n`wordmill resume {run.id}` goes on with it."


def _day(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
