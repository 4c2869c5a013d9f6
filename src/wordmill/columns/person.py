"""`person`: a made-up person whose parts fit together.

    customer: {type: person, locale: [en_GB, de_DE], age: {min: 18, max: 80}}

The first name goes with gender and locale, the postcode with the city, the city with the region,
the job with the age (a surgeon is at least 33, who is 67 is retired), the age with the birth date.
Cities, regions and postcodes are real, and so are names; nobody is meant. Mail addresses are at
example.com, .org and .net, and telephone numbers are from what each country keeps for fiction or
does not give to anybody.

The facts are in `data/`, a file a locale. `age` is counted on a fixed day (`on`), so that a recipe
gives the same people next year.
"""

import tomllib
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.branches import Branches, read_branches
from wordmill.columns.sampling import Choice, Stream, below
from wordmill.errors import nearest
from wordmill.types import CellError, Row, Value

LOCALES = (
    "de_DE", "en_GB", "en_US", "es_ES", "fr_FR", "it_IT", "ja_JP", "nl_NL", "pl_PL", "pt_BR",
)  # fmt: skip

_DATA = Path(__file__).parent / "data"
_WORDS = 16  # drawn for each row: two hashes
_GENDERS = ("female", "male")
_MAIL = ("example.com", "example.org", "example.net")
_PLAIN = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ı": "i", "ø": "o", "æ": "ae", "đ": "d"})

_YOUNGEST, _OLDEST = 16, 100
_RETIRED = 67
_STUDENTS = {18: 60, 19: 60, 20: 50, 21: 45, 22: 45, 23: 35, 24: 25, 25: 20, 26: 10, 27: 5}
"""How many of a hundred study, by age."""
_APPRENTICES = {18: 20, 19: 20, 20: 15, 21: 5}
_EARLY_RETIRED = {62: 10, 63: 30, 64: 40, 65: 60, 66: 80}


