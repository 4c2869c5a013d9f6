"""One streamed answer: deltas as they come, the same record at the end, cancel closes upstream."""

import json
import select
import socket
import threading
import time

import pytest

from tests.engine.conftest import CHAT, refused, said
from wordmill import _engine

BODY = json.dumps(
    {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 200}
).encode()


def read(stream, seconds=10):
    pieces, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        piece = stream.next(0.1)
        if piece is None:
            return pieces
        if piece:
            pieces.append(piece)
    raise AssertionError("the stream did not end")


def test_a_stream_is_the_same_answer_in_pieces(rehearse, drive):
    server = rehearse()
    driver = drive(f"http://127.0.0.1:{server.port}/v1")
    stream = driver.engine.stream("m", CHAT, BODY)
    pieces = read(stream)
    record = stream.record()
    driver.engine.submit_bodies("m", CHAT, [1], [BODY], [0], 1.0)
    whole = driver.collect(1)[1]
    assert "".join(pieces) == record.texts[0] == whole["text"]
    assert (record.input_tokens[0], record.output_tokens[0]) == whole["tokens"]
    assert record.digests[0] == whole["digest"]
    assert record.flags[0] & 8 == 0


def events(handler, *chunks, closed=None, pause=0.0):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    try:
        for chunk in chunks:
            handler.wfile.write(
                f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n".encode()
            )
            handler.wfile.flush()
            time.sleep(pause)
    except OSError:
        if closed is not None:
            closed.set()
    handler.close_connection = True


def delta(text):
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def test_cancel_closes_the_upstream_connection_and_keeps_the_partial_text(serve, drive):
    closed = threading.Event()

    def endless(handler):
        events(handler, *[delta(f"w{n} ") for n in range(2000)], closed=closed, pause=0.01)

    server = serve(lambda number, body: endless)
    driver = drive(server.url)
    stream = driver.engine.stream("m", CHAT, BODY)
    text = ""
    while len(text) < 20:
        text += stream.next(0.5) or ""
    stream.cancel()
    text += "".join(read(stream))
    record = stream.record()
    assert closed.wait(5), "the server never saw the connection close"
    assert record.errors[0] == "cancelled"
    assert record.texts[0] == text
    assert server.bodies[0]["stream"] is True


def test_dropping_a_stream_cancels_it(serve, drive):
    closed = threading.Event()
    server = serve(
        lambda number, body: lambda h: events(h, *[delta("w ")] * 2000, closed=closed, pause=0.01)
    )
    driver = drive(server.url)
    stream = driver.engine.stream("m", CHAT, BODY)
    assert stream.next(2.0)
    del stream
    assert closed.wait(5)


def test_a_stream_that_breaks_before_its_first_word_is_tried_again(serve, drive):
    def answer(number, body):
        if number == 0:
            return lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
        if number == 1:
            return refused(503, "busy")
        return lambda h: events(
            h, delta("fine"), {"choices": [{"delta": {}, "finish_reason": "stop"}]}, "[DONE]"
        )

    server = serve(answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream) == ["fine"]
    assert stream.record().attempts[0] == 3


def test_a_stream_that_breaks_later_is_cut_with_its_text(serve, drive):
    server = serve(lambda number, body: lambda h: events(h, delta("half an ")))
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream) == ["half an "]
    record = stream.record()
    assert (record.errors[0], record.texts[0], len(server.bodies)) == ("cut", "half an ", 1)


def test_a_server_that_does_not_stream_is_understood(serve, drive):
    server = serve(lambda number, body: said("all at once"))
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream) == ["all at once"]
    assert stream.record().errors[0] is None


