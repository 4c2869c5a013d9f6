import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.typed import type_command
from wordmill import Recipe
from wordmill._engine import Rehearsal

HERE = "here"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / HERE
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_new_writes_a_recipe_that_works_and_says_what_to_type_next(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = type_command(capsys, "new", "my tickets")
    assert (made.code, made.err) == (0, "")
    assert made.out == (
        "Made my tickets/recipe.yaml: 7 columns, 4 of them ask a model. Nothing was sent "
        "anywhere.\n\n"
        "Next:\n"
        "  wordmill check 'my tickets'\n"
        "  wordmill preview 'my tickets' -n 2\n"
        "  wordmill generate 'my tickets' --rows 100\n"
    )
    assert Recipe.load("my tickets").name == "my-tickets"
    text = (here / "my tickets" / "recipe.yaml").read_text()
    assert text.count("#") > 15
    again = type_command(capsys, "new", "my tickets")
    assert (again.code, again.err) == (
        2,
        (
            "error: my tickets/recipe.yaml is there already, and is not overwritten. "
            "Choose another name.\n"
        ),
    )
    assert (here / "my tickets" / "recipe.yaml").read_text() == text
    assert type_command(capsys, "check", "my tickets").code == 0
    done = type_command(capsys, "generate", "my tickets", "--rows", "5")
    assert done.code == 0, done.err


def test_new_copies_a_built_in_recipe_with_its_files(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_command(capsys, "new", "mine", "--recipe", "rlhi").code == 0
    mine, built_in = Recipe.load("mine"), Recipe.load("rlhi")
    assert mine.order == built_in.order
    assert mine.digest == built_in.digest
    assert mine.columns["scope"].reads() == ("axes/scope.yaml",)
    for column in mine.columns.values():
        for file in column.reads():
            assert (here / "mine" / file).is_file()
    mine.with_values(model="rehearsal").makers()
    unknown = type_command(capsys, "new", "other", "--recipe", "rhli")
    assert unknown.code == 2
    assert "There is no recipe 'rhli'. Did you mean 'rlhi'?" in unknown.err
    assert not (here / "other").exists()


def test_new_does_not_write_through_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "taken").write_text("")
    assert type_command(capsys, "new", "taken").err == (
        "error: taken is there already, and is not overwritten. Choose another name.\n"
    )
    below = type_command(capsys, "new", "taken/below")
    assert (below.code, below.err) == (
        2, "error: taken/below/recipe.yaml cannot be written: Not a directory.\n",
    )  # fmt: skip


TICKETS = """\
name: tickets
model: mock
columns:
  mood: {type: category, values: [calm, angry]}
  ticket: {type: prompt, prompt: "A {{ mood }} customer writes."}
  topic: {type: prompt, prompt: "About what? {{ ticket }}", choices: [price, quality]}
  verdict: {type: judge, of: ticket, scores: {realism: "0 to 4"}}
"""


def add(capsys: pytest.CaptureFixture[str], name: str, port: int, *options: str) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    added = type_command(
        capsys, "models", "add", name, "--base-url", url, "--model", "rehearsal", *options
    )
    assert added.code == 0, added.err


def test_check_tells_order_models_and_cost_and_asks_for_no_completion(
    here: Path, capsys: pytest.CaptureFixture[str], rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse()
    add(capsys, "mock", server.port, "--price-in", "1", "--price-out", "2", "--concurrency", "8")
    (here / "tickets.yaml").write_text(TICKETS)
    checked = type_command(capsys, "check", "tickets.yaml", "--rows", "1000")
    assert (checked.code, checked.err) == (0, "")
    lines = checked.out.splitlines()
    assert lines[:4] == [
        "recipe    tickets: 4 columns, 3 of them ask a model, made in this order:",
        "            mood",
        "            ticket",
        "            topic, verdict",
    ]
    assert re.fullmatch(
        rf"model     mock: 127\.0\.0\.1:{server.port} answers in \d+ ms and offers 3 models, "
        "'rehearsal' among them\\.",
        lines[4],
    )
    assert lines[5] == (
        "estimate  1,000 rows = 3,000 requests, about 680,000 tokens in and 290,000 out "
        "(at most 6,100,000)"
    )
    assert lines[6] == "money     about $1.27, at most $12.97"
    assert lines[7] == "time      about 13:53 (guessed; at once: mock 8)"
    assert '"requests":0' in server.stats().replace(" ", "")


def test_check_tells_all_faults_and_exits_with_2(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "tickets.yaml").write_text(TICKETS.replace("{{ mood }}", "{{ moood }}") + "kep: x\n")
    checked = type_command(capsys, "check", "tickets.yaml")
    assert (checked.code, checked.out) == (2, "")
    assert checked.err == (
        "error: tickets.yaml:5:40: columns.ticket: there is no column 'moood'. "
        "Did you mean 'mood'?\n"
        "error: tickets.yaml:8:1: there is no option 'kep'. Did you mean 'keep'?\n"
    )


def test_check_tells_faults_of_models_and_files_together(
    here: Path, capsys: pytest.CaptureFixture[str], unused_port: int
) -> None:
    add(capsys, "away", unused_port)
    (here / "t.yaml").write_text(
        "name: t\n"
        "columns:\n"
        "  a: {type: prompt, prompt: x, model: awy}\n"
        "  b: {type: prompt, prompt: x, model: away}\n"
        "  c: {type: prompt, prompt: x}\n"
        "  d: {type: seed, file: no.csv}\n"
    )
    checked = type_command(capsys, "check", "t.yaml")
    assert checked.code == 2
    first, second, third, fourth = checked.err.splitlines()
    assert first.startswith(
        "error: t.yaml:3:39: columns.a.model: There is no model 'awy'. Did you mean 'away'?"
    )
    assert second.startswith(
        f"error: The model 'away' cannot be used. Nothing answers at http://127.0.0.1:{unused_port}"
    )
    assert third.startswith("error: t.yaml:5:3: columns.c: it asks a model, and neither it nor")
    assert fourth.startswith("error: t.yaml:6:25: columns.d.file: there is no file 'no.csv'")


def test_check_tries_the_first_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "t.yaml").write_text(
        "name: t\n"
        "model: rehearsal\n"
        "columns:\n"
        "  who: {type: person}\n"
        "  a: {type: prompt, prompt: 'Hello {{ who.nme }}'}\n"
        "  b: {type: prompt, prompt: 'x', schema: {type: object}}\n"
        "  c: {type: prompt, prompt: '{{ b.x.y }}'}\n"
    )
    checked = type_command(capsys, "check", "t.yaml")
    assert checked.code == 2
    (error,) = checked.err.splitlines()
    assert error.startswith("error: t.yaml:5:3: columns.a: no row can be made; row 0: template: ")
    (note,) = (line for line in checked.out.splitlines() if line.startswith("note"))
    assert note.startswith("note      c, row 0: template: ")
    assert note.endswith("(in a trial with made-up answers)")


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_check_takes_the_options_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    checked = type_command(
        capsys, "check", "rlhi", "--scenarios", "200", "--actions", "6", "--compare", "--model",
        "rehearsal",
    )  # fmt: skip
    assert checked.code == 0, checked.err
    assert "200 rows = 8,600 requests" in checked.out
    assert "money     none" in checked.out
    assert "time" not in checked.out
    for options, sentence in {
        ("--actions", "65"): "error: --param actions=65: must be a whole number from 0 to 12, "
        "not 65.\n",
        ("--set", "actions.nn=3"): "error: --set actions.nn=3: columns.actions: there is no option "
        "'nn'. Did you mean 'n'?\n",
        ("--set", "action.n=3"): "error: --set action.n=3: there is no column 'action'. Did you "
        "mean 'actions' or 'evaluation' or 'region'?\n",
    }.items():
        refused = type_command(capsys, "check", "rlhi", *options)
        assert (refused.code, refused.err) == (2, sentence)


def test_that_no_model_is_named_is_told_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked = type_command(capsys, "check", "rlhi")
    assert (checked.code, len(checked.err.splitlines())) == (2, 1)
    assert checked.err.endswith(
        "columns.scenario: it and actions, scores, comparisons, forecast, evaluation, plan ask a "
        "model, and neither they nor the recipe name one. Write `model: NAME`, or run with "
        "--model NAME (`wordmill models list`).\n"
    )
    (here / "t.yaml").write_text(
        "name: t\ncolumns:\n  a: {type: prompt, prompt: x}\n  b: {type: prompt, prompt: y}\n"
        "  c: {type: seed, file: no.csv}\n"
    )
    first, second = type_command(capsys, "check", "t.yaml").err.splitlines()
    assert first.startswith("error: t.yaml:3:3: columns.a: it and b ask a model, and neither they")
    assert second.startswith("error: t.yaml:5:25: columns.c.file: there is no file 'no.csv'")


def test_hidden_files_are_no_near_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".nope.yaml", "hope.yaml", "nope.yaml.part", ".env"):
        (here / name).write_text("name: x\n")
    checked = type_command(capsys, "check", "nope.yaml")
    assert (checked.code, checked.err) == (
        2, "error: nope.yaml: there is no such file. Did you mean 'hope.yaml'?\n"
    )  # fmt: skip
    assert ".nope" not in type_command(capsys, "check", "nope").err