class AgeRange(BaseModel):
    """Ages in years, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: int = Field(default=18, ge=_YOUNGEST, le=_OLDEST)
    max: int = Field(default=90, ge=_YOUNGEST, le=_OLDEST)

    @model_validator(mode="after")
    def _in_order(self) -> "AgeRange":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Person(Column):
    """A person: an object of `FIELDS`.

    locale: language and country (`LOCALES`); several, of which one is drawn; or by another
        column's value ({by: country, Germany: de_DE, else: en_US}; {by: locale} where that
        column's values are locales).
    age: years, 16 to 100, every one as likely.  on: the day on which they are counted.
    gender: `female` or `male`; each half of the rows if not given.
    """

    type: Literal["person"] = "person"
    locale: Value = Field(default="en_US", kw_only=False)
    age: AgeRange = AgeRange()
    gender: Literal["female", "male"] | None = None
    on: date = date(2025, 1, 1)

    @field_validator("locale")
    @classmethod
    def _known(cls, option: Value) -> Value:
        _locales(option)
        return option

    def needs(self) -> frozenset[str]:
        """The column that `by` names."""
        return _locales(self.locale).needs

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        return _People(self, context)

    def value_schema(self) -> Mapping[str, Any]:
        """An object of texts, and the age."""
        properties: dict[str, Mapping[str, Any]] = {name: {"type": "string"} for name in FIELDS}
        properties["age"] = {"type": "integer"}
        properties["gender"] = {"type": "string", "enum": list(_GENDERS)}
        properties["locale"] = {"type": "string", "enum": list(LOCALES)}
        return {"type": "object", "properties": properties}


FIELDS = (
    "name", "first_name", "last_name", "gender", "age", "birth_date", "street", "house_number",
    "postcode", "city", "region", "country", "job", "email", "phone", "locale",
)  # fmt: skip


def _locales(option: Value) -> Branches[tuple[str, ...]]:
    if isinstance(option, dict) and option.keys() == {"by"}:
        option = {**option, **{name: name for name in LOCALES}}
    return read_branches(option).map(_checked_locales)


def _checked_locales(names: Value) -> tuple[str, ...]:
    several = (names,) if isinstance(names, str) else names
    if not isinstance(several, list | tuple) or not several:
        raise ValueError(f"a locale is one of {', '.join(LOCALES)}, not {names!r}")
    for name in several:
        if name not in LOCALES:
            raise ValueError(f"there are no people for {name!r}{nearest(str(name), LOCALES)}")
    return tuple(several)


# Facts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
    """As it is written, and in Latin letters for an address."""

    written: str
    latin: str


@dataclass(frozen=True, slots=True)
class _City:
    """starts, ends: ranges of codes, and how many codes there are up to the end of each."""

    name: str
    region: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    districts: tuple[str, ...]
    area: str

    def postcode(self, locale: "_Locale", word: int, letters: int) -> str:
        """A postcode of the city."""
        if self.districts:
            district = self.districts[below(word, len(self.districts))]
            text = locale.postcode.replace("{district}", district)
            return _lettered(_filled(text, letters % 10, 1), letters >> 8, locale.letters)
        place = below(word, self.ends[-1])
        index = bisect_right(self.ends, place)
        code = self.starts[index] + place - (self.ends[index - 1] if index else 0)
        text = _filled(locale.postcode, code, locale.postcode.count("#"))
        return _lettered(text, letters, locale.letters) if locale.letters else text


@dataclass(frozen=True, slots=True)
class _Locale:
    """What is known of one locale. Gendered tuples are (female, male)."""

    country: str
    postcode: str
    phone: str
    letters: str
    house: tuple[int, int]
    house_parts: int
    surnames: int
    family_first: bool
    first: tuple[tuple[_Name, ...], tuple[_Name, ...]]
    last: tuple[tuple[_Name, ...], tuple[_Name, ...]]
    streets: tuple[str, ...]
    cities: tuple[_City, ...]
    jobs: Mapping[str, tuple[str, str]]


def _filled(pattern: str, number: int, digits: int) -> str:
    """`#` replaced by the digits of a number."""
    figures = f"{number:0{digits}d}"
    if "#" * digits in pattern:
        return pattern.replace("#" * digits, figures)
    left = iter(figures)
    return "".join(next(left) if sign == "#" else sign for sign in pattern)


def _lettered(text: str, number: int, letters: str) -> str:
    """`BB` replaced by two letters."""
    first, second = number % len(letters), number // len(letters) % len(letters)
    return text.replace("BB", letters[first] + letters[second])


def _latin(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(sign for sign in plain if sign.isascii() and sign.isalnum()).lower()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", " ").split(",") if part.strip()]


def _names(text: str, gender: int) -> tuple[_Name, ...]:
    names: list[_Name] = []
    for part in _listed(text):
        form = _form(part, gender)
        written, _, reading = form.partition(":")
        names.append(_Name(written, reading or _latin(written)))
    return tuple(names)


def _form(text: str, gender: int) -> str:
    """`female|male`, or one form for both."""
    forms = text.split("|")
    return forms[gender if len(forms) == 2 else 0]


def _city(name: str, facts: Mapping[str, str]) -> _City:
    starts: list[int] = []
    counts: list[int] = []
    districts: list[str] = []
    for part in facts.get("codes", "").split():
        low, _, high = part.partition("-")
        starts.append(int(low))
        counts.append(int(high or low) - int(low) + 1)
    for part in facts.get("districts", "").split():
        low, _, high = part.partition("-")
        area = low.rstrip("0123456789")
        first, last = (int((end or low).removeprefix(area)) for end in (low, high))
        districts += [f"{area}{number}" for number in range(first, last + 1)]
    return _City(
        name,
        facts["region"],
        tuple(starts),
        tuple(accumulate(counts)),
        tuple(districts),
        facts.get("area", ""),
    )


@cache
def _jobs_file() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((_DATA / "jobs.toml").read_text(encoding="utf-8"))


@cache
def _locale(name: str) -> _Locale:
    facts: Mapping[str, Any] = tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))
    titles = _jobs_file()[name.partition("_")[0]]
    return _Locale(
        country=facts["country"],
        postcode=facts["postcode"],
        phone=facts["phone"],
        letters=facts.get("letters", ""),
        house=(facts["house"][0], facts["house"][1]),
        house_parts=facts.get("house_parts", 1),
        surnames=facts.get("surnames", 1),
        family_first=facts.get("family_first", False),
        first=(_names(facts["female"], 0), _names(facts["male"], 1)),
        last=(_names(facts["last"], 0), _names(facts["last"], 1)),
        streets=tuple(_listed(facts["streets"])),
        cities=tuple(_city(city, about) for city, about in facts["cities"].items()),
        jobs={job: (_form(title, 0), _form(title, 1)) for job, title in titles.items()},
    )


@cache
def _work(age: int) -> tuple[tuple[str, ...], Choice]:
    """Jobs of an age, and their weights."""
    if age >= _RETIRED:
        return ("retired",), Choice([1])
    if age < 18:
        return ("pupil", "apprentice"), Choice([3, 1])
    ages: Mapping[str, tuple[int, int, int]] = _jobs_file()["ages"]
    weights = {job: w for job, (low, high, w) in ages.items() if low <= age <= high}
    shares = {
        "student": _STUDENTS.get(age, 0),
        "apprentice": _APPRENTICES.get(age, 0),
        "retired": _EARLY_RETIRED.get(age, 0),
    }
    left, total = 100 - sum(shares.values()), sum(weights.values())
    scaled = {job: weight * left for job, weight in weights.items()}
    scaled |= {job: share * total for job, share in shares.items() if share}
    return tuple(scaled), Choice(list(scaled.values()))


# People ---------------------------------------------------------------------------------------


class _People(Filler):
    def __init__(self, column: Person, context: Context) -> None:
        self._locales = _locales(column.locale)
        self._gender = None if column.gender is None else _GENDERS.index(column.gender)
        self._youngest, self._ages = column.age.min, column.age.max - column.age.min + 1
        self._on = column.on
        self._stream = Stream(context.seed, context.name)

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A person a row."""
        people: list[Value | CellError] = []
        for row in rows:
            key = self._locales.key(row)
            if isinstance(key, CellError):
                people.append(key)
            else:
                words = self._stream.many(row["row"], _WORDS)
                people.append(self._person(self._locales.branches[key], words))
        return people

    def _person(self, names: tuple[str, ...], words: list[int]) -> dict[str, Value]:
        locale_name = names[below(words[0], len(names))]
        locale = _locale(locale_name)
        gender = words[1] >> 63 if self._gender is None else self._gender
        age = self._youngest + below(words[2], self._ages)
        first = _of(locale.first[gender], words[4])
        surnames = [_of(locale.last[gender], word) for word in (words[5], words[13])]
        last = " ".join(name.written for name in surnames[: locale.surnames])
        city = _of(locale.cities, words[6])
        jobs, choice = _work(age)
        name = f"{last} {first.written}" if locale.family_first else f"{first.written} {last}"
        digits = locale.phone.count("#")
        return {
            "name": name,
            "first_name": first.written,
            "last_name": last,
            "gender": _GENDERS[gender],
            "age": age,
            "birth_date": _birth_date(self._on, age, words[3]).isoformat(),
            "street": _of(locale.streets, words[8]),
            "house_number": _house(locale, words[9]),
            "postcode": city.postcode(locale, words[7], words[14]),
            "city": city.name,
            "region": city.region,
            "country": locale.country,
            "job": locale.jobs[jobs[choice.index(words[10])]][gender],
            "email": f"{first.latin}.{surnames[0].latin}{below(words[12], 100):02d}"
            f"@{_MAIL[words[12] % len(_MAIL)]}",
            "phone": _filled(
                locale.phone.replace("{area}", city.area), below(words[11], 10**digits), digits
            ),
            "locale": locale_name,
        }


def _of(values: Sequence[Any], word: int) -> Any:
    return values[word * len(values) >> 64]


def _house(locale: _Locale, word: int) -> str:
    """Low numbers are more common than high ones: streets are short."""
    low, high = locale.house
    parts = (((word >> 32 * part & 0xFFFFFFFF) / 2**32) ** 2 for part in range(locale.house_parts))
    return "-".join(str(low + int(part * (high - low + 1))) for part in parts)


def _birth_date(on: date, age: int, word: int) -> date:
    """A day on which somebody of that age was born."""
    latest, before = _years_before(on, age), _years_before(on, age + 1)
    return latest - timedelta(days=below(word, (latest - before).days))


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February, in a year without one
        return day.replace(year=day.year - years, day=28)
