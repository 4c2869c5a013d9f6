"""The order in which columns are made: each after those that it reads, else as written."""

import heapq
from collections.abc import Mapping, Sequence

from wordmill.columns.faults import Fault


def ordered(needs: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The columns in order. Of those that could be next, the one written first is.

    needs: for each column, in writing order, the columns that it reads. Columns that wait for
    themselves or for a circle are left out.
    """
    rank = {name: place for place, name in enumerate(needs)}
    waits = {name: len(reads & needs.keys()) for name, reads in needs.items()}
    frees: dict[str, list[str]] = {name: [] for name in needs}
    for name, reads in needs.items():
        for other in reads & needs.keys():
            frees[other].append(name)
    ready = [place for name, place in rank.items() if not waits[name]]
    names, order = list(needs), list[str]()
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for other in frees[name]:
            waits[other] -= 1
            if not waits[other]:
                heapq.heappush(ready, rank[other])
    return tuple(order)


def circles(needs: Mapping[str, frozenset[str]]) -> list[Fault]:
    """A sentence for each circle of columns that need each other."""
    left = needs.keys() - set(ordered(needs))
    faults: list[Fault] = []
    while left:
        circle = _circle(needs, left)
        if not circle:
            break
        first, *rest = circle
        if rest:
            steps = ", ".join(
                f"{name!r} needs {other!r}"
                for name, other in zip(circle, [*rest, first], strict=True)
            )
            message = f"no column of a circle can be made first: {steps}."
        else:
            message = f"the column {first!r} needs itself."
        reads = circle[1] if rest else first
        faults.append(Fault(("columns", first), message, word=reads))
        left = left - set(circle)
    return faults


def _circle(needs: Mapping[str, frozenset[str]], left: set[str]) -> Sequence[str]:
    """One circle among `left`, begun at the column of it that is written first; or nothing."""
    rank = {name: place for place, name in enumerate(needs)}
    for start in sorted(left, key=rank.__getitem__):
        path: list[str] = []
        name: str | None = start
        while name is not None and name not in path:
            path.append(name)
            name = min(needs[name] & left, key=rank.__getitem__, default=None)
        if name is not None:
            circle = path[path.index(name) :]
            first = circle.index(min(circle, key=rank.__getitem__))
            return [*circle[first:], *circle[:first]]
    return ()
