"""What a process says of itself while it works: log records, and spans where a collector is named.

Whatever takes time is `measured`, or says that it has `ended`: a request to a model, a turn, a
command, a run and each step of it. The record says who, by which door, with which model, how long
and how many tokens; never a word of what was said. The records are Python's own (`logging`), so
that whoever embeds Wordmill sends them where they like; `reporting` is what `wordmill serve` does
with them.

Spans follow OpenTelemetry's conventions for generative models. Its packages are loaded only when
the setting `otlp_endpoint` names a collector.
"""

import json
import logging
import re
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from wordmill.errors import ExtraMissing
from wordmill.secrets import scrub
from wordmill.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind, Tracer
    from opentelemetry.util.types import AttributeValue

Field: TypeAlias = str | int | float | bool | None

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the HTTP request that is being answered; "" outside of one."""

REQUEST: Final = "request"
"""A request over HTTP: its span is `serving`'s."""
FIELDS: Final = "wordmill"
"""The attribute of a log record that holds its fields."""

LAST: Final = 2.0
"""Seconds for the last spans to be sent."""

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_NAMES: Final = {
    "operation": "gen_ai.operation.name",
    "model": "gen_ai.request.model",
    "answered": "gen_ai.response.model",
    "provider": "gen_ai.provider.name",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "conversation": "gen_ai.conversation.id",
    "error": "error.type",
    "person": "enduser.id",
    "door": "wordmill.door",
}
"""Our fields as the conventions call them."""

_tracer: "Tracer | None" = None


def ended(what: str, seconds: float, **fields: Field) -> None:
    """Say that something has ended: a log record, and a span.

    what: `completion`, `step`, `request`.  seconds: how long it took.
    fields: None and "" are left out; never a text of somebody's, never a secret. With an
    `operation` it is one of a model, as the conventions name them.
    """
    said = _record(what, seconds, fields)
    if _tracer is not None and what != REQUEST:
        ends = time.time_ns()
        kind, name, attributes = _spanned(what, said)
        span = _tracer.start_span(
            name, kind=kind, attributes=attributes, start_time=ends - int(seconds * 1e9)
        )
        _fail(span, said)
        span.end(ends)


@contextmanager
def measured(what: str, **fields: Field) -> Iterator[dict[str, Field]]:
    """The same around what is done: what ends meanwhile belongs to its span.

    what: `turn`, `command`, `run`.  Yields the fields, to be added to until the end.
    An exception is one of them, by its class, and goes on.
    """
    said, began = dict(fields), time.monotonic()
    with ExitStack() as stack:
        span = None
        if _tracer is not None:
            # The words of an exception may be somebody's: a span has its class alone.
            quiet = _tracer.start_as_current_span(
                what, record_exception=False, set_status_on_exception=False
            )
            span = stack.enter_context(quiet)
        try:
            yield said
        except BaseException as error:
            said["error"] = type(error).__name__
            raise
        finally:
            told = _record(what, time.monotonic() - began, said)
            if span is not None:
                _, name, attributes = _spanned(what, told)
                span.update_name(name)
                span.set_attributes(attributes)
                _fail(span, told)


@contextmanager
def serving(method: str, path: str, headers: Mapping[str, str]) -> "Iterator[Span | None]":
    """The span of an HTTP request, around all that is done for it; None where nobody collects.

    headers: in lower case; `traceparent` makes it a part of its sender's trace.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry import propagate, trace

    with _tracer.start_as_current_span(
        method,
        propagate.extract(dict(headers)),
        trace.SpanKind.SERVER,
        {"http.request.method": method, "url.path": path},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


@contextmanager
def reporting(settings: Settings) -> Iterator[None]:
    """Write what is logged to the standard error, and send spans, until the end.

    Raises ExtraMissing when a collector is named and its packages are not installed.
    """
    global _tracer
    provider, exporter = _collected(settings) if settings.otlp_endpoint else (None, None)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_no_cancellation)
    handler.setFormatter(Json() if settings.log_format == "json" else Pretty())
    root, ours = logging.getLogger(), logging.getLogger("wordmill")
    before = (root.handlers[:], root.level, ours.level)
    root.handlers[:] = [handler]
    # What others log below a warning is of no use to whoever runs this.
    root.setLevel(max(_LEVELS[settings.log_level], logging.WARNING))
    ours.setLevel(_LEVELS[settings.log_level])
    if provider is not None:
        _tracer = provider.get_tracer("wordmill")
    try:
        yield
    finally:
        _tracer = None
        if provider is not None and exporter is not None:
            sending = threading.Thread(target=provider.shutdown, daemon=True)
            sending.start()
            sending.join(LAST)
            exporter.shutdown()  # one that is not there is not tried again
            sending.join()
        root.handlers[:], root.level = before[0], before[1]
        ours.setLevel(before[2])


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        made = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        if name := request_id.get():
            made["request"] = name
        made |= getattr(record, FIELDS, {})
        if record.exc_info:
            made["trace"] = scrub(self.formatException(record.exc_info))
        return json.dumps(made)


class Pretty(logging.Formatter):
    """A line for people: time, level, message, then the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a fault's trace follows on its own lines."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = dict(getattr(record, FIELDS, {}))
        if name := request_id.get():
            fields["request"] = name
        said = [scrub(record.getMessage()), *(f"{name}={value}" for name, value in fields.items())]
        line = f"{at} {record.levelname.lower():7} " + "  ".join(map(plain, said))
        if record.exc_info:
            line += "\n" + scrub(self.formatException(record.exc_info))
        return line


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """A server that ends cancels what is still open: nothing went wrong."""
    return not (record.exc_info and isinstance(record.exc_info[1], CancelledError))


def plain(text: str) -> str:
    """A text that cannot begin a line of its own or colour a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _record(what: str, seconds: float, fields: Mapping[str, Field]) -> dict[str, Field]:
    """The log record; the fields that say something."""
    said: dict[str, Field] = {
        name: value for name, value in fields.items() if value not in (None, "")
    }
    log = logging.getLogger(f"wordmill.{what}")
    if log.isEnabledFor(logging.INFO):
        log.info("%s ended", what, extra={FIELDS: {**said, "seconds": round(seconds, 4)}})
    return said


def _spanned(
    what: str, said: Mapping[str, Field]
) -> "tuple[SpanKind, str, dict[str, AttributeValue]]":
    """Kind, name and attributes of a span."""
    from opentelemetry.trace import SpanKind

    attributes: dict[str, AttributeValue] = {
        _NAMES.get(name, f"wordmill.{name}"): value
        for name, value in said.items()
        if value is not None and name != "finish"
    }
    if finish := said.get("finish"):
        attributes["gen_ai.response.finish_reasons"] = [str(finish)]
    if operation := said.get("operation"):
        return SpanKind.CLIENT, f"{operation} {said.get('model', '')}".strip(), attributes
    return SpanKind.INTERNAL, f"{what} {said.get('name', '')}".strip(), attributes


def _fail(span: "Span", said: Mapping[str, Field]) -> None:
    from opentelemetry.trace import Status, StatusCode

    if "error" in said:
        span.set_status(Status(StatusCode.ERROR))


def _collected(settings: Settings) -> "tuple[TracerProvider, SpanExporter]":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ExtraMissing("OpenTelemetry", "telemetry") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "wordmill"}))
    address = str(settings.otlp_endpoint).rstrip("/") + "/v1/traces"
    exporter = OTLPSpanExporter(address)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter
