"""Answers that Rust alone cannot give: checked and asked again, or handed to a function.

A line says so in its object `wordmill`, or the batch does for all of its lines:

    validate    one of `schema` (JSON schema), `choices` (texts), `pattern` (a regular expression);
                `tries`: how often it is asked in all
    post        `package.module:function` (see `functions`)

`Asker` stands behind the engine's Blocks. A block goes through them as any other; what has to be
asked again goes through them once more, as lines of a block far beyond the file, so that an answer
is found again in the engine's records after a crash, and a ceiling holds for all tries together.
A line has one record at the end: the last answer, with what all tries used.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import orjson

from wordmill._engine import Blocks, Engine, Segment
from wordmill.batches.functions import KIND, Functions, checked
from wordmill.batches.types import WORDLESS, Batch, Block
from wordmill.columns.answers import AnswerForm, BySchema, Complaint, OneOf
from wordmill.errors import InvalidInput
from wordmill.settings import Settings
from wordmill.types import CellError, Value

TRIES: Final = 3
MOST_TRIES: Final = 10
LONGEST: Final = 200_000
"""Characters of a `validate`, as JSON."""
FAR: Final = 40
"""A line that is asked again is in the engine under its number and its try, so many bits higher."""
TURN: Final = 0.2
"""Seconds after which functions give the turn back; the rest waits for the next one."""

_FORMS: Final = ("schema", "choices", "pattern")


@dataclass(frozen=True, slots=True)
class Check:
    """How an answer must look, and how often it is asked for in all."""

    form: AnswerForm
    tries: int


def check_of(validate: object) -> Check:
    """What `validate` says. Raises InvalidInput."""
    if not isinstance(validate, Mapping):
        raise InvalidInput("validate is an object with schema, choices or pattern.", "validate")
    try:
        text = json.dumps(validate, sort_keys=True, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"validate is not JSON that is accepted: {error}.", "validate"
        ) from error
    if len(text) > LONGEST:
        raise InvalidInput(f"validate has more than {LONGEST:,} characters.", "validate")
    return _check(text)


@lru_cache(maxsize=256)
def _check(text: str) -> Check:
    given: dict[str, Any] = json.loads(text)
    tries = given.pop("tries", TRIES)
    if type(tries) is not int or not 1 <= tries <= MOST_TRIES:
        raise InvalidInput(f"validate.tries is a whole number from 1 to {MOST_TRIES}.", "validate")
    if len(given) != 1 or not given.keys() <= set(_FORMS):
        raise InvalidInput(
            "validate has one of schema, choices and pattern, and beside it at most tries.",
            "validate",
        )
    try:
        return Check(_form(given), tries)
    except ValueError as error:
        raise InvalidInput(f"validate: {error}.", "validate") from error


def _form(given: Mapping[str, Any]) -> AnswerForm:
    """Raises ValueError, in words."""
    if "schema" in given:
        if not isinstance(given["schema"], dict):
            raise ValueError("a schema is an object")
        return BySchema(given["schema"])
    if "choices" in given:
        choices = given["choices"]
        if not isinstance(choices, list) or not choices:
            raise ValueError("choices is a list of texts, not an empty one")
        if not all(isinstance(choice, str) and choice.strip() for choice in choices):
            raise ValueError("choices is a list of texts")
        return OneOf(choices)
    if not isinstance(given["pattern"], str) or not given["pattern"]:
        raise ValueError("a pattern is a text")
    return Matching(given["pattern"])


class Matching(AnswerForm):
    """A text in which a regular expression is found, in time that grows with the text alone."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError for what is no such expression."""
        self._pattern = pattern
        try:
            self._validator = jsonschema_rs.validator_for(
                {"type": "string", "pattern": pattern},
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except jsonschema_rs.ValidationError as error:
            raise ValueError(
                f"{pattern!r} is no regular expression that is understood here"
            ) from error

    def read(self, text: str) -> Value | Complaint:
        """The text itself."""
        if self._validator.is_valid(text):
            return text
        return Complaint(
            CellError("pattern", f"the answer does not match {self._pattern!r}"),
            f"That does not match the regular expression {self._pattern} which an answer has to "
            "match. Answer again, corrected, and with nothing else.",
        )


@dataclass
class Answered:
    """A block whose lines all have their records, by column as the engine's Segment."""

    number: int
    data: bytes = b""
    lines: list[int] = field(default_factory=list)
    custom_ids: list[str | None] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    money: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    cached: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)


