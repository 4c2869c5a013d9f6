"""The Rust boundary: the request engine and the rehearsal model.

Whole batches go in and out, with the interpreter's lock released. No function blocks for longer
than the `timeout` it is given, so that Ctrl-C arrives. A panic in Rust is raised as EngineFault.

Error kinds of a request, the only values of `Batch.errors` besides None:

    throttled       429 to the last attempt
    overloaded      503 or 529 to the last attempt
    server_error    another 5xx, 408, 409 or 425 to the last attempt
    timeout         no answer in time
    connect         refused, no route, no such host, a certificate that is not trusted
    dropped         the connection broke before the answer
    cut             the body, or the stream, ended early
    invalid_json    a 200 whose body is not JSON of the API
    empty           a 200 without content
    invalid_text    the reply holds a lone surrogate
    rejected        400, 404, 413, 422 and the other 4xx
    too_large       the reply passed max_reply_bytes
    unauthorized    401, 403: three in a row stop the lane
    payment         402, or the quota is used up: likewise
    unknown_model   the server has no such model: likewise
    stopped         the lane was stopped before this was sent
    budget          a ceiling would be passed
    cancelled       the run was cancelled before this was answered
    bad_request     the request itself is not valid JSON or holds a lone surrogate

`stopped`, `budget`, `cancelled` and `bad_request` are not recorded. The others are recorded as
failed. The next run of the same records asks all of them again.
"""

from typing import Self, final

__all__ = [
    "Batch",
    "Blocks",
    "Engine",
    "EngineFault",
    "Rehearsal",
    "Segment",
    "Splitter",
    "Stream",
    "cache_prune",
    "cache_stats",
    "digest",
    "public_address",
    "redis_check",
    "redis_state",
    "texts",
    "words",
]

class EngineFault(RuntimeError):
    """A panic or an input/output fault inside the engine, in words."""

@final
class Batch:
    """Outcomes by column; all lists have the same length. See `types.Reply` for meanings."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def texts(self) -> list[str]:
        """The answers; for a failed stream what had come of it; else ""."""
    @property
    def errors(self) -> list[str | None]:
        """A kind of the list above, or None."""
    @property
    def details(self) -> list[str]:
        """The provider's own words for an error, shortened, without the key."""
    @property
    def finishes(self) -> list[str | None]:
        """The server's finish_reason."""
    @property
    def models(self) -> list[str]:
        """Lane that answered (another one than asked where a fallback took over)."""
    @property
    def input_tokens(self) -> list[int]: ...
    @property
    def output_tokens(self) -> list[int]: ...
    @property
    def costs(self) -> list[float]:
        """Money, all attempts together, in the unit of the lane's prices."""
    @property
    def attempts(self) -> list[int]: ...
    @property
    def seconds(self) -> list[float]:
        """From the first attempt's start to the last one's end."""
    @property
    def flags(self) -> list[int]:
        """Bits: 1 cached, 2 joined, 4 fallback, 8 usage estimated, 16 refusal field, 32 resumed."""
    @property
    def digests(self) -> list[str]:
        """32 hex digits each: the request's key."""
    @property
    def bodies(self) -> list[bytes | None]:
        """The reply as it was sent, where it is more than a text (tools, n > 1, embeddings)."""
    def __len__(self) -> int: ...

