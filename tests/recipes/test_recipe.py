import copy
import pickle
from pathlib import Path

import pytest

from wordmill import (
    Candidates,
    Category,
    Judge,
    Parameter,
    Prompt,
    Recipe,
    RecipeError,
    RecipeErrors,
    Seed,
    Template,
    UnknownName,
    Uuid,
)
from wordmill.recipes.reading import read
from wordmill.types import Value

TICKETS = """\
name: tickets
seed: 7
model: mock                      # for every language column that names none
columns:
  product: {type: category, values: [laptop, phone], weights: [2, 1]}
  mood:    {type: category, values: [calm, angry]}
  ticket:  {type: prompt, prompt: "A {{ mood }} customer writes about a {{ product }}."}
  urgency: {type: prompt, prompt: "How urgent is this? {{ ticket }}", schema: {type: object, properties: {level: {type: integer, minimum: 1, maximum: 5}}, required: [level]}}
  verdict: {type: judge, of: ticket, scores: {realism: "0 to 4, is it believable?", clarity: "0 to 4"}}
keep: verdict.realism >= 2       # a sandboxed Jinja expression
"""  # noqa: E501 - as the documents write it
LEVEL = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["level"],
}


def tickets(**changes: Value) -> Recipe:
    """The same from Python."""
    columns = {
        "product": Category(["laptop", "phone"], weights=[2, 1]),
        "mood": Category(["calm", "angry"]),
        "ticket": Prompt("A {{ mood }} customer writes about a {{ product }}."),
        "urgency": Prompt("How urgent is this? {{ ticket }}", schema=LEVEL),
        "verdict": Judge(
            "ticket", scores={"realism": "0 to 4, is it believable?", "clarity": "0 to 4"}
        ),
    }
    given: dict[str, Value] = {
        "seed": 7, "model": "mock", "columns": columns, "keep": "verdict.realism >= 2",
    }  # fmt: skip
    return Recipe("tickets", **{**given, **changes})


def test_both_doors_give_the_same_recipe() -> None:
    written, made = Recipe.from_yaml(TICKETS), tickets()
    assert written == made
    assert written.digest == made.digest == GOLDEN_DIGEST
    assert made.order == ("product", "mood", "ticket", "urgency", "verdict")
    assert made.models() == {"mock"}
    assert made.needs("ticket") == {"mood", "product"}
    assert (
        repr(made) == "Recipe('tickets', seed=7, columns=[product, mood, ticket, urgency, verdict])"
    )


GOLDEN_DIGEST = "c25b0fdd9386036371eed96a62856dc3"


def test_a_recipe_written_out_reads_back_as_itself() -> None:
    recipe = tickets(
        columns={
            "odd": Category(
                ["no", "on", "12", "1e3", "0o17", "2024-01-31", "~", "a: b", "x\ny ", ""]
            ),
            "text": Template("{% if odd %}\n  {{ odd }}\n{% endif %}"),
            "more": Prompt("é 😀 {{ text }}", each=None, parameters={"stop": ["\n\n"]}),
        },
        keep="odd != 'no'",
        description="Odd: values\nin two lines",
        parameters={"size": Parameter("integer", default=3, help="how: many")},
    )
    text = recipe.to_yaml()
    again = Recipe.from_yaml(text)
    assert (again, again.digest) == (recipe, recipe.digest)
    assert again.columns["odd"] == recipe.columns["odd"]
    assert again.to_yaml() == text
    assert list(read(text).root.value) == [
        "name", "description", "seed", "model", "parameters", "columns", "keep",
    ]  # fmt: skip


