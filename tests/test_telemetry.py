"""What is logged and traced: who, by which door, how long, how many tokens; never what was said."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.api.conftest import Server, server
from wordmill import telemetry
from wordmill.settings import load

__all__ = ["server"]

SECRET = "the blue heron stands in the mill race"
RECIPE = (
    "name: notes\nmodel: rehearsal\ncolumns:\n"
    "  mood: {type: category, values: [calm]}\n"
    "  note: {type: prompt, prompt: 'A {{ mood }} note.'}\n"
)


@dataclass
class Collector:
    """What an OpenTelemetry collector was sent."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def named(self, name: str) -> Span:
        found = [span for span in self.spans if span.name == name]
        assert found, sorted({span.name for span in self.spans})
        return found[0]


def values(span: Span) -> dict[str, object]:
    """The attributes of a span."""
    made: dict[str, object] = {}
    for one in span.attributes:
        kind = str(one.value.WhichOneof("value"))
        made[one.key] = getattr(one.value, kind)
    return made


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a real socket."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            from gzip import decompress

            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = decompress(data)
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                for name in resource.resource.attributes:
                    if name.key == "service.name":
                        found.services.add(name.value.string_value)
                for scope in resource.scope_spans:
                    found.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        found.url = f"http://127.0.0.1:{made.server_port}"
        yield found
        made.shutdown()


