"""The built-in recipe `rlhi`: its axes, how they are dealt, and what its texts ask for.

Whole runs of it are in `test_rlhi_runs`.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from wordmill.columns.base import Context, Filler
from wordmill.columns.candidates import Candidates
from wordmill.columns.category import Category
from wordmill.columns.files import BUILT_IN, key_of, read_list, resolve
from wordmill.columns.judge import Judge
from wordmill.columns.prompt import Prompt
from wordmill.recipes import Recipe
from wordmill.types import Row, Value

AXES = {"word": 3_000, "scope": 17, "severity": 12, "region": 19, "category": 13, "domain": 14}
"""The axes of a scenario, and how many values each has."""

BEYOND_EARTH = {"Interstellar", "Intergalactic", "Cosmic or Universal"}
SPACE = {
    "Earth Orbit and the Moon",
    "Inner Solar System",
    "Outer Solar System",
    "Beyond the Solar System",
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.load("rlhi")


@pytest.fixture(scope="module")
def scenarios(recipe: Recipe) -> list[Row]:
    """What 5,000 scenarios are made of."""
    return drawn(recipe, 5_000)


def categories(recipe: Recipe) -> dict[str, Category]:
    """The recipe's sampled columns, in order."""
    columns = ((name, recipe.columns[name]) for name in recipe.order)
    return {name: column for name, column in columns if isinstance(column, Category)}


def drawn(recipe: Recipe, rows: int, seed: int | None = None) -> list[Row]:
    """Rows with their sampled columns, made without a run."""
    made: list[Row] = [{"row": row} for row in range(rows)]
    for name, column in categories(recipe).items():
        filler = column.prepare(
            Context(
                name=name,
                seed=recipe.seed if seed is None else seed,
                model=None,
                folder=recipe.folder,
                parameters=recipe.parameters,
                columns=recipe.columns,
            )
        )
        assert isinstance(filler, Filler)
        for row, value in zip(made, filler.fill(made), strict=True):
            row[name] = value
    return made


def values(recipe: Recipe, axis: str) -> list[Value]:
    column = categories(recipe)[axis]
    assert column.file is not None
    return list(read_list(resolve(recipe.folder, column.file), axis).values)


def names(written: Value) -> set[str]:
    """The values that a `forbid` names, one or a list."""
    return set(written if isinstance(written, list) else [written])


def forbidden(recipe: Recipe) -> Iterator[dict[str, set[str]]]:
    """Each forbidden combination: values by column, the column's own under its name."""
    for name, column in categories(recipe).items():
        for rule in column.model_dump()["forbid"]:
            own = {name if key == "value" else key: names(rule[key]) for key in rule}
            assert name in own
            yield own


@pytest.mark.parametrize(("axis", "count"), AXES.items())
def test_an_axis_has_its_values_each_once(recipe: Recipe, axis: str, count: int) -> None:
    found = [key_of(value) for value in values(recipe, axis)]
    assert len(found) == count
    assert len({name.casefold() for name in found}) == count


def test_words_are_single_lowercase_words_in_order(recipe: Recipe) -> None:
    words = values(recipe, "word")
    assert words == sorted(words)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_severity_is_one_strict_order(recipe: Recipe) -> None:
    steps = values(recipe, "severity")
    assert [step["rank"] for step in steps] == list(range(1, 13))
    assert len({step["meaning"] for step in steps}) == 12
    assert steps[0]["value"] == "Insignificant"
    assert steps[-1]["value"] == "Existential"


def test_there_are_eight_wordings_that_ask_for_the_same_thing(recipe: Recipe) -> None:
    wordings = values(recipe, "wording")
    assert len(wordings) == 8
    assert len({wording["text"] for wording in wordings}) == 8
    for wording in wordings:
        for asked in ("random descriptors", "one", "paragraph", "vivid"):
            assert asked in wording["text"].lower(), (wording["value"], asked)


def test_every_forbidden_combination_names_values_that_exist(recipe: Recipe) -> None:
    known = {axis: {key_of(value) for value in values(recipe, axis)} for axis in AXES}
    for rule in forbidden(recipe):
        assert len(rule) == 2
        for axis, found in rule.items():
            assert found <= known[axis], f"{axis} has no {found - known[axis]}"


def test_no_forbidden_combination_is_drawn(recipe: Recipe, scenarios: list[Row]) -> None:
    rules = list(forbidden(recipe))
    assert len(rules) == 11
    for row in scenarios:
        for rule in rules:
            broken = all(key_of(row[axis]) in found for axis, found in rule.items())
            assert not broken, f"row {row['row']} breaks {rule}"