COLUMNS = {
    "mood": Category(["calm", "angry"]),
    "ticket": Prompt("A {{ mood }} customer.", schema=LEVEL),
    "verdict": Judge("ticket", scores={"a": "0 to 4", "b": "0 to 4"}),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"model": "other"},
        {"keep": "verdict.a > 1"},
        {"keep": None},
        {"parameters": {"size": Parameter("integer", default=4)}},
        {"columns": {**COLUMNS, "mood": Category(["calm", "sad"])}},
        {"columns": {**COLUMNS, "mood": Category(["angry", "calm"])}},
        {"columns": {**COLUMNS, "ticket": Prompt("A {{ mood }} customer!", schema=LEVEL)}},
        {"columns": {**COLUMNS, "ticket": Prompt("A {{ mood }} customer.")}},
        {"columns": {**COLUMNS, "ticket": Prompt("A {{ mood }} customer.", schema=LEVEL, again=3)}},
        {
            "columns": {
                **COLUMNS,
                "ticket": Prompt("A {{ mood }} customer.", schema=LEVEL, model="x"),
            }
        },
        {"columns": {**COLUMNS, "more": Uuid()}},
        {"columns": {**COLUMNS, "verdict": Judge("ticket", scores={"b": "0 to 4", "a": "0 to 4"})}},
    ],
)
def test_the_digest_follows_everything_that_makes_rows(changes: Value) -> None:
    given = {"columns": COLUMNS, "parameters": {"size": Parameter("integer", default=3)}}
    assert tickets(**given).digest != tickets(**{**given, **changes}).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "Another one."},
        {"table": "others"},
        {"columns": dict(reversed(COLUMNS.items()))},
        {"parameters": {"size": Parameter("integer", default=3, help="Size", max=9)}},
        {
            "columns": {
                **COLUMNS,
                "mood": {"values": ["calm", "angry"], "draw": "random", "type": "category"},
            }
        },
    ],
)
def test_the_digest_follows_nothing_else(changes: Value) -> None:
    given = {"columns": COLUMNS, "parameters": {"size": Parameter("integer", default=3)}}
    assert tickets(**given).digest == tickets(**{**given, **changes}).digest


def test_the_recipes_model_counts_only_where_a_column_names_none() -> None:
    own = {"a": Prompt("x", model="own")}
    assert (
        tickets(columns=own, keep=None).digest == tickets(columns=own, keep=None, model="b").digest
    )
    assert tickets(columns=own, keep=None).models() == {"own"}


def test_the_digest_follows_the_contents_of_files(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAda\n")
    recipe = Recipe("t", columns={"person": Seed("people.csv")}, folder=tmp_path)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "people.csv").write_text("name\nAda\n")
    assert Recipe("t", columns={"person": Seed("people.csv")}, folder=moved).digest == recipe.digest
    (moved / "people.csv").write_text("name\nBob\n")
    assert Recipe("t", columns={"person": Seed("people.csv")}, folder=moved).digest != recipe.digest
    with pytest.raises(RecipeError, match=r"there is no file 'people\.csv'"):
        _ = Recipe("t", columns={"person": Seed("people.csv")}, folder=tmp_path / "home").digest


def test_a_recipe_that_is_written_elsewhere_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAda\n")
    recipe = Recipe(
        "t", columns={"person": Seed("people.csv"), "b": Template("people.csv")}, folder=tmp_path
    )
    elsewhere = tmp_path / "datasets" / "t"
    text = recipe.to_yaml(beside=elsewhere)
    assert "file: ../../people.csv" in text
    assert "template: people.csv" in text
    moved = Recipe.from_yaml(text, folder=elsewhere)
    elsewhere.mkdir(parents=True)
    assert moved.digest == recipe.digest
    assert moved.to_yaml(beside=tmp_path) == recipe.to_yaml()
    built_in = Recipe.load("rlhi")
    copy_of_it = Recipe.from_yaml(built_in.to_yaml(beside=elsewhere), folder=elsewhere)
    assert "builtin:rlhi/axes/words.txt" in copy_of_it.to_yaml()
    assert copy_of_it.digest == built_in.digest


