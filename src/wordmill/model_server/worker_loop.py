"""The thread that drives an engine: requests in, pieces of text out.

All that an engine does happens here, one step after another. What comes of a step goes out in one
parcel, so that the event loop wakes once for all requests. A request beyond the engine's slots
waits its turn here, as long as the queue has room; who is first is the model server's to say.

An engine that fails takes the worker with it: every request under way gets its words, those that
come after it too, and `died` is called. The model server starts the worker again, and gives it what
nobody has seen a word of.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from wordmill.backends.base import Backend, Decoding, Logprob, Piece, Sampling
from wordmill.errors import InvalidInput, WordmillError
from wordmill.model_server import memory
from wordmill.model_server.worker_stats import Stats

log = logging.getLogger(__name__)

WINDOW: Final = 64
"""Texts to embed or to rank that are read in one go."""
FAULTS: Final = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""What a request that is not as it must be leads to: the request ends, and not the engine."""


class Told(NamedTuple):
    """What has come of an answer. text: since the last one.  tokens: how many.  finish: `stop`,
    `length` or `error`, in the last one.  detail: of an error.  refused: the engine does not take
    the request as it is.  died: the engine failed altogether.  cached: tokens of the prompt that
    were not read again, where the engine tells.
    """

    text: str
    tokens: int
    logprobs: Sequence[Logprob]
    finish: str | None
    detail: str
    refused: InvalidInput | None = None
    died: bool = False
    cached: int | None = None


Sink: TypeAlias = Callable[[Told], None]
Parcel: TypeAlias = list[tuple[Sink, Told]]
Post: TypeAlias = Callable[[Parcel], None]


class Full(WordmillError):
    """The worker has as many requests waiting as it may."""


class EngineDied(WordmillError):
    """The engine has failed, and the worker ends; another one may answer."""


@dataclass(slots=True)
class Work:
    """One answer to be made. stops: texts that end it.  keep: special tokens are part of the text,
    because calls of tools are marked by them.
    """

    prompt: Sequence[int]
    sampling: Sampling
    sink: Sink
    stops: tuple[str, ...] = ()
    keep: bool = False
    number: int = 0
    came: float = field(default_factory=time.monotonic)
    last: float = 0.0
    decoding: Decoding | None = None
    held: str = ""


@dataclass(slots=True, eq=False)
class Texts:
    """Texts that are embedded, or ranked where there is a query. results: vectors or scores, as
    they come; whoever cancels the future wants no more of them.
    """

    texts: Sequence[str]
    query: str | None
    future: "Future[tuple[list[Any], int]]" = field(default_factory=Future)
    results: list[Any] = field(default_factory=list)
    tokens: int = 0

    def next(self, most: int) -> Sequence[str]:
        """Those that are read next."""
        return self.texts[len(self.results) : len(self.results) + most]