@dataclass
class _Try:
    """One answer of the engine: its line of a segment, and what is known of it."""

    raw: bytes
    custom_id: str | None
    status: str
    model: str
    seconds: float
    input_tokens: int
    output_tokens: int
    money: float
    attempts: int
    cached: bool


@dataclass
class _Line:
    """A line on its way. body: as it was asked last; None for one that was not sent."""

    asked: dict[str, Any] | None
    check: Check | None
    post: str | None
    tries: list[_Try] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    value: Value = None
    made: Value = None
    error: CellError | None = None
    done: bool = False


@dataclass
class _Open:
    number: int
    first: int
    lines: dict[int, _Line]
    """By their numbers, from 0."""
    out: int = 0
    """Blocks of its lines that are in the engine."""


class Asker:
    """Blocks of a batch whose lines ask for more than an answer. Used by one thread."""

    def __init__(self, batch: Batch, settings: Settings, blocks: Blocks) -> None:
        self._kind, self._settings, self._blocks = batch.kind, settings, blocks
        self._validate = batch.options.get("validate")
        self._post = batch.options.get("post")
        self._functions = Functions(settings)
        self._open: dict[int, _Open] = {}
        self._calls: deque[tuple[_Open, _Line]] = deque()
        self._abandoned: CellError | None = None

    def wants(self, data: bytes) -> bool:
        """Whether a block is one for Python."""
        if self._validate is not None or self._post is not None:
            return True
        return b'"wordmill"' in data and (b'"validate"' in data or b'"post"' in data)

    def add(self, block: Block, data: bytes) -> None:
        """Take up a block; its lines go into the engine's Blocks."""
        bad = {one["line"]: one for one in block.bad}
        lines: dict[int, _Line] = {}
        for number, text in enumerate(data.split(b"\n"), block.first):
            text = text.removeprefix(b"\xef\xbb\xbf") if number == 0 else text
            if not text.strip():
                continue
            line = lines[number] = _Line(None, None, None)
            if number in bad:
                continue
            asked: dict[str, Any] = orjson.loads(text)
            try:
                line.asked, line.check, line.post = asked, *self._wishes(asked)
            except InvalidInput as error:
                bad[number] = {
                    "line": number, "code": "invalid_wordmill", "message": str(error),
                    "custom_id": asked.get("custom_id"),
                }  # fmt: skip
        opened = self._open[block.number] = _Open(block.number, block.first, lines, out=1)
        self._blocks.add(opened.number, opened.first, data, json.dumps(list(bad.values())))

    def _wishes(self, asked: Mapping[str, Any]) -> tuple[Check | None, str | None]:
        own = asked.get("wordmill") or {}
        validate = own.get("validate", self._validate)
        post = own.get("post", self._post)
        check = None if validate is None else check_of(validate)
        if post is not None:
            if not isinstance(post, str):
                raise InvalidInput("post is a function, written package.module:function.", "post")
            checked(post, self._settings)
        if self._kind in WORDLESS and check is not None:
            raise InvalidInput(
                "Embeddings and scores are no texts: they cannot be validated.", "validate"
            )
        return check, post

    @property
    def open(self) -> int:
        """Blocks that have no records yet."""
        return len(self._open)

    @property
    def busy(self) -> bool:
        """Whether functions wait for their turn: `through` is to be called soon."""
        return bool(self._calls)

    def abandon(self, code: str, message: str) -> None:
        """Ask nothing again and call nothing more."""
        self._abandoned = CellError(code, message)

    def close(self) -> None:
        """End what it started."""
        self._functions.close()

    def through(self, ended: Sequence[Segment]) -> list[Segment | Answered]:
        """Of the segments that have ended, and of earlier ones, those that are whole now."""
        whole: list[Segment | Answered] = []
        for segment in ended:
            opened = self._open.get(segment.number & ((1 << FAR) - 1))
            if opened is None:
                whole.append(segment)
            else:
                opened.out -= 1
                self._take(opened, segment)
        self._call()
        for opened in list(self._open.values()):
            if not opened.out and all(line.done for line in opened.lines.values()):
                del self._open[opened.number]
                whole.append(_answered(opened))
        return whole

    def _take(self, opened: _Open, segment: Segment) -> None:
        """What came of lines that were in the engine."""
        again: dict[int, _Line] = {}
        columns = zip(
            segment.lines, segment.data.splitlines(keepends=True), segment.custom_ids,
            segment.statuses, segment.models, segment.seconds, segment.input_tokens,
            segment.output_tokens, segment.money, segment.attempts, segment.cached, strict=True,
        )  # fmt: skip
        for number, *values in columns:
            line = opened.lines[number & ((1 << FAR) - 1)]
            line.tries.append(_Try(*values))
            if line.tries[-1].status != "ok":
                line.done = True
            elif self._judge(line):
                again[number & ((1 << FAR) - 1)] = line
            elif line.error is None and line.post is not None:
                self._calls.append((opened, line))
            else:
                line.done = True
        if again:
            self._ask_again(opened, again)

    def _judge(self, line: _Line) -> bool:
        """Check the last answer; whether it is asked for again."""
        if line.check is None:
            return False
        text = said(self._kind, _body(line.tries[-1].raw)).strip()
        found = line.check.form.read(text)
        if not isinstance(found, Complaint):
            line.value = found
            return False
        line.reasons.append(found.error.detail)
        if self._abandoned is None and len(line.tries) < line.check.tries:
            asked = None if line.asked is None else follow_up(self._kind, line.asked, text, found)
            if asked is not None:
                line.asked = asked
                return True
        line.error = found.error
        return False

    def _ask_again(self, opened: _Open, lines: Mapping[int, _Line]) -> None:
        """Those that were asked equally often, as a block whose other lines are blank."""
        far = len(next(iter(lines.values())).tries) << FAR
        texts = [b""] * (max(lines) - opened.first + 1)
        for number, line in lines.items():
            texts[number - opened.first] = orjson.dumps(line.asked)
        opened.out += 1
        self._blocks.add(far | opened.number, far | opened.first, b"\n".join(texts), "[]")

    def _call(self) -> None:
        """Hand answers to their functions, for one turn."""
        until = time.monotonic() + TURN
        while self._calls and (self._abandoned or time.monotonic() < until):
            _, line = self._calls.popleft()
            line.done = True
            if self._abandoned is not None:
                line.error = self._abandoned
                continue
            body = _body(line.tries[-1].raw)
            given = {
                "custom_id": line.tries[0].custom_id, "text": said(self._kind, body),
                "value": line.value, "response": body,
            }  # fmt: skip
            made = self._functions.call(line.post or "", given)
            if isinstance(made, CellError):
                line.error = made
                continue
            try:
                orjson.dumps(made)
            except TypeError as error:  # a number too large, half a surrogate pair
                line.error = CellError(KIND, f"what it returned is no JSON that is kept: {error}")
            else:
                line.made = made