@final
class Engine:
    """Turns many requests into exactly one record each. One per run; safe from any thread."""

    def __new__(cls, config: str) -> Self:
        """Start its threads.

        config: JSON, unknown fields refused:
            records: path of the run's SQLite file, or null for none (nothing durable)
            cache: path of the cache between runs, or null for off
            owner: str, part of every key
            lanes: a list of
                name, base_url, model (as the server knows it)
                identity: stands for the base URL in keys, or null
                key: the API key, or null.  headers: {str: str}
                concurrency: int, or null to find it.  max_concurrency: the most it may find
                requests_per_minute, tokens_per_minute: numbers or null
                price_input, price_output: money per million tokens
                context: tokens, or null.  fallback: a lane's name, or null
                seed: bool, send the salt as `seed`
                connect_seconds, first_byte_seconds, total_seconds (of one attempt),
                deadline_seconds (of all attempts), attempts, max_reply_bytes
            in_doubt: most requests that are sent and not yet durable (0: the engine chooses)
            budget: {requests, tokens, money}, each a number or null
            whole: bool, hand every reply on as it was sent
            shared: {redis: URL, answers: bool}: share limits, and if answers the cache, with the
                engines of other processes; null shares limits within this one
        Raises EngineFault when a file cannot be opened (in words), ValueError for a bad config.
        """
    def shape(self, lane: str, path: str, body: str) -> int:
        """Register what many requests have in common; the number that `submit` wants.

        path: below the base URL, e.g. "/chat/completions".
        body: JSON; each string value that is exactly "\\u0000" is a slot. `model` is set by the
            lane, `seed` too where the lane sends seeds ("seed": null in the body: not here).
        """
    def submit(
        self, shape: int, ids: list[int], texts: list[str], salts: list[int], timeout: float
    ) -> int:
        """Offer requests; how many were taken, from the front. Waits while none fits.

        Raises EngineFault when the engine has failed, was closed, or after `finish`.

        ids: non-negative, below 2**63, each once a run.  texts: flattened, as many for each id as
        the shape has slots.  salts: one an id, below 2**53; with 0 equal requests share an answer.
        """
    def submit_bodies(
        self,
        lane: str,
        path: str,
        ids: list[int],
        bodies: list[bytes],
        salts: list[int],
        timeout: float,
    ) -> int:
        """Offer whole JSON bodies, each different; otherwise as `submit`."""
    def submit_jsonl(self, lane: str, path: str, file: str) -> None:
        """Feed a JSONL file of whole bodies from a thread of the engine; ids: line numbers from 0.

        A line may be a body, or an object of OpenAI's batch form with the body under `body`. The
        file's end is the end of the offers: `finish` is called then, and not before.
        """
    def finish(self) -> None:
        """No more requests will be offered."""
    def poll(self, limit: int, timeout: float, linger: float = 0.0) -> Batch:
        """Outcomes as they become durable: up to `limit`.

        Waits up to `timeout` for the first one, and from then `linger` for more (seconds). Empty
        when the time is up or all is done (see `idle`). Raises EngineFault when the engine has
        failed or was closed and nothing is left.
        """
    @property
    def idle(self) -> bool:
        """Everything offered has been polled and, after `finish`, no more will come."""
    def fileno(self) -> int:
        """A file descriptor that is readable while outcomes wait, for event loops."""
    def stream(
        self, lane: str, path: str, body: bytes, salt: int = 0, whole: bool = False
    ) -> Stream:
        """Send one request with `stream: true`; else as the others, but never from the cache.

        whole: send it as it is. Its answer comes in one piece, then the end.
        Raises EngineFault when the engine is closed.
        """
    def ready(self) -> list[int]:
        """Ids of the streams that have something new since they were last read; never waits."""
    def stream_fileno(self) -> int:
        """A file descriptor that is readable while streams have something new."""
    def keep_rows(self, rows: list[int], values: list[bytes]) -> None:
        """Store finished rows in the records file; durable when `sync_rows` returns."""
    def sync_rows(self) -> None:
        """Wait until all rows that were kept before are durable."""
    def rows(self, low: int, high: int) -> list[tuple[int, bytes]]:
        """Stored rows with low <= number < high, in order."""
    def row_numbers(self) -> list[int]:
        """Numbers of all stored rows, in order."""
    def metrics(self) -> str:
        """What was counted so far, as JSON:

        sent, done, failed {kind: n}, retried {kind: n}, cached, joined, resumed, tokens_in,
        tokens_out, money, in_flight, queued,
        spent {requests, tokens, money}: all runs of these records together,
        budget_reached: the ceiling in words, or null,
        shared: null, or {works: bool, words (why not, or null), processes (that hold a limit
            of this one), asked, lost, hits, misses, kept, dropped, ignored: counts},
        lanes {name: {sent, done, in_flight, queued, limit, backed_off, waited_seconds,
            stopped (words or null), fallback_used, trouble (the last fault in words, or null),
            p50, p95, p99 (seconds)}}
        """
    def cancel(self, grace: float) -> None:
        """Send nothing more; what is in flight may end for `grace` seconds (0: cut it now).

        Everything not answered by then comes out of `poll` as `cancelled`.
        """
    def close(self) -> None:
        """Stop at once, what is durable stays; streams end as `cancelled`. Idempotent.

        Also done when it is collected.
        """

@final
class Stream:
    """One streamed answer. Collecting it cancels the request."""

    @property
    def id(self) -> int:
        """By which `Engine.ready` names it."""

    def next(self, timeout: float) -> str | None:
        """The text that has come since the last call; "" when time is up; None at the end.

        While a megabyte waits here, no more is read from the server.
        """
    def next_reasoning(self) -> str:
        """Reasoning text that has come since the last call."""
    def record(self) -> Batch | None:
        """After the end: the outcome, as a Batch of one."""
    def cancel(self) -> None:
        """Close the upstream connection; the partial text is the record's text."""

@final
class Splitter:
    """A JSONL file of requests in OpenAI's batch form, cut into blocks of checked lines.

    Memory: one line, and 24 bytes for each line that came. Used by one thread at a time.
    """

    def __new__(cls, rules: str) -> Self:
        """Begin.

        rules: JSON, unknown fields refused:
            endpoint: what `url` of each line must be, e.g. "/v1/chat/completions"
            models: names that `body.model` may have
            most_bytes: longest line.  block_lines, block_bytes: a full block
            servers: whether lines may name other servers by their address (default false)
            keys: names of keys that may go with an address (default none)
            url, key: the server of lines that name none (default none)
            refused: {name: why} of servers that are not asked (default none)
        Raises ValueError for bad rules.
        """
    def feed(self, data: bytes) -> None:
        """The next piece of the file, of any length."""
    def finish(self) -> None:
        """The file has ended."""
    def blocks(self) -> list[tuple[int, int, int, int, str, str, int]]:
        """The blocks that are complete since the last call, in order; each:

        (offset, size: bytes in the file; first: the number of its first line, from 0;
        lines: how many are not blank; models: JSON [[name, good lines], ...];
        bad: JSON [{line, code, message, custom_id}, ...];
        python: how many of the good lines have `validate` or `post`)
        """

@final
class Blocks:
    """Blocks of one batch on their way through an engine. Used by one thread at a time.

    A line's number is its request's id, so the engine's records answer it after a restart.
    """

    def __new__(cls, engine: Engine, batch: str, path: str, rules: str, share: bool) -> Self:
        """Begin.

        path: below each lane's base URL.  rules: as for `Splitter`; its models are lanes.
        share: equal requests share one answer.
        """
    def add(self, number: int, first: int, data: bytes, bad: str) -> None:
        """Take up a block: its bytes, the number of its first line, its bad lines (JSON)."""
    def step(self, timeout: float) -> int:
        """Offer what the engine has room for, and take what it has answered; how much.

        Waits up to `timeout` seconds for an answer. Raises EngineFault.
        """
    def abandon(self, code: str, message: str) -> None:
        """Give every line without an answer this error, and end all blocks."""
    def ended(self) -> list[Segment]:
        """The blocks whose every line is answered since the last call."""
    @property
    def open(self) -> int:
        """How many blocks are under way."""
    @property
    def left(self) -> int:
        """How many lines of them have no answer."""

@final
class Segment:
    """The answers to a block. All lists have its length and its order."""

    @property
    def number(self) -> int: ...
    @property
    def data(self) -> bytes:
        """A line of JSON each, in OpenAI's form, with our own fields under `wordmill`."""
    @property
    def lines(self) -> list[int]:
        """From 0."""
    @property
    def custom_ids(self) -> list[str | None]: ...
    @property
    def statuses(self) -> list[str]:
        """`ok`, a kind of the engine's errors, or why the line was not sent."""
    @property
    def models(self) -> list[str]:
        """Lane that answered; "" for what was not sent."""
    @property
    def seconds(self) -> list[float]: ...
    @property
    def input_tokens(self) -> list[int]: ...
    @property
    def output_tokens(self) -> list[int]: ...
    @property
    def money(self) -> list[float]: ...
    @property
    def attempts(self) -> list[int]: ...
    @property
    def cached(self) -> list[bool]: ...
    def __len__(self) -> int: ...

@final
class Rehearsal:
    """The rehearsal model: an OpenAI-compatible server on a thread of its own."""

    def __new__(cls, config: str) -> Self:
        """Start it.

        config: JSON {host, port (0: any), latency_ms, errors {name: fraction}, limit (or null),
        seed}. Raises ValueError for a bad one, OSError for a port that cannot be had.
        """
    @staticmethod
    def faults() -> list[str]:
        """Names of the faults that can be ordered."""
    @property
    def port(self) -> int: ...
    def stats(self) -> str:
        """JSON {requests, highest_concurrency, faults {name: n}, ...}; also at GET /stats."""
    def stop(self) -> None:
        """End it; its connections close."""

def digest(text: str) -> str:
    """32 hex digits of the canonical form of a JSON text; ValueError for what we do not accept."""

def public_address(address: str) -> bool:
    """Whether an IP address belongs to the public Internet; ValueError for what is no address.

    Private, shared, reserved, multicast and documentation addresses do not, nor those that carry
    another inside (IPv4-mapped, NAT64, 6to4, Teredo).
    """

def texts(json: bytes) -> str:
    """The texts of a request or of an answer, each on a line of its own: by these it is found.

    At most 20,000 characters, without names, roles and embeddings. ValueError for what is no JSON.
    """

def words(text: str) -> str:
    """The words of a text as every index keeps them and looks for them, a space between two.

    Case, accents and forms of a letter make no difference; of a long word 100 characters count.
    """

def cache_stats(cache: str) -> str:
    """JSON {entries, bytes (of the records files), oldest, newest (Unix seconds; if any)}."""

def cache_prune(
    cache: str, older_than_seconds: float | None, larger_than_bytes: int | None, keep: list[str]
) -> str:
    """Forget whole runs by age, then the oldest until the size fits; JSON {entries, bytes} removed.

    The records files of those runs are removed with them, but not while a run still works on
    one, and not those that `keep` names (the records of unfinished runs).
    """

def redis_check(url: str) -> str:
    """JSON {version, warnings: sentences on settings that do not suit}; takes two seconds at most.

    Raises EngineFault with the reason why the server is not reached, without the password.
    """

def redis_state(url: str) -> str:
    """What the engines of this process that share in this Redis did; JSON as `shared` of `metrics`.

    {} where there were none in the last minute.
    """