def engine_thread() -> Executor:
    """The one thread that loads a model and answers with it.

    OpenMP takes each thread that calls on it for one more to feed. With more of them than cores its
    helpers go to sleep between two products and are woken by a system call: steps of torch took
    twice as long (27 and 51 ms, measured) where another thread had loaded the model.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="engine")


class Loop:
    """The engine's thread. `submit`, `cancel`, `embed` and `rank` are for any thread.

    rest: called between two steps.  home: of the thread that the model was loaded in, and is
    answered in; one of its own without it.
    """

    def __init__(
        self,
        backend: Backend,
        post: Post,
        died: Callable[[BaseException], None],
        bound: int,
        rest: Callable[[], None] | None = None,
        home: Executor | None = None,
    ) -> None:
        self.backend, self._post, self._died, self._bound = backend, post, died, bound
        self._rest = rest
        self.stats = Stats()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Work] = deque()
        self._active: dict[int, Work] = {}
        self._numbers = count(1)
        self._asked = 0
        self._cache = 0.0
        self._lock = threading.Lock()
        self._parcel: Parcel = []
        self._texts: deque[Texts] = deque()
        self._reading = 0
        """Readings of texts that are not over."""
        self._turned = 0.0
        """When the engine was last given work (monotonic); 0 where it has none."""
        self._dead: str | None = None
        """Why nothing is answered any more."""
        self._home = home or engine_thread()
        self._ran: Future[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._ran = self._home.submit(self._run)

    def close(self) -> None:
        """End; what is under way gets no further word."""
        self._inbox.put(None)
        if self._ran is not None:
            wait([self._ran], timeout=5)

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return len(self._active)

    @property
    def cache(self) -> float:
        """The part of the room for keys and values that was taken after the last step."""
        return self._cache

    @property
    def waiting(self) -> int:
        """Requests that have none yet."""
        return max(0, self._asked - len(self._active))

    @property
    def still(self) -> float:
        """Seconds for which the engine has been at one step; 0 where it has nothing to do."""
        turned = self._turned
        return time.monotonic() - turned if turned else 0.0

    def submit(self, works: Sequence[Work]) -> None:
        """Begin some answers, all or none. Each `number` is set. Raises Full, EngineDied."""
        with self._lock:
            self._must_live()
            if self.waiting + len(works) > self._bound + self.backend.facts.slots - self.running:
                raise Full(
                    f"{self.waiting} requests wait already, and no more than {self._bound} may. "
                    "Ask again in a moment."
                )
            self._asked += len(works)
            for work in works:
                work.number = next(self._numbers)
            self._inbox.put(lambda: self._waiting.extend(works))

    def cancel(self, works: Sequence[Work]) -> None:
        """Nobody wants these answers any more."""
        self._inbox.put(lambda: self._drop(works))

    def embed(self, texts: Sequence[str]) -> Future[tuple[list[list[float]], int]]:
        """Vectors of texts, and the tokens read; those asked for at the same time go together.

        Cancel the future where nobody wants them any more. Raises Full, EngineDied.
        """
        return self._read(Texts(texts, None))

    def rank(self, query: str, documents: Sequence[str]) -> Future[tuple[list[float], int]]:
        """Scores of documents, and the tokens read. As `embed`."""
        return self._read(Texts(documents, query))

    def _read(self, texts: Texts) -> Future[tuple[list[Any], int]]:
        texts.future.add_done_callback(self._has_read)
        with self._lock:
            self._must_live()
            if self._reading >= self._bound + self.backend.facts.slots:
                raise Full(f"{self._reading} requests wait already. Ask again in a moment.")
            self._reading += 1
            self._inbox.put(lambda: self._texts.append(texts))
        return texts.future

    def _must_live(self) -> None:
        if self._dead is not None:
            raise EngineDied(self._dead)

    def _has_read(self, _: object) -> None:
        with self._lock:
            self._reading -= 1

    def _run(self) -> None:
        try:
            while self._take():
                self._read_some()
                self._admit()
                if self._active:
                    for piece in self.backend.step():
                        self._tell(piece)
                    self.stats.stepped(len(self._active))
                    self._cache = self.backend.cache_use()
                self._send()
                if self._rest is not None:
                    self._rest()
        except BaseException as error:
            log.exception("the engine failed")
            self._fail(error)

    def _take(self) -> bool:
        """What was asked meanwhile; waits when there is nothing else to do. False at the end."""
        idle = not self._active and not self._waiting and not self._texts
        self._turned = 0.0 if idle else time.monotonic()
        while True:
            try:
                work = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            self._turned = time.monotonic()
            if work is None:
                self.backend.close()
                return False
            work()
            idle = False

    def _read_some(self) -> None:
        """Embed or rank the next texts, as many as go together."""
        self._texts = deque(one for one in self._texts if not one.future.cancelled())
        together: list[tuple[Texts, Sequence[str]]] = []
        size = 0
        for one in self._texts:
            alike = not together or one.query is together[0][0].query is None
            if not alike or size >= WINDOW:
                break
            together.append((one, one.next(WINDOW - size)))
            size += len(together[-1][1])
        if not together:
            return
        texts, query = [text for _, part in together for text in part], together[0][0].query
        results: Sequence[Any]
        try:
            if query is None:
                results, tokens = self.backend.embed(texts)
            else:
                results, tokens = self.backend.rank(query, texts)
        except InvalidInput as error:
            for one, _ in together:
                self._texts.remove(one)
                if one.future.set_running_or_notify_cancel():
                    one.future.set_exception(error)
            return
        self.stats.read(tokens)
        at = 0
        for one, part in together:
            one.results += results[at : at + len(part)]
            one.tokens += round(tokens * len(part) / max(1, size))
            at += len(part)
            if len(one.results) >= len(one.texts):
                self._texts.remove(one)
                if one.future.set_running_or_notify_cancel():
                    one.future.set_result((one.results, one.tokens))

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self.backend.facts.slots:
            work = self._waiting[0]  # it stays there as long as the engine may fail with it
            work.decoding = self.backend.words.decoding(special=work.keep)
            try:
                self.backend.submit(work.number, work.prompt, work.sampling)
            except WordmillError as error:
                refused = error if isinstance(error, InvalidInput) else InvalidInput(str(error))
                self._waiting.popleft()
                self._over(work, Told("", 0, (), "error", str(error), refused))
                continue
            except FAULTS as error:
                log.exception("the engine cannot take a request")
                words = f"The engine cannot take this request: {type(error).__name__}."
                self._waiting.popleft()
                self._over(work, Told("", 0, (), "error", words, InvalidInput(words)))
                continue
            self._active[work.number] = self._waiting.popleft()

    def _drop(self, works: Sequence[Work]) -> None:
        for work in works:
            if self._active.pop(work.number, None) is not None:
                self.backend.cancel(work.number)
            elif work in self._waiting:
                self._waiting.remove(work)
            else:
                continue
            self.stats.cancelled += 1
            self._less()

    def _tell(self, piece: Piece) -> None:
        work = self._active.get(piece.request)
        if work is None or work.decoding is None:
            return
        now = time.monotonic()
        if not work.last:
            self.stats.first(now - work.came, len(work.prompt))
        elif piece.count:
            self.stats.between(now - work.last, piece.count)
        work.last = now
        self.stats.wrote(piece.count)
        text = work.decoding.add(piece.tokens) if piece.text is None else piece.text
        if piece.finish and piece.text is None:
            text += work.decoding.end()
        finish = piece.finish
        if work.stops:
            text, stopped = self._cut(work, text, over=finish is not None)
            if stopped:
                finish = "stop"
                if piece.finish is None:
                    self.backend.cancel(work.number)
        told = Told(text, piece.count, piece.logprobs, finish, piece.detail, cached=piece.cached)
        if finish is None:
            if text or piece.count:
                self._parcel.append((work.sink, told))
            return
        del self._active[work.number]
        self._over(work, told)

    @staticmethod
    def _cut(work: Work, text: str, *, over: bool) -> tuple[str, bool]:
        """The text up to a stop; what may be the beginning of one is held back."""
        text = work.held + text
        found = [at for at in (text.find(stop) for stop in work.stops) if at >= 0]
        if found:
            return text[: min(found)], True
        keep = 0
        if not over:
            for stop in work.stops:
                for length in range(min(len(stop) - 1, len(text)), keep, -1):
                    if text.endswith(stop[:length]):
                        keep = length
                        break
        work.held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def _over(self, work: Work, told: Told) -> None:
        self._parcel.append((work.sink, told))
        self.stats.ended(told.finish or "stop")
        self._less()

    def _less(self) -> None:
        with self._lock:
            self._asked -= 1

    def _send(self) -> None:
        if self._parcel:
            parcel, self._parcel = self._parcel, []
            self._post(parcel)

    def _fail(self, error: BaseException) -> None:
        words = f"The engine failed: {_reason(error)}. It is started again."
        try:
            with self._lock:
                self._dead = words
            self._hear_all()
            for work in [*self._active.values(), *self._waiting]:
                self._parcel.append((work.sink, Told("", 0, (), "error", words, died=True)))
            for one in self._texts:
                if one.future.set_running_or_notify_cancel():
                    one.future.set_exception(EngineDied(words))
            self._send()
        finally:
            self._died(error)

    def _hear_all(self) -> None:
        """What was asked and not heard yet."""
        while True:
            try:
                work = self._inbox.get(block=False)
            except queue.Empty:
                return
            if work is not None:
                work()


def _reason(error: BaseException) -> str:
    """Why an engine failed, in half a sentence: of what a library says, the line that tells."""
    lines = [line.strip().rstrip(".")[:200] for line in str(error).splitlines() if line.strip()]
    short = memory.is_short(error)
    telling = [line for line in lines if memory.is_short(line)] if short else []
    said = (telling or lines or [""])[0]
    if short:
        return "there was not enough memory" + (f" ({said})" if said else "")
    return said or type(error).__name__
