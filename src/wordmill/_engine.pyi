"""The Rust boundary: the request engine and the rehearsal model.

Whole batches go in and out, with the interpreter's lock released. No function blocks for longer
than the `timeout` it is given, so that Ctrl-C arrives. A panic in Rust is raised as EngineFault.

Error kinds of a request, the only values of `Batch.errors` besides None:

    throttled       429 to the last attempt              timeout        no answer in time
    overloaded      503 or 529 to the last attempt       connect        refused, no route, no such host
    server_error    another 5xx, 408, 409 or 425         dropped        the connection broke before the answer
    cut             the body ended early                 invalid_json   a 200 whose body is not JSON of the API
    empty           a 200 without content                invalid_text   the reply holds a lone surrogate
    rejected        400, 404, 413, 422 and other 4xx     too_large      the reply passed max_reply_bytes
    unauthorized    401, 403: the lane stops             payment        402, quota used up: the lane stops
    unknown_model   the server has no such model         stopped        the lane was stopped before this was sent
    budget          a ceiling would be passed            cancelled      the run was cancelled before this was answered
    bad_request     the request itself is not valid JSON or holds a lone surrogate

`stopped`, `budget` and `cancelled` were never sent (or are not known to have been answered) and
are not recorded: the next run of the same records asks them again. All the others are recorded
as failed; the next run of the same records asks failed ones again too.
"""

from typing import final

class EngineFault(RuntimeError):
    """A panic or an input/output fault inside the engine, in words."""