def test_reasoning_comes_apart(serve, drive):
    chunks = [
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        delta("yes"),
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    server = serve(lambda number, body: lambda h: events(h, *chunks))
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert (read(stream), stream.next_reasoning()) == (["yes"], "hm")


@pytest.mark.parametrize("count", [50])
def test_streams_keep_the_lanes_limit(count, rehearse, drive):
    server = rehearse(latency_ms=20)
    driver = drive(f"http://127.0.0.1:{server.port}/v1", lane={"concurrency": 5})
    streams = [driver.engine.stream("m", CHAT, BODY, salt=n + 1) for n in range(count)]
    assert all(read(stream) for stream in streams)
    assert json.loads(server.stats())["highest_concurrency"] <= 5


def test_an_answer_that_has_begun_lets_the_others_in(rehearse, drive):
    """Nobody waits for the ends of the first three when the server answers."""
    server = rehearse(latency_ms=4000)
    driver = drive(f"http://127.0.0.1:{server.port}/v1", lane={"concurrency": 20})
    streams = [driver.engine.stream("m", CHAT, BODY, salt=n + 1) for n in range(10)]
    until = time.monotonic() + 20
    while json.loads(server.stats())["highest_concurrency"] < 10:
        assert time.monotonic() < until
        assert not any(stream.record() for stream in streams)
        time.sleep(0.01)


def test_an_event_loop_hears_of_each_stream_that_has_something_new(rehearse, drive):
    server = rehearse(latency_ms=20)
    engine = drive(f"http://127.0.0.1:{server.port}/v1", lane={"concurrency": 300}).engine
    streams = {}
    for number in range(300):
        body = BODY.replace(b"a story", f"story {number}".encode())
        stream = engine.stream("m", CHAT, body)
        streams[stream.id] = (number, stream, [])
    texts = {}
    until = time.monotonic() + 20
    while streams:
        assert select.select([engine.stream_fileno()], [], [], 5)[0], "nothing for five seconds"
        assert time.monotonic() < until
        for name in set(engine.ready()) & streams.keys():
            number, stream, pieces = streams[name]
            while piece := stream.next(0):
                pieces.append(piece)
            if piece is None:
                texts[number] = ("".join(pieces), stream.record().texts[0])
                del streams[name]
    assert len(texts) == 300
    assert all(streamed == recorded for streamed, recorded in texts.values())
    assert len(set(texts.values())) > 250
    assert engine.ready() == []
    assert not select.select([engine.stream_fileno()], [], [], 0)[0]


def test_a_whole_answer_comes_in_one_piece_through_the_same_retries(serve, drive):
    calls = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]

    def answer(number, body):
        if number == 0:
            return refused(503, "busy")
        message = {"role": "assistant", "content": "all at once", "tool_calls": calls}
        return said("", message=message)

    server = serve(answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY, whole=True)
    assert read(stream) == ["all at once"]
    record = stream.record()
    assert (record.texts[0], record.attempts[0], record.errors[0]) == ("all at once", 2, None)
    assert json.loads(record.bodies[0])["choices"][0]["message"]["tool_calls"] == calls
    assert (record.input_tokens[0], record.output_tokens[0]) == (7, 3)
    assert all("stream" not in body for body in server.bodies)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_a_whole_answer_that_is_waited_for_can_be_cancelled(head, whole, serve, drive):
    """Also where a stream was asked for, and after the head of the answer has come."""
    release = threading.Event()
    begun = threading.Event()

    def answer(handler):
        if head:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "100")
            handler.end_headers()
        begun.set()
        release.wait(10)
        handler.close_connection = True

    server = serve(lambda number, body: answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY, whole=whole)
    assert begun.wait(10)
    # So that the engine, too, has seen the head.
    time.sleep(0.05)
    stream.cancel()
    assert read(stream, 2) == []
    assert stream.record().errors[0] == "cancelled"
    release.set()


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def test_a_stream_ends_at_done_though_the_server_leaves_the_body_open(serve, drive):
    release = threading.Event()

    def answer(handler):
        events(handler, delta("fine"), STOP, "[DONE]")
        release.wait(10)

    server = serve(lambda number, body: answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream, 3) == ["fine"]
    assert stream.record().errors[0] is None
    release.set()


def test_a_stream_larger_than_a_reply_may_be_is_refused(serve, drive):
    server = serve(lambda number, body: lambda h: events(h, *[delta("y" * 50_000)] * 40))
    stream = drive(server.url, lane={"max_reply_bytes": 1_000_000}).engine.stream("m", CHAT, BODY)
    text = "".join(read(stream))
    record = stream.record()
    assert record.errors[0] == "too_large"
    assert 950_000 <= len(text) <= 1_050_000


def test_a_stream_that_nobody_reads_is_not_read_from_the_server(serve, drive):
    sent = []

    def answer(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        for _ in range(120):
            events(handler, delta("y" * 100_000))
            sent.append(1)
        events(handler, STOP, "[DONE]")

    server = serve(lambda number, body: answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        time.sleep(0.1)
    assert len(sent) < 100, "all of it was read although nobody wanted it yet"
    assert "".join(read(stream)) == "y" * 12_000_000
    assert stream.record().errors[0] is None


def test_several_answers_of_a_stream_stay_apart(serve, drive):
    def part(index, text):
        return {"choices": [{"index": index, "delta": {"content": text}}]}

    chunks = [part(0, "a1 "), part(1, "b1 "), part(0, "a2"), part(1, "b2"), STOP, "[DONE]"]
    server = serve(lambda number, body: lambda h: events(h, *chunks))
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert "".join(read(stream)) == "a1 a2"
    record = stream.record()
    choices = json.loads(record.bodies[0])["choices"]
    assert record.texts[0] == "a1 a2"
    assert [choice["message"]["content"] for choice in choices] == ["a1 a2", "b1 b2"]


def test_a_stream_without_a_word_is_tried_again(serve, drive):
    def answer(number, body):
        words = [delta("fine")] if number else []
        return lambda h: events(h, *words, STOP, "[DONE]")

    server = serve(answer)
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream) == ["fine"]
    assert stream.record().attempts[0] == 2


def test_a_stream_that_breaks_while_it_reasons_is_not_told_twice(serve, drive):
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    server = serve(lambda number, body: lambda h: events(h, thought))
    stream = drive(server.url).engine.stream("m", CHAT, BODY)
    assert read(stream) == []
    assert (stream.next_reasoning(), stream.record().errors[0]) == ("hm", "cut")
    assert len(server.bodies) == 1


def test_a_cancelled_stream_costs_what_had_come(serve, drive):
    server = serve(
        lambda number, body: (
            lambda h: events(h, *[delta("four")] * 50, pause=0.002) or time.sleep(5)
        )
    )
    lane = {"price_input": 1e6, "price_output": 1e6}
    driver = drive(server.url, lane=lane)
    stream = driver.engine.stream("m", CHAT, BODY)
    text = ""
    while len(text) < 200:
        text += stream.next(1.0)
    stream.cancel()
    assert read(stream) == []
    cost = stream.record().costs[0]
    # Four bytes a token: the text, and the prompt with what stands around it.
    assert 50 + 20 < cost < 50 + 60
    assert driver.metrics()["money"] == cost


def test_close_ends_each_stream_with_a_record_and_takes_no_more(serve, drive):
    server = serve(lambda number, body: lambda h: events(h, delta("part ")) or time.sleep(5))
    engine = drive(server.url, lane={"concurrency": 1}).engine
    first, second = (engine.stream("m", CHAT, BODY, salt=salt) for salt in (1, 2))
    assert first.next(5.0) == "part "
    engine.close()
    for stream, text in ((first, "part "), (second, "")):
        assert read(stream, 2) == []
        assert (stream.record().errors[0], stream.record().texts[0]) == ("cancelled", text)
    with pytest.raises(_engine.EngineFault, match=r"^the engine is closed$"):
        engine.stream("m", CHAT, BODY)


def test_a_stream_can_be_cancelled_wherever_it_waits(serve, drive):
    def answer(number, body):
        return said("fine") if number == 0 else refused(429, "wait", retry_after="20")

    server = serve(answer)
    driver = drive(server.url)
    driver.ask({0: "p"})
    again = driver.engine.stream("m", CHAT, BODY, salt=1)
    while len(server.bodies) < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    # One waits for another try, the other behind the pause that the server asked for.
    behind = driver.engine.stream("m", CHAT, BODY, salt=2)
    time.sleep(0.1)
    for stream in (again, behind):
        stream.cancel()
        assert read(stream, 2) == []
        assert stream.record().errors[0] == "cancelled"
    assert len(server.bodies) == 2


def test_a_stream_that_is_never_asked_for_by_name_is_named_once(rehearse, drive):
    server = rehearse(latency_ms=20)
    engine = drive(f"http://127.0.0.1:{server.port}/v1").engine
    streams = [engine.stream("m", CHAT, BODY, salt=n + 1) for n in range(5)]
    for stream in streams:
        read(stream)
    # Those that nobody holds any more are named no more.
    del streams[3:], stream
    assert engine.ready() == [stream.id for stream in streams]
    assert engine.ready() == []