def answer_block(
    engine: Engine,
    batch: Batch,
    settings: Settings,
    block: Block,
    data: bytes,
    *,
    path: str,
    rules: str,
    going: Callable[[], tuple[str, str] | None] = lambda: None,
) -> Segment | Answered:
    """All of a block, through an engine that nothing else is asked of meanwhile.

    data: the block's bytes.  path: below the base URL.  rules: as `Worker.rules` gives them.
    going: asked some times a second; the code and the sentence of an error give up what is open,
    and an exception of it ends everything.  Raises EngineFault.
    """
    blocks = Blocks(engine, batch.id, path, rules, bool(batch.options["cache"]))
    asker = Asker(batch, settings, blocks)
    try:
        asker.add(block, data)
        while True:
            for whole in asker.through(blocks.ended()):
                return whole
            end = going()
            if end is not None:
                engine.cancel(0.0)
                asker.abandon(*end)
                blocks.abandon(*end)
            elif not asker.busy:
                blocks.step(0.2)
    finally:
        asker.close()


def said(kind: str, body: Mapping[str, Any]) -> str:
    """The text of a server's answer; "" where it has none. kind: as providers know it."""
    if kind == "responses":
        parts = [
            part
            for item in body.get("output") or ()
            if isinstance(item, dict)
            for part in item.get("content") or ()
            if isinstance(part, dict)
        ]
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    choices = body.get("choices") or [{}]
    if kind == "completions":
        return str(choices[0].get("text") or "")
    message = choices[0].get("message") or {}
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content)


