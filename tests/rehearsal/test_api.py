"""Tools, streams, embeddings and models, through OpenAI's client."""

import base64
import json
import math
import struct
import time

import openai
import pytest

from tests.rehearsal.asked import Json, Rehearse, ask, chat, client_of, stats, text_of, valid
from wordmill._engine import Rehearsal

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize(
    ("prompt", "choice", "called"),
    [
        ("What is the weather in Oslo?", "auto", "get_weather"),
        ("Please call get_weather.", None, "get_weather"),
        ("Tell me a story.", "auto", None),
        ("What is the weather in Oslo?", "none", None),
        ("What is the weather in Oslo?", "required", "get_weather"),
        ("Hello.", {"type": "function", "function": {"name": "clock"}}, "clock"),
    ],
)
def test_a_tool_is_called_when_it_is_wanted(
    client: openai.OpenAI, prompt: str, choice: Json, called: str | None
) -> None:
    extra = {} if choice is None else {"tool_choice": choice}
    reply = client.chat.completions.create(**chat(prompt, tools=[CLOCK, WEATHER], **extra))
    message = reply.choices[0].message
    if called is None:
        assert message.tool_calls is None
        assert message.content
        return
    (call,) = message.tool_calls or []
    assert call.type == "function"
    assert (message.content, call.function.name) == (None, called)
    assert reply.choices[0].finish_reason == "tool_calls"
    arguments = json.loads(call.function.arguments)
    if called == "clock":
        assert arguments == {}
    else:
        valid(PARAMETERS, call.function.arguments)


def test_the_result_of_a_tool_is_answered_in_words(server: Rehearsal) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": "{}"},
    }
    body = {
        "model": "m",
        "tools": [WEATHER],
        "messages": [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
    }
    assert len(text_of(ask(server, body))) > 100


def test_tools_that_cannot_be_read_are_refused(server: Rehearsal) -> None:
    choice = {"type": "function", "function": {"name": "nothing"}}
    answer = ask(server, chat("x", tools=[CLOCK], tool_choice=choice))
    message = "Invalid 'tools': there is no tool \"nothing\" among those given."
    assert (answer.status, answer.body["error"]["message"]) == (400, message)
    answer = ask(server, chat("x", tools=[{"type": "function"}]))
    assert answer.status == 400
    assert answer.body["error"]["message"].startswith("Invalid 'tools': the tools cannot be read: ")


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, server: Rehearsal) -> None:
    whole = ask(server, chat("hello", n=2))
    pieces: dict[int, list[str]] = {0: [], 1: []}
    finished = {}
    usage = None
    for event in client.chat.completions.create(
        **chat("hello", n=2), stream=True, stream_options={"include_usage": True}
    ):
        for choice in event.choices:
            pieces[choice.index].append(choice.delta.content or "")
            finished[choice.index] = choice.finish_reason
        usage = event.usage or usage
    assert ["".join(pieces[n]) for n in (0, 1)] == [text_of(whole, n) for n in (0, 1)]
    assert len(pieces[0]) > 30
    assert finished == {0: "stop", 1: "stop"}
    assert usage is not None
    assert usage.model_dump(include=set(whole.body["usage"])) == whole.body["usage"]


def test_a_stream_is_server_sent_events(server: Rehearsal) -> None:
    answer = ask(server, chat("Answer with one word.", stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.body.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["object"] == "chat.completion.chunk"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in last


def test_a_tool_call_streams(client: openai.OpenAI) -> None:
    arguments = ""
    for event in client.chat.completions.create(
        **chat("x", tools=[WEATHER], tool_choice="required"), stream=True
    ):
        for call in event.choices[0].delta.tool_calls or []:
            assert call.function is not None
            arguments += call.function.arguments or ""
    valid(PARAMETERS, arguments)


def test_a_stream_takes_as_long_as_a_whole_answer(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=400)
    begin = time.monotonic()
    with client_of(server) as client:
        times = [
            time.monotonic() - begin
            for _ in client.chat.completions.create(**chat("x"), stream=True)
        ]
    assert 0.09 < times[0] < 0.38
    assert 0.38 < times[-1] < 2
    assert times[len(times) // 2] - times[0] > 0.1, "it comes piece by piece"


def test_embeddings_are_unit_vectors_and_near_for_near_texts(client: openai.OpenAI) -> None:
    texts = ["The laptop is broken", "the laptop was broken", "Rivers rise in April"]
    reply = client.embeddings.create(model="m", input=texts)
    first, near, far = (item.embedding for item in reply.data)
    assert [len(first), [item.index for item in reply.data]] == [256, [0, 1, 2]]
    assert math.isclose(math.hypot(*first), 1, rel_tol=1e-5)
    cosine = [sum(a * b for a, b in zip(first, other, strict=True)) for other in (first, near, far)]
    assert cosine[0] > cosine[1] > 0.4 > cosine[2]
    assert reply.usage.prompt_tokens == sum(math.ceil(len(text) / 4) for text in texts)
    (again,) = client.embeddings.create(model="m", input=texts[0]).data
    assert again.embedding == first


def test_embeddings_in_floats_in_base64_and_short(server: Rehearsal) -> None:
    fields = {"model": "m", "input": "hello", "dimensions": 5}
    floats = ask(server, fields, "/v1/embeddings").body["data"][0]["embedding"]
    coded = ask(server, {**fields, "encoding_format": "base64"}, "/v1/embeddings").body["data"][0]
    assert struct.unpack("<5f", base64.b64decode(coded["embedding"])) == pytest.approx(floats)
    for wrong in ({"dimensions": 0}, {"input": []}, {"encoding_format": "hex"}, {"input": ""}):
        assert ask(server, {**fields, **wrong}, "/v1/embeddings").status == 400


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "rehearsal",
        "rehearsal-small",
        "mock-1",
    ]
    assert client.models.retrieve("anything").id == "anything"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("missing-1")
    assert missing.value.code == "model_not_found"


def test_a_missing_model_is_not_found(client: openai.OpenAI, server: Rehearsal) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**chat("x"), "model": "missing-large"})
    assert missing.value.code == "model_not_found"
    assert missing.value.body == {
        "message": "The model `missing-large` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }
    assert stats(server)["rejected"] == 1


def test_a_text_is_gone_on_with(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="mock-1", prompt=["Say A.", "Say B."], max_tokens=5)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert all(choice.text for choice in reply.choices)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 10


def test_a_response_is_made(client: openai.OpenAI) -> None:
    reply = client.responses.create(
        model="mock-1", input="Answer with exactly one of: yes, no", instructions="Be brief."
    )
    assert reply.output_text in ("yes", "no")
    assert reply.status == "completed"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    again = client.responses.create(
        model="mock-1",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "Give the city."}]}],
        text={"format": {"type": "json_schema", "name": "answer", "schema": PARAMETERS}},
    )
    valid(PARAMETERS, again.output_text)
    cut = client.responses.create(model="mock-1", input="Tell a story.", max_output_tokens=3)
    assert cut.incomplete_details is not None
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
