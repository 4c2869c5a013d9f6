"""`category`: one of some values, drawn by weight or dealt in balance.

    product: {type: category, values: [laptop, phone], weights: [2, 1]}

`draw: random` decides each row for itself. `draw: balanced` deals the values in shuffled blocks,
so that any number of rows holds each as often as its weight says, give or take one.

Two things make balance harder, and are worth the trouble. With `by`, the rows of one branch lie
scattered; with `forbid`, some rows cannot take what they were dealt. Where the columns that decide
are categories themselves, a whole **hand** of neighbouring rows is dealt at once: their deciding
values are worked out, each branch gets its own blocks, and a row that may not keep its value
changes with the nearest row that can. Elsewhere (a model decides, say) a row only knows itself:
then a branch is dealt by row number, and a forbidden value is drawn again among those allowed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.branches import OTHERWISE, Branches, field_of, read_branches
from wordmill.columns.crossing import Crossing, crossing
from wordmill.columns.files import (
    Listed,
    checked_weight,
    key_of,
    listed,
    read_list,
    resolve,
)
from wordmill.columns.sampling import Choice, Deck, Stream, block_counts
from wordmill.errors import RecipeError, nearest
from wordmill.types import CellError, Row, Value

OWN = "value"

_HAND = 1024  # rows dealt at once, about; a cell made alone costs as much as this many
_LONGEST_HAND = 8192
_KEPT = 4  # hands remembered
_SHOWN = 1000  # values that a schema lists


class Category(Column):
    """One of some values.

    values: a list, or lists by another column's value ({by: country, de: [...], else: [...]}).
        An entry may be an object with `value`, and maybe `weight` and other fields.
    weights: a number a value; by another column's value too, where `values` is one list or
        branches by the same column.
    file: the values' file, instead of `values`.
    draw: `random`; `balanced` over any number of rows; or `crossed` with all other crossed columns
        (see `crossing`).
    forbid: combinations that may not be, each {this column: value or values, other column: value
        or values, ...}. This column comes first; inside it is called `value`.
    """

    type: Literal["category"] = "category"
    values: Value = Field(default=None, kw_only=False)
    weights: Value = None
    file: str | None = None
    draw: Literal["random", "balanced", "crossed"] = "random"
    forbid: tuple[dict[str, Value], ...] = ()

    @field_validator("values")
    @classmethod
    def _values(cls, option: Value) -> Value:
        if option is not None:
            read_branches(option).map(_listed)
        return option

    @field_validator("weights")
    @classmethod
    def _weights(cls, option: Value) -> Value:
        if option is not None:
            read_branches(option).map(_weights)
        return option

    @field_validator("forbid", mode="before")
    @classmethod
    def _forbid(cls, rules: Value) -> Value:
        return tuple(map(_rule, rules)) if isinstance(rules, list | tuple) else rules

    @model_validator(mode="after")
    def _one_source(self) -> "Category":
        if (self.values is None) == (self.file is None):
            raise ValueError("a category has `values` or a `file`, one of them")
        if self.file is not None and self.weights is not None:
            raise ValueError(
                "with a `file`, weights stand in it, in a field `weight` of each value"
            )
        if self.values is not None:
            lists = self._lists(None)
            if self.draw == "crossed" and (self.weights or self.forbid or lists.path):
                raise ValueError(
                    "crossed values come in every combination: no weights, no `forbid`, no `by`"
                )
        return self

    def _lists(self, from_file: Listed | None) -> Branches[Listed]:
        """Values with their weights, by branch. Raises ValueError where they do not fit."""
        if from_file is not None:
            return Branches((), {"": from_file})
        lists = read_branches(self.values).map(_listed)
        if self.weights is None:
            return lists
        if any(each.weighted for each in lists.branches.values()):
            raise ValueError("weights stand in `weights` or with the values, not in both places")
        weights = read_branches(self.weights).map(_weights)
        if not weights.path:
            weights = Branches(lists.path, dict.fromkeys(lists.branches, weights.branches[""]))
        elif not lists.path:
            lists = Branches(weights.path, dict.fromkeys(weights.branches, lists.branches[""]))
        elif weights.path != lists.path or weights.branches.keys() != lists.branches.keys():
            raise ValueError("`values` and `weights` follow the same column, with the same keys")
        return Branches(
            lists.path,
            {
                key: _with_weights(each, weights.branches[key], key)
                for key, each in lists.branches.items()
            },
        )

    def needs(self) -> frozenset[str]:
        """The column that `by` names, and the others in `forbid`."""
        names = {name.partition(".")[0] for rule in self.forbid for name in rule if name != OWN}
        for option in (self.values, self.weights):
            names |= read_branches(option).needs
        return frozenset(names)

    def reads(self) -> tuple[str, ...]:
        """The file of values."""
        return () if self.file is None else (self.file,)

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        where = f"columns.{context.name}"
        lists = self._read(context.folder, where)
        if self.draw == "crossed":
            return _Crossed(crossing(context), lists.branches[""].values)
        _check_branches(lists, context, f"{where}.values" if self.values else f"{where}.weights")
        rules = _rules(self.forbid, lists, context, f"{where}.forbid")
        if self.draw == "random":
            return _Drawn(context, lists, rules)
        if not lists.path and not rules.others:
            return _Dealt(context, lists.branches[""])
        foresight = _foresee(context, self.needs())
        if foresight is None:
            return _Drawn(context, lists, rules, balanced=True)
        return _DealtInHands(context, lists, rules, foresight)

    def crossed(self, folder: Path, where: str) -> int | None:
        """How many values there are, if they are crossed with others."""
        if self.draw != "crossed":
            return None
        return len(self._read(folder, where).branches[""].values)

    def _read(self, folder: Path, where: str) -> Branches[Listed]:
        """The values, from the file if they are in one."""
        if self.file is None:
            return self._lists(None)
        return self._lists(read_list(resolve(folder, self.file, f"{where}.file"), f"{where}.file"))

    def value_schema(self) -> Mapping[str, Any]:
        """The type of the values, and all of them where they are few; {} if they are in a file."""
        if self.file is not None:
            return {}
        lists = self._lists(None).branches.values()
        return _schema([value for each in lists for value in each.values])


# What is written ------------------------------------------------------------------------------


def _listed(option: Value) -> Listed:
    if not isinstance(option, list | tuple):
        raise ValueError(f"the values are a list, or lists after `by`, not {option!r}")
    return listed(option, "the list")


def _weights(option: Value) -> tuple[float, ...]:
    if not isinstance(option, list | tuple):
        raise ValueError(f"the weights are a list, or lists after `by`, not {option!r}")
    weights = tuple(checked_weight(weight, "the list") for weight in option)
    if not any(weights):
        raise ValueError("at least one weight is above 0")
    return weights


def _with_weights(values: Listed, weights: tuple[float, ...], branch: str) -> Listed:
    if len(values.values) != len(weights):
        place = f" for {branch!r}" if branch else ""
        raise ValueError(
            f"there are {len(values.values)} values and {len(weights)} weights{place}; "
            "give one weight a value"
        )
    return replace(values, weights=weights)


def _rule(rule: Value) -> Value:
    """A forbidden combination with this column under `value`, whatever it was called."""
    if not isinstance(rule, dict) or len(rule) < 2:
        raise ValueError(
            f"a forbidden combination names values of this column and of another, not {rule!r}"
        )
    own = OWN if OWN in rule else next(iter(rule))
    others = {name: part for name, part in rule.items() if name != own}
    return {OWN: rule[own], **others}


def _check_branches(lists: Branches[Listed], context: Context, where: str) -> None:
    """Refuse branches that a category can never take, and values without a branch."""
    column = context.columns.get(lists.path[0]) if lists.path else None
    if not isinstance(column, Category) or column.values is None or len(lists.path) > 1:
        return
    known = _keys(column._lists(None))
    for key in lists.branches.keys() - known - {OTHERWISE}:
        raise RecipeError(f"{lists.path[0]!r} has no value {key!r}{nearest(key, known)}", where)
    if OTHERWISE not in lists.branches:
        for key in sorted(known - lists.branches.keys()):
            raise RecipeError(
                f"nothing is given for {lists.path[0]} = {key!r}; add it, or `{OTHERWISE}` for all "
                "that are not named.",
                where,
            )


def _keys(lists: Branches[Listed]) -> set[str]:
    return {key_of(value) for each in lists.branches.values() for value in each.values}


@dataclass(frozen=True, slots=True)
class _Rules:
    """Forbidden combinations. `others`: the columns and fields that they look at, each once."""

    others: tuple[tuple[str, ...], ...]
    rules: tuple[tuple[frozenset[str], tuple[tuple[int, frozenset[str]], ...]], ...]
    _seen: dict[tuple[str, ...], frozenset[str]]

    def banned(self, row: Row) -> frozenset[str]:
        """Names of the values that a row may not take."""
        combination = tuple([_key_at(row, path) for path in self.others])
        banned = self._seen.get(combination)
        if banned is None:
            names: set[str] = set()
            for own, conditions in self.rules:
                if all(combination[place] in keys for place, keys in conditions):
                    names |= own
            banned = frozenset(names)
            if len(self._seen) < 10_000:
                self._seen[combination] = banned
        return banned


def _key_at(row: Row, path: tuple[str, ...]) -> str:
    value = row[path[0]]
    if type(value) is str:
        return value if len(path) == 1 else ""
    value = field_of(row, path)
    return "" if isinstance(value, CellError) else key_of(value)


def _rules(
    written: Sequence[Mapping[str, Value]], lists: Branches[Listed], context: Context, where: str
) -> _Rules:
    others: list[tuple[str, ...]] = []
    rules: list[tuple[frozenset[str], tuple[tuple[int, frozenset[str]], ...]]] = []
    known = _keys(lists)
    for rule in written:
        own = _names(rule[OWN])
        for key in sorted(own - known):
            raise RecipeError(
                f"{context.name!r} has no value {key!r}{nearest(key, known)} The first name in a "
                "forbidden combination is this column itself.",
                where,
            )
        conditions: list[tuple[int, frozenset[str]]] = []
        for name, values in rule.items():
            if name == OWN:
                continue
            path = tuple(name.split("."))
            if path not in others:
                others.append(path)
            column = context.columns.get(name)
            if isinstance(column, Category) and column.values is not None:
                theirs = _keys(column._lists(None))
                for key in sorted(_names(values) - theirs):
                    raise RecipeError(f"{name!r} has no value {key!r}{nearest(key, theirs)}", where)
            conditions.append((others.index(path), _names(values)))
        rules.append((own, tuple(conditions)))
    return _Rules(tuple(others), tuple(rules), {})


def _names(values: Value) -> frozenset[str]:
    return frozenset(map(key_of, values if isinstance(values, list | tuple) else [values]))


def _schema(values: Sequence[Value]) -> Mapping[str, Any]:
    """A JSON schema for values of one type: scalars, or objects with the same fields."""
    types = {_TYPES.get(type(value)) for value in values}
    if types == {"integer", "number"}:
        types = {"number"}
    if len(types) != 1 or None in types:
        return {}
    (name,) = types
    if name in ("string", "integer") and len(values) <= _SHOWN:
        return {"type": name, "enum": list(dict.fromkeys(values))}
    if name != "object" or len({frozenset(value) for value in values}) != 1:
        return {"type": name} if name != "object" else {}
    fields = {field: _schema([value[field] for value in values]) for field in values[0]}
    return {"type": "object", "properties": fields}


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}


# What is drawn --------------------------------------------------------------------------------


class _Branch:
    """The values of one branch, ready to be drawn."""

    __slots__ = ("_allowed", "choice", "deck", "keys", "values", "weights")

    def __init__(self, context: Context, key: str, values: Listed) -> None:
        self.values, self.weights = values.values, values.weights
        self.keys = tuple(map(key_of, values.values))
        self.choice = Choice(values.weights)
        self.deck = Deck(context.seed, context.name, block_counts(values.weights), key)
        self._allowed: dict[frozenset[str], tuple[list[int], Choice | None]] = {}

    def draw_allowed(self, banned: frozenset[str], word: int) -> int | None:
        """The index of a value that is not banned, by weight; None if all are."""
        found = self._allowed.get(banned)
        if found is None:
            allowed = [
                index
                for index, key in enumerate(self.keys)
                if key not in banned and self.weights[index] > 0
            ]
            choice = Choice([self.weights[index] for index in allowed]) if allowed else None
            found = self._allowed[banned] = allowed, choice
        allowed, choice = found
        return None if choice is None else allowed[choice.index(word)]


class _Dealt(Filler):
    """Balanced over all rows: nothing else decides."""

    def __init__(self, context: Context, values: Listed) -> None:
        self.branch = _Branch(context, "", values)

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        values = self.branch.values
        return [values[index] for index in self.branch.deck.indexes([row["row"] for row in rows])]


class _Crossed(Filler):
    """Every combination with the other crossed columns."""

    def __init__(self, part: Crossing, values: Sequence[Value]) -> None:
        self._part, self._values = part, values

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        return [self._values[place] for place in self._part.places([row["row"] for row in rows])]


class _Drawn(Filler):
    """Each row for itself."""

    def __init__(
        self, context: Context, lists: Branches[Listed], rules: _Rules, balanced: bool = False
    ) -> None:
        self._lists, self._rules, self._balanced = lists, rules, balanced
        self._branches = {
            key: _Branch(context, key, values) for key, values in lists.branches.items()
        }
        self._draws = Stream(context.seed, context.name)
        self._again = Stream(context.seed, context.name, "again")

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        words = self._draws.words([row["row"] for row in rows])
        if not self._lists.path and not self._rules.others and not self._balanced:
            only = self._branches[""]
            values = only.values
            return [values[index] for index in only.choice.indexes(words)]
        return [self._cell(row, word) for row, word in zip(rows, words, strict=True)]

    def _cell(self, row: Row, word: int) -> Value | CellError:
        key = self._lists.key(row)
        if isinstance(key, CellError):
            return key
        branch = self._branches[key]
        if self._balanced:
            (index,) = branch.deck.indexes((row["row"],))
        else:
            index = branch.choice.index(word)
        if self._rules.others:
            banned = self._rules.banned(row)
            if branch.keys[index] in banned:
                allowed = branch.draw_allowed(banned, self._again.word(row["row"]))
                return _all_banned(banned) if allowed is None else branch.values[allowed]
        return branch.values[index]


def _all_banned(banned: frozenset[str]) -> CellError:
    return CellError(
        "sampling", f"every value is forbidden here: {', '.join(sorted(banned))}"[:300]
    )


# Dealt in hands -------------------------------------------------------------------------------

_Foresight = tuple[tuple[str, Filler], ...]


def _foresee(context: Context, names: frozenset[str]) -> _Foresight | None:
    """Fillers for columns and all that these read, in order; None unless all are categories."""
    found: dict[str, Filler] = {}
    open_names: set[str] = set()

    def visit(name: str) -> bool:
        if name in found:
            return True
        column = context.columns.get(name)
        if not isinstance(column, Category) or column.when is not None or name in open_names:
            return False
        open_names.add(name)
        if not all(visit(need) for need in sorted(column.needs())):
            return False
        found[name] = column.prepare(replace(context, name=name))
        return True

    return tuple(found.items()) if all(visit(name) for name in sorted(names)) else None


@dataclass(frozen=True, slots=True)
class _Hand:
    """Neighbouring rows with the values that decide, and what they were dealt."""

    cells: list[Value | CellError]
    rows: list[Row]


class _DealtInHands(Filler):
    """Balanced within the branches of other categories, and around forbidden combinations."""

    def __init__(
        self, context: Context, lists: Branches[Listed], rules: _Rules, foresight: _Foresight
    ) -> None:
        self._lists, self._rules, self._foresight = lists, rules, foresight
        self._branches = {
            key: _Branch(context, key, values) for key, values in lists.branches.items()
        }
        self._again = Stream(context.seed, context.name, "again")
        self._size = self._hand_size()
        self._hands: dict[int, _Hand] = {}
        self._alone = _Drawn(context, lists, rules, balanced=True)
        self._decide = tuple({path[0] for path in (*rules.others, lists.path) if path})

    def _hand_size(self) -> int:
        """Rows in a hand: where it can be, so many that each branch gets whole blocks."""
        decides = dict(self._foresight).get(self._lists.path[0]) if self._lists.path else None
        if not isinstance(decides, _Dealt):
            return _HAND
        times = 1
        deck = decides.branch.deck
        for key, branch in self._branches.items():
            share = sum(
                count
                for name, count in zip(decides.branch.keys, deck.counts, strict=True)
                if name == key or (key == OTHERWISE and name not in self._branches)
            )
            times = lcm(times, branch.deck.size // gcd(branch.deck.size, share or branch.deck.size))
            if deck.size * times > _LONGEST_HAND:
                return _HAND
        whole = deck.size * times
        return whole * -(-_HAND // (2 * whole))

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        size, decide = self._size, self._decide
        cells: list[Value | CellError] = []
        current, hand = -1, _Hand([], [])
        for row in rows:
            number, place = divmod(row["row"], size)
            if number != current:
                current, hand = number, self._hand(number)
            foreseen = hand.rows[place]
            # A row that completes an earlier run's may have other values than those foreseen.
            if all(row[name] == foreseen[name] for name in decide):
                cells.append(hand.cells[place])
            else:
                cells += self._alone.fill([row])
        return cells

    def _hand(self, number: int) -> "_Hand":
        hand = self._hands.get(number)
        if hand is None:
            while len(self._hands) >= _KEPT:
                self._hands.pop(next(iter(self._hands)), None)
            hand = self._hands[number] = self._deal(number)
        return hand

    def _deal(self, number: int) -> "_Hand":
        first = number * self._size
        rows: list[Row] = [{"row": row} for row in range(first, first + self._size)]
        failed: dict[int, CellError] = {}
        for name, filler in self._foresight:
            for place, value in enumerate(filler.fill(rows)):
                rows[place][name] = value
                if type(value) is CellError:
                    failed[place] = value
        cells: list[Value | CellError] = [None] * self._size
        if self._lists.path:
            places: dict[str, list[int]] = {key: [] for key in self._branches}
            for place, row in enumerate(rows):
                key = failed.get(place) or self._lists.key(row)
                if isinstance(key, CellError):
                    cells[place] = key
                else:
                    places[key].append(place)
        else:
            places = {"": [place for place in range(self._size) if place not in failed]}
            for place, error in failed.items():
                cells[place] = error
        for key, branch in self._branches.items():
            # Without `by` the deck simply runs on; a branch starts each hand with a new block.
            start, count = first, len(places[key])
            if self._lists.path:
                start = number * -(-self._size // branch.deck.size) * branch.deck.size
            dealt = branch.deck.indexes(range(start, start + count))
            values = branch.values
            if self._rules.others:
                for place, error in self._exchange(branch, [rows[p] for p in places[key]], dealt):
                    cells[places[key][place]] = error
            for place, index in zip(places[key], dealt, strict=True):
                if index >= 0:
                    cells[place] = values[index]
        return _Hand(cells, rows)

    def _exchange(
        self, branch: _Branch, rows: list[Row], dealt: list[int]
    ) -> list[tuple[int, CellError]]:
        """Give forbidden values to the nearest rows of the branch that may have them, in place.

        rows: of the branch.  dealt: the index of the value of each; -1 where none is allowed.
        Returns these places, with why.
        """
        banned = [self._rules.banned(row) for row in rows]
        keys, none = branch.keys, list[tuple[int, CellError]]()
        stuck: set[tuple[str, frozenset[str]]] = set()  # found no partner: not looked for again
        for here, not_here in enumerate(banned):
            mine = keys[dealt[here]]
            if mine not in not_here:
                continue
            for there in _outwards(here, len(rows)) if (mine, not_here) not in stuck else ():
                if (
                    dealt[there] >= 0
                    and keys[dealt[there]] not in not_here
                    and mine not in banned[there]
                ):
                    dealt[here], dealt[there] = dealt[there], dealt[here]
                    break
            else:
                stuck.add((mine, not_here))
                allowed = branch.draw_allowed(not_here, self._again.word(rows[here]["row"]))
                dealt[here] = -1 if allowed is None else allowed
                if allowed is None:
                    none.append((here, _all_banned(not_here)))
        return none


def _outwards(start: int, count: int) -> Iterator[int]:
    """Places around one, the nearest first, both ways."""
    for distance in range(1, count):
        if start + distance < count:
            yield start + distance
        if start - distance >= 0:
            yield start - distance
