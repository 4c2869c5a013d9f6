"""A model that answers by script, and the exchange of a cell with it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wordmill.columns.base import Asker, Column, Context
from wordmill.types import Answer, Ask, CellError, Reply, Row, Usage, Value


def reply(text: str = "", **facts: Value) -> Reply:
    """What came back, all well unless said otherwise."""
    given: dict[str, Value] = {
        "text": text,
        "error": None,
        "detail": "",
        "finish": "stop",
        "model": "mock",
        "usage": Usage(10, 5),
        "cost": 0.0,
        "attempts": 1,
        "seconds": 0.1,
        "cached": False,
        "joined": False,
        "refusal": False,
        "digest": "0" * 32,
    }
    return Reply(**{**given, **facts})


def asker(column: Column, **context: Value) -> Asker:
    """The maker of a column called `cell`."""
    given: dict[str, Value] = {"name": "cell", "seed": 7, "model": "mock", "folder": Path()}
    maker = column.prepare(Context(**{**given, **context}))
    assert isinstance(maker, Asker)
    return maker


def cell(
    maker: Asker, row: Row, model: Callable[[Ask], Reply | str]
) -> tuple[Value | CellError, list[Ask]]:
    """A cell's value, and everything that was asked for it, in order."""
    asks = maker.asks(row)
    if isinstance(asks, CellError):
        return asks, []
    asked: list[Ask] = []
    items: list[Answer | CellError] = []
    for ask in asks:
        outcome: Answer | Ask | CellError = ask
        while isinstance(outcome, Ask):
            asked.append(outcome)
            answer = model(outcome)
            outcome = maker.take(row, outcome, reply(answer) if isinstance(answer, str) else answer)
        items.append(outcome)
    return maker.finish(row, items), asked


def script(*answers: Reply | str) -> Callable[[Ask], Reply | str]:
    """A model that gives these answers, one after the other."""
    left = list(answers)
    return lambda ask: left.pop(0)


def conversation(ask: Ask) -> Sequence[tuple[str, str]]:
    """What a question says: roles and texts, slots filled."""
    texts = iter(ask.texts)
    return [
        (message.role, message.text if message.text is not None else next(texts))
        for message in ask.shape.messages
    ]


ROW: Mapping[str, Value] = {"row": 3, "mood": "angry", "product": "phone"}
