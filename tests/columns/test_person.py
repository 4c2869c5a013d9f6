"""People whose parts fit together, over ten thousand of them; and what is refused."""

import re
import tomllib
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import wordmill.columns.person as module
from tests.columns.filled import cell, cells, filled
from wordmill.columns.category import Category
from wordmill.columns.person import FIELDS, LOCALES, Person
from wordmill.errors import RecipeErrors
from wordmill.types import CellError, Value

DATA = Path(module.__file__).parent / "data"
EVERYWHERE = Person(list(LOCALES))

POSTCODES = {
    "de_DE": r"\d{5}", "en_US": r"\d{5}", "es_ES": r"\d{5}", "fr_FR": r"\d{5}", "it_IT": r"\d{5}",
    "en_GB": r"[A-Z]{1,2}\d{1,2} \d[ABD-HJLNP-UW-Z]{2}",
    "ja_JP": r"\d{3}-\d{4}", "nl_NL": r"[1-9]\d{3} [A-EGHJ-NPRTVWXZ]{2}", "pl_PL": r"\d{2}-\d{3}",
    "pt_BR": r"\d{5}-\d{3}",
}  # fmt: skip
"""As each country writes them."""

PLACES = {
    ("de_DE", "Dresden"): ("Sachsen", r"01\d{3}"),
    ("de_DE", "München"): ("Bayern", r"8[01]\d{3}"),
    ("en_US", "Boston"): ("Massachusetts", r"021\d{2}"),
    ("en_US", "Seattle"): ("Washington", r"981\d{2}"),
    ("en_GB", "Manchester"): ("Greater Manchester", r"M\d{1,2} .*"),
    ("en_GB", "Edinburgh"): ("City of Edinburgh", r"EH\d{1,2} .*"),
    ("es_ES", "Sevilla"): ("Andalucía", r"410[0-2]\d"),
    ("fr_FR", "Marseille"): ("Provence-Alpes-Côte d'Azur", r"130(0[1-9]|1[0-6])"),
    ("it_IT", "Bologna"): ("Emilia-Romagna", r"401\d{2}"),
    ("ja_JP", "仙台市"): ("宮城県", r"98[0-4]-\d{4}"),
    ("nl_NL", "Utrecht"): ("Utrecht", r"35\d{2} .*"),
    ("pl_PL", "Gdańsk"): ("pomorskie", r"80-\d{3}"),
    ("pt_BR", "Recife"): ("Pernambuco", r"5[0-2]\d{3}-\d{3}"),
}
"""Some that can be looked up, written here once more on purpose."""

PHONES = {
    "de_DE": r"\+49 30 23125 \d{3}", "en_US": r"\+1 \d{3}-555-01\d\d", "es_ES": r"\+34 500 .*",
    "fr_FR": r"\+33 6 39 98 \d\d \d\d", "it_IT": r"\+39 555 .*", "en_GB": r"\+44 7700 900\d{3}",
    "ja_JP": r"\+81 3-0000-\d{4}", "nl_NL": r"\+31 99 999 \d{4}", "pl_PL": r"\+48 99 .*",
    "pt_BR": r"\+55 \(00\) 5550-\d{4}",
}  # fmt: skip

YOUNGEST = {"surgeon": 33, "doctor": 29, "judge": 35, "professor": 36, "lawyer": 27, "dentist": 26,
            "head_teacher": 38, "teacher": 24, "pilot": 24, "software_developer": 21}  # fmt: skip


@cache
def facts(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def forms(text: str) -> tuple[str, str]:
    """What a woman and a man are called."""
    both = (text.split("|") * 2)[:2]
    return both[0], both[1]


@cache
def titles(locale: str) -> dict[str, tuple[str, str]]:
    return {job: forms(text) for job, text in facts("jobs")[locale[:2]].items()}


@pytest.fixture(scope="module")
def people() -> list[dict[str, Any]]:
    return cells(EVERYWHERE, range(10_000))


def test_all_locales_come_equally_often(people: list[dict[str, Any]]) -> None:
    counts = Counter(person["locale"] for person in people)
    assert counts.keys() == set(LOCALES)
    assert all(count == pytest.approx(1000, rel=0.12) for count in counts.values())
    assert all(tuple(person) == FIELDS for person in people)


def test_names_fit_gender_and_locale(people: list[dict[str, Any]]) -> None:
    for person in people:
        about = facts(person["locale"])
        index = ("female", "male").index(person["gender"])
        first = {word.partition(":")[0] for word in words(about[person["gender"]])}
        last = {forms(word)[index].partition(":")[0] for word in words(about["last"])}
        parts = [person["last_name"]]
        if about.get("surnames") == 2:
            parts = [a for a in last if person["last_name"].startswith(f"{a} ")]
            parts += [b for b in last if person["last_name"].endswith(f" {b}")]
            assert len(parts) >= 2
        assert person["first_name"] in first
        assert last.issuperset(parts)
        both = (person["first_name"], person["last_name"])
        assert person["name"] == " ".join(both if person["locale"] != "ja_JP" else both[::-1])
    genders = Counter(person["gender"] for person in people)
    assert genders["female"] == pytest.approx(5000, rel=0.05)


def test_postcodes_fit_city_region_and_country(people: list[dict[str, Any]]) -> None:
    checked = Counter[tuple[str, str]]()
    for person in people:
        locale, about = person["locale"], facts(person["locale"])
        assert person["country"] == about["country"]
        assert re.fullmatch(POSTCODES[locale], person["postcode"])
        place = about["cities"][person["city"]]
        assert person["region"] == place["region"]
        assert belongs(person["postcode"], place)
        if known := PLACES.get((locale, person["city"])):
            region, pattern = known
            assert person["region"] == region
            assert re.fullmatch(pattern, person["postcode"])
            checked[locale, person["city"]] += 1
    assert checked.keys() == PLACES.keys()


def belongs(postcode: str, place: dict[str, str]) -> bool:
    if "districts" in place:
        area, number = re.fullmatch(r"([A-Z]+)(\d+) .*", postcode).groups()
        spans = [re.findall(r"([A-Z]+)(\d+)", part) for part in place["districts"].split()]
        return any(
            span[0][0] == area and int(span[0][1]) <= int(number) <= int(span[-1][1])
            for span in spans
        )
    code = int("".join(sign for sign in postcode if sign.isdigit()))
    spans = [[int(end) for end in part.split("-")] for part in place["codes"].split()]
    return any(span[0] <= code <= span[-1] for span in spans)


def test_jobs_fit_ages(people: list[dict[str, Any]]) -> None:
    ages = facts("jobs")["ages"]
    seen = Counter[str]()
    for person in people:
        index = ("female", "male").index(person["gender"])
        named = titles(person["locale"])
        jobs = [job for job, both in named.items() if both[index] == person["job"]]
        assert len(jobs) == 1, person["job"]
        (job,) = jobs
        age = person["age"]
        seen[job] += 1
        assert age >= YOUNGEST.get(job, 18)
        if age >= 67:
            assert job == "retired"
        elif job == "retired":
            assert age >= 62
        elif job == "student":
            assert 18 <= age <= 27
        elif job == "apprentice":
            assert age <= 21
        else:
            assert ages[job][0] <= age <= ages[job][1]
    assert seen.keys() == set(titles("en_US")) - {"pupil"}
    students = [person["job"] for person in people if person["age"] == 19]
    share = sum(job in set(titles_of("student")) for job in students) / len(students)
    assert share == pytest.approx(0.6, abs=0.12)


def titles_of(job: str) -> list[str]:
    return [form for locale in LOCALES for form in titles(locale)[job]]


def test_birth_dates_fit_ages(people: list[dict[str, Any]]) -> None:
    on = date(2025, 1, 1)
    for person in people:
        born = date.fromisoformat(person["birth_date"])
        had_birthday = (on.month, on.day) >= (born.month, born.day)
        assert on.year - born.year - (not had_birthday) == person["age"]
    assert len({person["birth_date"][5:] for person in people}) > 350
    assert {person["age"] for person in people} == set(range(18, 91))


def test_addresses_for_mail_and_telephone_reach_nobody(people: list[dict[str, Any]]) -> None:
    for person in people:
        assert re.fullmatch(r"[a-z0-9]+\.[a-z0-9]+\d\d@example\.(com|org|net)", person["email"]), (
            person["email"]
        )
        assert re.fullmatch(PHONES[person["locale"]], person["phone"])
        assert person["street"] in words(facts(person["locale"])["streets"].replace("\n", " "))
        assert re.fullmatch(r"\d{1,4}(-\d{1,2})?", person["house_number"])


@pytest.mark.parametrize("locale", LOCALES)
def test_the_facts_of_a_locale(locale: str) -> None:
    about = facts(locale)
    for name, least in (("female", 50), ("male", 50), ("last", 70), ("streets", 40)):
        listed = words(about[name].replace("\n", " "))
        assert len(listed) >= least
        assert len(set(listed)) == len(listed), Counter(listed).most_common(1)
    assert len(about["cities"]) >= 25
    assert titles(locale).keys() == {
        *facts("jobs")["ages"], "retired", "student", "apprentice", "pupil",
    }  # fmt: skip
    for gender in (0, 1):
        named = [both[gender] for both in titles(locale).values()]
        assert len(set(named)) == len(named)


def test_ages_and_gender_may_be_asked_for() -> None:
    young = cells(Person("en_GB", age={"min": 16, "max": 17}, gender="female"), range(300))
    assert {person["gender"] for person in young} == {"female"}
    assert {person["age"] for person in young} == {16, 17}
    assert {person["job"] for person in young} == {"school student", "apprentice"}


def test_ages_are_counted_on_a_day() -> None:
    column = Person("en_GB", age={"min": 20, "max": 20}, on="2000-02-29")
    born = {date.fromisoformat(person["birth_date"]) for person in cells(column, range(2000))}
    assert min(born) == date(1979, 3, 1)
    assert max(born) == date(1980, 2, 29)


def test_a_locale_by_another_column() -> None:
    columns = {
        "country": Category(["Germany", "France", "Chile"]),
        "buyer": Person({"by": "country", "Germany": "de_DE", "else": ["es_ES", "fr_FR"]}),
    }
    assert columns["buyer"].needs() == {"country"}
    pairs = {(row["country"], row["buyer"]["locale"]) for row in filled(columns, range(100))}
    assert pairs == {
        ("Germany", "de_DE"), ("France", "es_ES"), ("France", "fr_FR"), ("Chile", "es_ES"),
        ("Chile", "fr_FR"),
    }  # fmt: skip


def test_a_locale_that_another_column_names() -> None:
    column = Person({"by": "lang"})
    found = cell(column, {"lang": "ja_JP"})
    assert isinstance(found, dict)
    assert found["country"] == "日本"
    assert str(cell(column, {"lang": "de_AT"})).startswith(
        "sampling: nothing is given for lang = 'de_AT'. Did you mean 'de_DE'"
    )
    assert isinstance(cell(column, {"lang": None}), CellError)


@pytest.mark.parametrize("window", [1, 7, 512])
def test_a_row_is_the_same_in_any_window_and_order(window: int) -> None:
    columns = {"x": EVERYWHERE}
    rows = filled(columns, range(300))
    assert filled(columns, range(300), window=window) == rows
    assert filled(columns, range(299, -1, -1), window=window)[::-1] == rows


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"locale": "de_AT"}, ("Person: locale: there are no people for 'de_AT'. Did you mean "
         "'de_DE'?")),
        ({"locale": []}, ("Person: locale: a locale is one of de_DE, en_GB, en_US, es_ES, fr_FR, "
         "it_IT, ja_JP, nl_NL, pl_PL, pt_BR, not [].")),
        ({"locale": {"by": "x", "a": "en"}},
         "Person: locale: there are no people for 'en'. Did you mean 'en_US' or 'en_GB'?"),
        ({"age": {"min": 50, "max": 20}}, "Person: age: min 50 is above max 20."),
        ({"age": {"min": 3}}, "Person: age.min: must be at least 16, not 3."),
        ({"gender": "f"}, "Person: gender: cannot be 'f'. There are: female, male."),
        ({"name": "Ann"}, "Person: there is no option 'name'. Did you mean 'age'?"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options: dict[str, Value], sentence: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Person(**options)
    assert str(caught.value.errors[0]) == sentence


def test_the_schema_of_its_values() -> None:
    schema = Person().value_schema()
    assert tuple(schema["properties"]) == FIELDS
    assert schema["properties"]["age"] == {"type": "integer"}
    assert Person().needs() == frozenset()