def follow_up(
    kind: str, asked: Mapping[str, Any], text: str, complaint: Complaint
) -> dict[str, Any] | None:
    """The line that asks again, with the answer and what is wrong with it; None where none can."""
    body = dict(asked["body"])
    more = [
        {"role": "assistant", "content": text},
        {"role": "user", "content": complaint.words},
    ]
    if kind == "chat" and isinstance(body.get("messages"), list):
        body["messages"] = [*body["messages"], *more]
    elif kind == "responses" and isinstance(body.get("input"), str):
        body["input"] = [{"role": "user", "content": body["input"]}, *more]
    elif kind == "responses" and isinstance(body.get("input"), list):
        body["input"] = [*body["input"], *more]
    elif kind == "completions" and isinstance(body.get("prompt"), str):
        body["prompt"] = f"{body['prompt']}{text}\n\n{complaint.words}\n\n"
    else:
        return None
    return {**asked, "body": body}


_BODY, _OWN = b'"response":', b',"wordmill":{'


def _body(raw: bytes) -> Mapping[str, Any]:
    """A server's answer, out of a line of a segment."""
    response = orjson.loads(raw)["response"]["body"]
    return response if isinstance(response, dict) else {}


def _answered(opened: _Open) -> Answered:
    made, data = Answered(opened.number), []
    for number, line in sorted(opened.lines.items()):
        last, tries = line.tries[-1], line.tries
        status = last.status if line.error is None else line.error.cause
        made.lines.append(number)
        made.custom_ids.append(tries[0].custom_id)
        made.statuses.append(status)
        made.models.append(last.model or tries[0].model)
        made.seconds.append(sum(one.seconds for one in tries))
        made.input_tokens.append(sum(one.input_tokens for one in tries))
        made.output_tokens.append(sum(one.output_tokens for one in tries))
        made.money.append(sum(one.money for one in tries))
        made.attempts.append(sum(one.attempts for one in tries))
        made.cached.append(all(one.cached for one in tries))
        data.append(_record(line, made, number))
    made.data = b"".join(data)
    return made


def _record(line: _Line, made: Answered, number: int) -> bytes:
    """The line of the segment, as the engine writes it, with where its answer came from."""
    last = line.tries[-1].raw
    if line.check is None and line.post is None:
        return last
    head = line.tries[0].raw
    head = head[: head.index(_BODY)]
    end = last.rindex(_OWN)
    if line.error is None:
        answer = last[last.index(_BODY) : end]
    else:
        error = {"code": line.error.cause, "message": line.error.detail}
        answer = b'"response":null,"error":' + orjson.dumps(error)
    own: dict[str, Any] = {
        **orjson.loads(last[end + len(_OWN) - 1 : last.rindex(b"}")]),
        "line": number + 1, "model": made.models[-1], "seconds": round(made.seconds[-1], 6),
        "attempts": made.attempts[-1], "input_tokens": made.input_tokens[-1],
        "output_tokens": made.output_tokens[-1], "money": made.money[-1],
        "cached": made.cached[-1], "tries": len(line.tries), "reasons": line.reasons,
    }  # fmt: skip
    if line.check is not None and line.error is None:
        own["value"] = line.value
    if line.post is not None and line.error is None:
        own["post"] = line.made
    return head + answer + b',"wordmill":' + orjson.dumps(own) + b"}\n"