def test_what_lies_beyond_the_earth_happens_there(scenarios: list[Row]) -> None:
    regions = {row["region"] for row in scenarios if row["scope"] in BEYOND_EARTH}
    assert regions == SPACE
    everyday = {row["scope"] for row in scenarios if row["category"] == "Mundane issue"}
    assert not everyday & BEYOND_EARTH
    assert len(everyday) == 14


def test_every_pair_that_is_allowed_is_drawn(recipe: Recipe, scenarios: list[Row]) -> None:
    """Forbidding takes nothing else away: each scope meets each category that it may have."""
    met = {(row["scope"], row["category"]) for row in scenarios}
    ruled_out = {
        (scope, category)
        for rule in forbidden(recipe)
        if rule.keys() == {"scope", "category"}
        for scope in rule["scope"]
        for category in rule["category"]
    }
    assert len(met) == 17 * 13 - len(ruled_out)
    assert not met & ruled_out


def test_the_default_200_scenarios_hold_every_value_equally_often(recipe: Recipe) -> None:
    """Within one of even. The words are not all there yet, so none is there twice."""
    rows = drawn(recipe, 200)
    assert len({row["word"] for row in rows}) == 200
    for axis in [name for name in categories(recipe) if name != "word"]:
        count = len(values(recipe, axis))
        found = Counter(key_of(row[axis]) for row in rows)
        assert len(found) == count
        for value, times in found.items():
            assert abs(times - 200 / count) <= 1, (axis, value)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [60, 1_000])
def test_any_seed_and_size_is_within_two_of_even(recipe: Recipe, rows: int, seed: int) -> None:
    """Two and not one, because of the forbidden combinations."""
    made = drawn(recipe, rows, seed)
    for axis in [name for name in AXES if name != "word"]:
        found = Counter(key_of(row[axis]) for row in made)
        even = rows / AXES[axis]
        for value in values(recipe, axis):
            assert abs(found[key_of(value)] - even) <= 2, (axis, value)


def test_the_first_scenarios_are_these(scenarios: list[Row]) -> None:
    """Golden: whoever changes an axis, the recipe's seed or the dealing changes every dataset."""
    assert [tuple(key_of(row[axis]) for axis in (*AXES, "wording")) for row in scenarios[:3]] == [
        (
            "formula",
            "National or Federal",
            "Insignificant",
            "South America",
            "Accident or Incident",
            "Social",
            "letter",
        ),
        (
            "tomb",
            "Chosen Family",
            "Serious",
            "Southeast Asia",
            "AI Control Problem",
            "Educational",
            "case",
        ),
        (
            "conductor",
            "Cosmic or Universal",
            "Disruptive",
            "Beyond the Solar System",
            "Environmental issue",
            "Political",
            "history",
        ),
    ]


def test_every_word_comes_once_before_any_comes_twice(scenarios: list[Row]) -> None:
    assert len({row["word"] for row in scenarios[:3_000]}) == 3_000


def test_more_scenarios_leave_the_first_ones_as_they_are(
    recipe: Recipe, scenarios: list[Row]
) -> None:
    assert drawn(recipe, 12) == scenarios[:12]
    assert drawn(recipe, 12, seed=8) != scenarios[:12]


def test_the_recipe_reads_every_file_beside_it_and_no_other(recipe: Recipe) -> None:
    """So a copy of its folder is a copy of the whole recipe."""
    read = [file for column in recipe.columns.values() for file in column.reads()]
    beside = {
        f"{BUILT_IN}rlhi/{path.relative_to(recipe.folder)}" for path in recipe.folder.rglob("*.*")
    }
    assert sorted(read) == sorted(beside - {f"{BUILT_IN}rlhi/recipe.yaml"})
    assert len(read) == 7


def test_actions_are_asked_for_in_six_ways(recipe: Recipe) -> None:
    actions = recipe.columns["actions"]
    assert isinstance(actions, Candidates)
    assert [variant.name for variant in actions.variants] == [
        "balanced",
        "suffering",
        "prosperity",
        "understanding",
        "short-sighted",
        "inaction",
    ]
    assert actions.sections == ("considerations", "action")
    assert actions.checks == ("refusal", "as_an_ai")


def test_verdicts_are_blind(recipe: Recipe) -> None:
    """What judges, forecasts, evaluates or plans never sees which variant an action was."""
    for name in ("scores", "comparisons", "forecast", "evaluation", "plan"):
        column = recipe.columns[name]
        assert isinstance(column, Judge | Prompt)
        for text in column.texts().values():
            assert "variant" not in text, name


def test_a_judge_scores_each_imperative_and_the_whole(recipe: Recipe) -> None:
    scores = recipe.columns["scores"]
    assert isinstance(scores, Judge)
    assert scores.scores is not None
    assert {name: (scale.min, scale.max) for name, scale in scores.scores.items()} == {
        "suffering": (0, 4),
        "prosperity": (0, 4),
        "understanding": (0, 4),
        "overall": (0, 4),
    }