FAULTS = """\
name: tick/ets
seeed: 7
columns:
  product: {type: categori, values: [laptop, phone]}
  mood:
    type: category
    value: [calm, angry]
  ticket:  {type: prompt, prompt: "A {{ moood }} customer, {{ parameters.sise }} words."}
  loop: {type: prompt, prompt: "{{ pool }}"}
  pool: {type: prompt, prompt: "{{ loop }}"}
  me: {type: prompt, prompt: "{{ me }}"}
  filter:
    type: prompt
    prompt: |
      First line
      {{ mood | uper }}
  inside: {type: template, template: "{{ ''.__class__ }}"}
  form: {type: prompt, prompt: x, schema: {type: objekt}, parameters: {temperature: 3}}
  verdict: {type: judge, of: ticket, scores: {realism: "is it believable?"}}
  row: {type: uuid}
  3rd: {type: uuid}
  number: 3
  nothing: {values: [1]}
  every: {type: prompt, prompt: "{{ item.text }}", each: ticket}
  text: {type: prompt, prompt: "{{ item.text }}", each: actions}
  actions: {type: candidates, prompt: x}
  maybe: {type: uuid, when: "moods == 'calm'"}
keep: verdit.realism >= 2
parameters:
  size: {type: integer, default: x}
"""
SENTENCES = """\
1:7: name: a name has letters, digits, spaces and ._- and begins with a letter or digit.
2:1: there is no option 'seeed'. Did you mean 'seed'?
4:19: columns.product.type: there is no column type 'categori'. Did you mean 'category' or 'datetime'?
7:5: columns.mood: there is no option 'value'. Did you mean 'values'?
8:41: columns.ticket: there is no column 'moood'. Did you mean 'mood'?
8:63: columns.ticket.prompt: there is no parameter 'sise'. Did you mean 'size'?
9:36: columns.loop: no column of a circle can be made first: 'loop' needs 'pool', 'pool' needs 'loop'.
11:34: columns.me: the column 'me' needs itself.
16:1: columns.filter.prompt: there is no filter 'uper'. Did you mean 'upper'?
17:38: columns.inside.template: '__class__' is refused: a name that begins with an underscore reaches for Python's internals, and a template reads values only.
18:35: columns.form.schema: /type is 'objekt', and the types of JSON are array, boolean, integer, null, number, object, string.
18:85: columns.form.parameters.temperature: must be at most 2.0, not 3.
19:56: columns.verdict.scores.realism: 'is it believable?' does not begin with a scale. Write `0 to 4, what it means`, or {min: 0, max: 4, help: what it means}.
20:3: columns: a column cannot be called 'row': templates see the row's number by that name.
21:3: columns: '3rd' is no name here: letters, digits and _, at most 63, and a letter first.
22:11: columns.number: must be options, as in {type: prompt, prompt: ...}, not 3.
23:3: columns.nothing: the option 'type' is missing. There are: candidates, category, datetime, judge, number, person, prompt, python, seed, template, uuid.
24:58: columns.every: 'ticket' has no items; a column of type candidates has. There are: actions.
25:3: columns: the items of 'actions' have a field 'text' already: call the column otherwise.
27:30: columns.maybe: there is no column 'moods'. Did you mean 'mood'?
28:7: keep: there is no column 'verdit'. Did you mean 'verdict' or 'every'?
30:3: parameters.size: must be a whole number, not 'x'.
"""  # noqa: E501


def test_every_fault_is_told_with_its_line_and_the_nearest_right_name() -> None:
    with pytest.raises(RecipeErrors) as caught:
        Recipe.from_yaml(FAULTS, "faults.yaml")
    assert str(caught.value).splitlines() == [
        f"faults.yaml:{line}" for line in SENTENCES.splitlines()
    ]
    first = caught.value.each[0]
    assert (first.source, first.line, first.column) == ("faults.yaml", 1, 7)
    assert (caught.value.line, caught.value.column) == (1, 7)