@pytest.fixture
def report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Do something while it is reported; the lines that were written."""

    def reported(act: Callable[[], object], **settings: str) -> list[str]:
        for name, value in settings.items():
            monkeypatch.setenv(f"WORDMILL_{name.upper()}", value)
        with telemetry.reporting(load()):
            act()
        return capsys.readouterr().err.splitlines()

    return reported


def test_a_turn_a_command_a_completion_and_a_run_are_one_record_each(
    server: Server, report: Callable[..., list[str]]
) -> None:
    bob, house = server.people["bob"], server.house
    kept = house.conversations.create(bob, model="rehearsal")

    def act() -> None:
        with server.client("bob") as client:
            said = {"text": SECRET}
            turn = client.post(f"/api/conversations/{kept.id}/messages", json=said).json()
            for _ in house.chat.watch(bob, turn["answers"][0]):
                pass
            given = {"line": "/status", "conversation": kept.id}
            assert client.post("/api/commands", json=given).is_success
            body = {"model": "rehearsal", "messages": [{"role": "user", "content": SECRET}]}
            answer = client.post(
                "/v1/chat/completions", json=body, headers={"x-request-id": "my-own"}
            )
            assert answer.headers["x-request-id"] == "my-own"
            run = client.post("/api/runs", json={"recipe": RECIPE, "rows": 3}).json()["id"]
        desk, until = house.desk(bob), time.monotonic() + 30
        while desk.registry.get(run).ended is None:
            assert time.monotonic() < until
            time.sleep(0.02)

    lines = report(act, log_format="json")
    records = [json.loads(line) for line in lines]
    assert SECRET not in "".join(lines)
    assert "A calm note" not in "".join(lines)

    def one(logger: str, **wanted: object) -> dict[str, object]:
        found = [r for r in records if r["logger"] == logger and wanted.items() <= r.items()]
        assert len(found) == 1, (logger, wanted, records)
        return dict(found[0])

    turn = one("wordmill.turn")
    assert turn["person"] == bob.id
    assert (turn["door"], turn["model"], turn["state"]) == ("api", "rehearsal", "done")
    assert turn["conversation"] == kept.id
    assert turn["seconds"] >= turn["first"] > 0  # type: ignore[operator]
    assert int(str(turn["output_tokens"])) > 0
    assert one("wordmill.command")["name"] == "status"
    asked = one("wordmill.completion", request="my-own")
    assert (asked["operation"], asked["person"], asked["model"]) == ("chat", bob.id, "rehearsal")
    assert int(str(asked["input_tokens"])) > 0
    request = one("wordmill.request", request="my-own")
    assert (request["method"], request["path"]) == ("POST", "/v1/chat/completions")
    assert request["status"] == 200
    step = one("wordmill.step", name="note")
    assert (step["person"], step["model"], step["done"]) == (bob.id, "rehearsal", 3)
    assert int(str(step["output_tokens"])) > 0
    assert one("wordmill.step", name="mood")["done"] == 3
    run = one("wordmill.run")
    assert (run["state"], run["rows"], run["requests"]) == ("made", 3, 3)


def test_spans_follow_the_conventions_and_belong_together(
    server: Server, report: Callable[..., list[str]], collector: Collector
) -> None:
    bob, house = server.people["bob"], server.house
    kept = house.conversations.create(bob, model="rehearsal")
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    def act() -> None:
        body = {"model": "rehearsal", "messages": [{"role": "user", "content": SECRET}]}
        with server.client("bob") as client:
            answer = client.post(
                "/v1/chat/completions",
                json={**body, "stream": True},
                headers={"traceparent": f"00-{trace}-{parent}-01"},
            )
            assert answer.is_success
            assert client.get("/v1/models/nothing").status_code == 404
        turn = house.chat.send(bob, kept.id, SECRET, door="web")
        for _ in house.chat.watch(bob, turn.answer):
            pass

    report(act, otlp_endpoint=collector.url)
    assert collector.services == {"wordmill"}
    served = collector.named("POST /v1/chat/completions")
    assert (served.trace_id.hex(), served.parent_span_id.hex()) == (trace, parent)
    assert served.kind == Span.SPAN_KIND_SERVER
    assert values(served)["http.response.status_code"] == 200
    asked = [span for span in collector.spans if span.name == "chat rehearsal"]
    (own,) = [span for span in asked if span.parent_span_id == served.span_id]
    assert own.kind == Span.SPAN_KIND_CLIENT
    told = values(own)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "rehearsal"
    assert told["gen_ai.request.model"] == "rehearsal"
    assert told["enduser.id"] == bob.id
    assert told["wordmill.door"] == "api"
    assert int(str(told["gen_ai.usage.input_tokens"])) > 0
    assert int(str(told["gen_ai.usage.output_tokens"])) > 0
    assert 0 < own.end_time_unix_nano - own.start_time_unix_nano < 30e9
    turn = collector.named("turn")
    assert values(turn)["gen_ai.conversation.id"] == kept.id
    assert any(span.parent_span_id == turn.span_id for span in asked)
    assert (
        values(collector.named("GET /v1/models/{model:path}"))["http.response.status_code"] == 404
    )
    assert SECRET not in str(collector.spans)


def test_what_fails_says_so_and_not_why(
    report: Callable[..., list[str]], collector: Collector
) -> None:
    def act() -> None:
        with pytest.raises(ValueError), telemetry.measured("command", name="x"):
            raise ValueError(SECRET)

    lines = report(act, otlp_endpoint=collector.url, log_format="json")
    record = json.loads(lines[0])
    assert (record["name"], record["error"]) == ("x", "ValueError")
    span = collector.named("command x")
    assert values(span)["error.type"] == "ValueError"
    assert span.status.code == 2
    assert SECRET not in str(span) + lines[0]


def test_a_line_for_people_is_one_line_and_secrets_are_taken_out(
    report: Callable[..., list[str]],
) -> None:
    def act() -> None:
        log = logging.getLogger("wordmill.x")
        log.warning("a \x1b[31mred\x1b[0m\nline with sk-abcdefghijklmnopq")
        log.debug("too fine")
        logging.getLogger("other").info("too fine as well")
        telemetry.ended("completion", 1.5, person="ann", model="m", error=None, finish="")

    first, second = report(act)
    assert first.endswith("warning a \\x1b[31mred\\x1b[0m\\x0aline with ********")
    assert second.endswith("info    completion ended  person=ann  model=m  seconds=1.5")


def test_levels_and_forms_are_settings(report: Callable[..., list[str]]) -> None:
    def act() -> None:
        logging.getLogger("wordmill.x").info("fine")
        try:
            raise ValueError("no key sk-abcdefghijklmnopq")
        except ValueError:
            logging.getLogger("wordmill.x").exception("a fault")

    lines = report(act, log_level="error", log_format="json")
    (record,) = map(json.loads, lines)
    assert (record["level"], record["message"]) == ("error", "a fault")
    assert "ValueError: no key ********" in record["trace"]


def test_the_loggers_are_as_they_were_afterwards(report: Callable[..., list[str]]) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    report(lambda: None)
    assert (list(root.handlers), root.level) == before


def test_a_collector_that_is_not_there_harms_nothing(report: Callable[..., list[str]]) -> None:
    def act() -> None:
        with telemetry.measured("command", name="x"):
            pass

    lines = report(act, otlp_endpoint="http://127.0.0.1:9")
    assert any("command ended" in line for line in lines)