@final
class Batch:
    """Outcomes by column; all lists have the same length. See `types.Reply` for meanings."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def texts(self) -> list[str]: ...
    @property
    def errors(self) -> list[str | None]: ...
    @property
    def details(self) -> list[str]: ...
    @property
    def finishes(self) -> list[str | None]: ...
    @property
    def models(self) -> list[str]:
        """Lane that answered (another one than asked where a fallback took over)."""
    @property
    def input_tokens(self) -> list[int]: ...
    @property
    def output_tokens(self) -> list[int]: ...
    @property
    def costs(self) -> list[float]: ...
    @property
    def attempts(self) -> list[int]: ...
    @property
    def seconds(self) -> list[float]: ...
    @property
    def flags(self) -> list[int]:
        """Bits: 1 cached, 2 joined, 4 fallback, 8 usage estimated, 16 refusal field, 32 resumed."""
    @property
    def digests(self) -> list[str]: ...
    @property
    def bodies(self) -> list[bytes | None]:
        """The reply as the server sent it, where it is more than a text (tools, n > 1, embeddings)."""
    def __len__(self) -> int: ...

@final
class Engine:
    """Turns many requests into exactly one record each. One per run; safe from any thread."""

    def __init__(self, config: str) -> None:
        """Start its threads.

        config: JSON, unknown fields refused:
            records: path of the run's SQLite file, or null for none (nothing durable)
            cache: path of the cache between runs, or null for off
            owner: str
            lanes: [{name, base_url, identity (or null; stands for the URL in keys), model, key (or null), headers {str: str}, concurrency (int, or
                null for auto), max_concurrency, requests_per_minute, tokens_per_minute,
                price_input, price_output (money per million tokens), context (tokens or null),
                fallback (lane name or null), seed (bool: send the salt as `seed`),
                connect_seconds, first_byte_seconds, total_seconds, deadline_seconds (all attempts),
                attempts, max_reply_bytes}]
            in_doubt: at most this many requests may be sent and not yet durable (0: automatic)
            budget: {requests, tokens, money}, each a number or null
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

        ids: non-negative, each once a run (see `request_id`).  texts: flattened,
        slots-of-shape for each id.  salts: one an id, below 2**53; 0 for none.
        """
    def submit_bodies(
        self, lane: str, path: str, ids: list[int], bodies: list[bytes], salts: list[int], timeout: float
    ) -> int:
        """The same with whole JSON bodies, each different."""
    def submit_jsonl(self, lane: str, path: str, file: str) -> None:
        """Feed a JSONL file of whole bodies from a thread of the engine; ids are line numbers from 0.

        A line may be a body, or an object of OpenAI's batch form with the body under `body`.
        """
    def finish(self) -> None:
        """No more requests will be offered."""
    def poll(self, limit: int, timeout: float, linger: float = 0.0) -> Batch:
        """Outcomes as they become durable: up to `limit`; waits up to `timeout` for the first one,
        and from then `linger` for more. Empty when time is up or all is done (see `idle`)."""
    @property
    def idle(self) -> bool:
        """Everything offered has been polled and, after `finish`, no more will come."""
    def fileno(self) -> int:
        """A file descriptor that is readable while outcomes wait, for event loops."""
    def stream(self, lane: str, path: str, body: bytes, salt: int = 0) -> Stream:
        """Send one request with `stream: true`; limits, retries, keys and accounting as for the rest."""
    def keep_rows(self, rows: list[int], values: list[bytes]) -> None:
        """Store finished rows in the records file; durable when `sync_rows` returns."""
    def sync_rows(self) -> None: ...
    def rows(self, low: int, high: int) -> list[tuple[int, bytes]]:
        """Stored rows with low <= number < high, in order."""
    def row_numbers(self) -> list[int]:
        """Numbers of all stored rows, in order."""
    def drop_rows(self, low: int, high: int) -> None: ...
    def metrics(self) -> str:
        """A snapshot as JSON, made at most 10 times a second:

        {sent, done, failed: {kind: n}, retried: {cause: n}, cached, joined, resumed, tokens_in,
         tokens_out, money, in_flight, queued, spent: {requests, tokens, money} (all runs of these
         records), budget_reached (str or null),
         lanes: {name: {sent, done, in_flight, queued, limit, backed_off, waited_seconds, stopped
                 (str or null), fallback_used, p50, p95, p99 (seconds)}}}
        """
    def cancel(self, grace: float) -> None:
        """Send nothing more; what is in flight may end for `grace` seconds (0: cut it now).

        Everything not answered by then comes out of `poll` as `cancelled`.
        """
    def raise_budget(self, budget: str) -> None:
        """New ceilings (JSON as in the config), while running."""
    def close(self) -> None:
        """Stop at once, what is durable stays. Idempotent; also done at interpreter exit."""

@final
class Stream:
    """One streamed answer."""

    def next(self, timeout: float) -> str | None:
        """The next piece of text; "" when time is up; None when the answer has ended."""
    def next_reasoning(self) -> str:
        """Reasoning text that has come since the last call."""
    def record(self) -> Batch | None:
        """After the end: the outcome, as a Batch of one."""
    def cancel(self) -> None:
        """Close the upstream connection; the partial text is the record's text."""

@final
class Rehearsal:
    """The rehearsal model: an OpenAI-compatible server on a thread of its own."""

    def __init__(self, config: str) -> None:
        """config: JSON {host, port (0: any), latency_ms, errors {name: fraction}, limit (or null), seed}."""
    @property
    def port(self) -> int: ...
    def stats(self) -> str:
        """JSON: {requests, highest_concurrency, faults: {name: n}, ...}; also at GET /stats."""
    def stop(self) -> None: ...

def digest(text: str) -> str:
    """32 hex digits of the canonical form of a JSON text; ValueError if it is not JSON we accept."""

def canonical(text: str) -> str:
    """The canonical form: keys sorted, no spaces, big integers kept as they are."""

def cache_stats(cache: str) -> str:
    """JSON {entries, bytes (of the records files), oldest, newest (Unix seconds; absent if empty)}."""

def cache_prune(
    cache: str, older_than_seconds: float | None, larger_than_bytes: int | None, keep: list[str]
) -> str:
    """Forget whole runs by age, then the oldest until the size fits; JSON {entries, bytes} removed.

    The records files of those runs are removed with them, but not while a run still works on
    one, and not those that `keep` names (the records of unfinished runs).
    """