def test_an_expression_that_ends_too_early_is_told_with_its_place(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "t.yaml").write_text(
        "name: t\ncolumns:\n  x: {type: category, values: [1, 2]}\nkeep: x >\n"
    )
    checked = type_command(capsys, "check", "t.yaml")
    assert checked.err == (
        "error: t.yaml:4:10: keep: it ends after 'x >', where something is missing.\n"
    )
    (here / "t.yaml").write_text(
        "name: t\ncolumns:\n  x: {type: template, template: 'a {{ b | uper }}'}\n"
    )
    checked = type_command(capsys, "check", "t.yaml")
    assert checked.err == (
        "error: t.yaml:3:43: columns.x.template: there is no filter 'uper'. Did you mean 'upper'?\n"
    )


def test_the_starter_is_written_in_english(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_command(capsys, "new", "tickets").code == 0
    seen = type_command(capsys, "preview", "tickets", "-n", "30", "--prompts").out
    assert re.search(r"\ba [aeiou]\w+ customer", seen) is None
    assert re.search(r"has bought (a laptop|a phone|headphones) that", " ".join(seen.split()))


def test_a_run_has_a_ceiling_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    checked = type_command(capsys, "generate", "rlhi", "--rows", "17000000000")
    assert checked.code == 2
    assert checked.err.endswith(
        "Invalid value for '-n' / '--rows': A run has at most 100,000,000 rows, not "
        "17,000,000,000. For more, make several runs, each with a seed of its own.\n"
    )


def test_no_rows_is_no_number_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    checked = type_command(capsys, "check", "rlhi", "--rows", "0")
    assert checked.code == 2
    assert checked.err.endswith(
        "Invalid value for '-n' / '--rows': '0' is no number of rows: a whole one, from 1 on.\n"
    )


def test_a_recipe_without_models_costs_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "t.yaml").write_text("name: t\ncolumns: {a: {type: uuid}}\n")
    checked = type_command(capsys, "check", "t.yaml", "-n", "1")
    assert checked.out == (
        "recipe    t: 1 column, none of them asks a model, made in this order:\n"
        "            a\n"
        "estimate  1 row, no requests\n"
    )


def test_a_model_without_a_price_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], rehearse: Callable[..., Rehearsal]
) -> None:
    add(capsys, "mock", rehearse().port)
    (here / "tickets.yaml").write_text(TICKETS)
    checked = type_command(capsys, "check", "tickets.yaml")
    assert "money     not known: the catalog has no price for mock\n" in checked.out
