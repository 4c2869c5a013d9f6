"""Ways through a conversation's tree, as queries.

A branch is found from its end: each message names its parent, and a recursive query follows them as
far as is wanted. So the last fifty of ten thousand messages cost fifty look-ups.
"""

from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, case, func, literal, select

from wordmill.database import conversations, messages

MOST = 1_000_000
"""Where a walk ends at the latest, whatever a damaged tree says."""


def upwards(start: ColumnElement[bool], owner: str, limit: int | None) -> CTE:
    """From the messages where `start` holds towards their roots: `id` and `depth`, from 0.

    owner: whose conversation it must be.  limit: of messages; None is to the root.
    """
    walk = (
        select(messages.c.id, messages.c.parent, literal(0).label("depth"))
        .join(conversations, conversations.c.id == messages.c.conversation)
        .where(start, conversations.c.owner == owner)
        .cte("walk", recursive=True)
    )
    above = messages.alias("above")
    return walk.union_all(
        select(above.c.id, above.c.parent, walk.c.depth + 1)
        .join(walk, above.c.id == walk.c.parent)
        .where(walk.c.depth + 1 < (MOST if limit is None else limit))
    )


def newest_leaf(message: str) -> Select[Any]:
    """The id at the end of the way down from a message that takes the newest child each time."""
    down = (
        select(messages.c.id, literal(0).label("depth"))
        .where(messages.c.id == message)
        .cte("down", recursive=True)
    )
    child, other = messages.alias("child"), messages.alias("other")
    newest = (
        select(func.max(other.c.number))
        .where(other.c.parent == down.c.id)
        .correlate(down)
        .scalar_subquery()
    )
    down = down.union_all(
        select(child.c.id, down.c.depth + 1)
        .select_from(down)
        .join(child, child.c.number == newest)
        .where(down.c.depth < MOST)
    )
    return select(down.c.id).order_by(down.c.depth.desc()).limit(1)


def among_siblings() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """For each row of `messages`: its place among its siblings, from 1, and how many they are."""
    before = _count(earlier=True).label("place")
    return before, _count(earlier=False).label("siblings")


def _count(*, earlier: bool) -> ColumnElement[int]:
    other = messages.alias("sibling")
    upto = other.c.number <= messages.c.number if earlier else literal(True)
    count = select(func.count()).select_from(other).correlate(messages)
    # Two questions, so that both databases answer from an index. Roots are looked for among the
    # conversation's messages (hence the coalesce), never among the roots of everybody's.
    return case(
        (
            messages.c.parent.is_(None),
            count.where(
                and_(
                    other.c.conversation == messages.c.conversation,
                    func.coalesce(other.c.parent, "") == "",
                    upto,
                )
            ).scalar_subquery(),
        ),
        else_=count.where(other.c.parent == messages.c.parent, upto).scalar_subquery(),
    )