def test_python_is_told_the_same_without_lines() -> None:
    with pytest.raises(RecipeErrors) as caught:
        tickets(columns={"a": Prompt("{{ b }}"), "c": {"type": "prmpt"}}, keep="d", seed=-1)
    assert str(caught.value).splitlines() == [
        "seed: must be at least 0, not -1.",
        "columns.c.type: there is no column type 'prmpt'. Did you mean 'prompt'?",
        "columns.a: there is no column 'b'. There are: a, c.",
        "keep: there is no column 'd'. There are: a, c.",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "r.yaml:1:1: a recipe is a mapping with `columns:`, not []."),
        ("name: a", "r.yaml:1:1: columns: a recipe needs at least one column."),
        ("name: a\ncolumns: {}", "r.yaml:2:10: columns: a recipe needs at least one column."),
        (
            "name: a\ncolumns: [b]",
            (
                "r.yaml:2:1: columns: must be a mapping of names, as in columns: {text: {type: "
                "prompt, prompt: ...}}, not ['b']."
            ),
        ),
        ("columns: {a: {type: uuid}}", "r.yaml:1:1: the option 'name' is missing."),
        (
            "name: a\ncolumns: {a: {type: uuid, self: 1}}",
            "r.yaml:2:27: columns.a: there is no option 'self'. There are: type, when.",
        ),
        (
            "name: a\ntable: b\ncolumns: {b: {type: candidates, prompt: x}}",
            "r.yaml:3:11: columns: the main table is called 'b' too. Name one of them otherwise.",
        ),
    ],
)
def test_what_is_no_recipe_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text, "r.yaml")
    assert str(caught.value).splitlines()[-1] == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompt": "a\0b"}, "columns.ticket: a text in it holds a NUL character."),
        (
            {"prompt": "a", "parameters": {"extra": {"k": float("nan")}}},
            "columns.ticket: it holds a number that JSON does not know, as NaN.",
        ),
    ],
)
def test_python_cannot_say_what_a_file_cannot(options: Value, sentence: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        tickets(columns={"ticket": Prompt(**options)}, keep=None)
    assert str(caught.value) == sentence


def test_python_cannot_say_half_a_surrogate_pair() -> None:
    with pytest.raises(RecipeErrors) as caught:
        tickets(columns={"mood": Category(["a\ud800", "b"])}, keep=None)
    assert str(caught.value) == "columns.mood: a text in it holds half a surrogate pair."


def test_a_recipe_does_not_change() -> None:
    recipe = tickets()
    with pytest.raises(AttributeError, match="A recipe does not change"):
        recipe.seed = 8  # type: ignore[misc]
    with pytest.raises(AttributeError, match="A recipe does not change"):
        recipe.folder = Path("x")
    with pytest.raises(TypeError):
        recipe.columns["mood"] = Uuid()  # type: ignore[index]
    assert copy.copy(recipe) == recipe
    assert pickle.loads(pickle.dumps(recipe)).digest == recipe.digest


# Parameters and other choices -------------------------------------------------------------------

SIZED = """\
name: sized
model: mock
parameters:
  words: {type: integer, min: 20, max: 400, default: 60, help: how long}
  topic: {type: string, help: what about}
columns:
  ticket:
    type: prompt
    prompt: "{{ parameters.words }} words about {{ parameters.topic }}"
    parameters: {temperature: 0.9}
    examples: [{user: a, assistant: b}]
  n: {type: candidates, prompt: x, n: "{{ parameters.words // 20 }}"}
"""


def test_a_parameter_without_a_default_must_be_given() -> None:
    recipe = Recipe.from_yaml(SIZED, "sized.yaml")
    with pytest.raises(RecipeError) as caught:
        _ = recipe.parameters
    assert str(caught.value) == (
        "sized.yaml:5:3: parameters.topic: the parameter 'topic' (what about) has no default: give "
        "it a value, text, with --param topic=VALUE."
    )
    given = recipe.with_values({"topic": "tea"})
    assert given.parameters == {"words": 60, "topic": "tea"}
    assert given.source == "sized.yaml"


def test_values_are_read_by_their_types() -> None:
    recipe = Recipe.from_yaml(SIZED).with_values({"words": "80", "topic": "80"}, seed=3, model="m")
    assert recipe.parameters == {"words": 80, "topic": "80"}
    assert (recipe.seed, recipe.model) == (3, "m")
    assert recipe.requests_per_row("n") == 4
    assert Recipe.from_yaml(recipe.to_yaml()).digest == recipe.digest
    asks = recipe.makers()["ticket"].asks({"row": 0})  # type: ignore[union-attr]
    assert isinstance(asks, list)
    assert asks[0].texts == ("80 words about 80",)


def test_options_of_columns_can_be_set() -> None:
    recipe = Recipe.from_yaml(SIZED).with_values(
        {"topic": "tea"},
        [
            ("ticket.parameters.temperature", "0.2"),
            ("ticket.parameters.max_tokens", "99"),
            ("ticket.examples.0.user", "yes"),
            ("ticket.examples[0].assistant", "'3'"),
            ("ticket.model", "other"),
            ("n.n", "5"),
            ("n.choices", "[a, b]"),
        ],
    )
    ticket, n = recipe.columns["ticket"], recipe.columns["n"]
    assert isinstance(ticket, Prompt)
    assert isinstance(n, Candidates)
    assert ticket.parameters.pairs() == (("temperature", 0.2), ("max_tokens", 99))
    assert ticket.examples[0].model_dump() == {"user": "yes", "assistant": "3"}
    assert (ticket.model, n.n, n.choices) == ("other", 5, ("a", "b"))
    cleared = recipe.with_values(sets=[("n.choices", ""), ("ticket.model", "null")])
    assert cleared.models() == {"mock"}


@pytest.mark.parametrize(
    ("parameters", "sets", "sentences"),
    [
        (
            {"wrds": 3},
            [],
            ["--param wrds=3: the recipe has no parameter 'wrds'. Did you mean 'words'?"],
        ),
        (
            {"words": "500"},
            [],
            ["--param words=500: must be a whole number from 20 to 400, not 500."],
        ),
        (
            {"words": True},
            [],
            ["--param words=True: must be a whole number from 20 to 400, not True."],
        ),
        (
            {},
            [("tiket.model", "x")],
            ["--set tiket.model=x: there is no column 'tiket'. Did you mean 'ticket'?"],
        ),
        ({}, [("ticket", "x")], ["--set ticket=x: write --set COLUMN.OPTION=VALUE."]),
        (
            {},
            [("ticket.prmpt", "x"), ("ticket.parameters.temperature", "hot")],
            [
                ("--set ticket.parameters.temperature=hot: columns.ticket.parameters.temperature: "
                "must be a number, not 'hot'."),
                ("--set ticket.prmpt=x: columns.ticket: there is no option 'prmpt'. "
                "Did you mean 'prompt' or 'parameters'?"),
            ],
        ),
        (
            {},
            [("ticket.examples.7.user", "x")],
            ["--set ticket.examples.7.user=x: the list has 1 entries, counted from 0."],
        ),
        (
            {},
            [("ticket.prompt.x", "x")],
            [("--set ticket.prompt.x=x: 'x' cannot be set in '{{ parameters.words }} words about "
             "{{ parameters.topic }}'.")],
        ),
        (
            {},
            [("ticket.model", "{")],
            [("--set ticket.model={:2:1: it is not YAML: did not find expected node content "
             "(while parsing a flow node from line 2).")],
        ),
        (
            {},
            [("ticket.prompt", "{{ x }}")],
            [("--set ticket.prompt={{ x }}:1:1: a text that begins with {{ must be in quotes: "
             '"{{ name }}".')],
        ),
        (
            {},
            [("ticket.prompt", "'{{ nn }}'")],
            [("--set ticket.prompt='{{ nn }}': columns.ticket: there is no column 'nn'. "
             "Did you mean 'n'?")],
        ),
    ],
)  # fmt: skip
def test_choices_that_do_not_fit_are_sentences(
    parameters: Value, sets: Value, sentences: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(SIZED, "sized.yaml").with_values(parameters, sets)
    assert sorted(str(error) for error in caught.value.each) == sentences


# Makers -------------------------------------------------------------------------------------------


def test_what_columns_refuse_is_told_for_all_of_them_with_lines() -> None:
    recipe = Recipe.from_yaml(
        "name: a\ncolumns:\n  one: {type: prompt, prompt: x}\n  two: {type: seed, file: no.csv}\n",
        "a.yaml",
    )
    with pytest.raises(RecipeErrors) as caught:
        recipe.makers()
    one, two = caught.value.each
    assert str(one) == (
        "a.yaml:3:3: columns.one: it asks a model, and neither it nor the recipe names one. Write "
        "`model: NAME`, or run with --model NAME (`wordmill models list`)."
    )
    assert str(two).startswith("a.yaml:4:27: columns.two.file: there is no file 'no.csv'")


def test_a_parameter_without_a_value_is_told_once_with_its_line() -> None:
    text = (
        "name: a\nparameters: {n: {type: integer}}\n"
        "columns:\n  one: {type: template, template: x}\n  two: {type: template, template: y}\n"
    )
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text, "a.yaml").makers()
    assert str(caught.value) == (
        "a.yaml:2:14: parameters.n: the parameter 'n' has no default: give it a value, a whole "
        "number, with --param n=VALUE."
    )


def test_a_column_is_not_pointed_to_itself_for_items() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe("a", model="m", columns={"one": Prompt("x"), "two": Judge(pairwise="one")})
    assert str(caught.value) == (
        "columns.two: 'one' has no items; a column of type candidates has."
    )


def test_the_digest_says_which_file_is_not_there_with_its_line() -> None:
    recipe = Recipe.from_yaml("name: a\ncolumns:\n  one: {type: seed, file: no.csv}\n", "a.yaml")
    with pytest.raises(RecipeErrors) as caught:
        _ = recipe.digest
    assert str(caught.value).startswith("a.yaml:3:27: columns.one.file: there is no file 'no.csv'")


def test_makers_come_in_the_order_of_making() -> None:
    columns = {"ticket": Prompt("{{ mood }}"), "mood": Category(["calm"])}
    assert list(tickets(columns=columns, keep=None).makers()) == ["mood", "ticket"]


# Finding recipes ----------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_recipe_is_a_file_a_folder_or_a_built_in_name(here: Path) -> None:
    (here / "tickets.yaml").write_text(TICKETS)
    assert Recipe.load("tickets.yaml") == tickets()
    assert Recipe.load(here / "tickets.yaml").folder == here
    (here / "mine").mkdir()
    (here / "mine" / "recipe.yaml").write_text(TICKETS)
    assert Recipe.load("mine").source == "mine/recipe.yaml"
    built_in = Recipe.load("rlhi")
    assert built_in.name == "rlhi"
    (here / "rlhi").mkdir()
    assert Recipe.load("rlhi") == built_in  # a folder without a recipe.yaml is in nobody's way
    (here / "rlhi" / "recipe.yaml").write_text(TICKETS)
    assert Recipe.load("rlhi") == tickets()


def test_what_is_not_there_has_the_nearest_name(here: Path) -> None:
    (here / "tickets.yaml").write_text(TICKETS)
    with pytest.raises(UnknownName) as caught:
        Recipe.load("rhli")
    assert str(caught.value) == (
        "There is no recipe 'rhli'. Did you mean 'rlhi'? A recipe is a file, a folder with a "
        "recipe.yaml, or the name of a built-in one."
    )
    sentences = {
        "ticket.yaml": "ticket.yaml: there is no such file. Did you mean 'tickets.yaml'?",
        "a/b": "a/b: there is no such file.",
        "script.py": "script.py: this is Python: run it with python. A recipe made there runs "
        "itself with `wordmill.generate(recipe, rows=...)`.",
    }
    (here / "script.py").write_text("")
    for what, sentence in sentences.items():
        with pytest.raises(RecipeError) as refused:
            Recipe.load(what)
        assert str(refused.value) == sentence


def test_loading_is_quick() -> None:
    """The budget is 60 ms after imports; here with room for a busy machine."""
    import time

    Recipe.load("rlhi")
    started = time.perf_counter()
    Recipe.load("rlhi")
    Recipe.from_yaml(TICKETS)
    assert time.perf_counter() - started < 0.3
