"""Faults on purpose: each is what it is called, and as many are seen as are counted."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead

import jsonschema_rs
import openai
import pytest

from tests.rehearsal.asked import (
    FAULTS,
    TICKET,
    Json,
    Rehearse,
    ask,
    by_schema,
    chat,
    client_of,
    say,
    stats,
    valid,
)
from wordmill._engine import Rehearsal
from wordmill.columns.checks import as_an_ai, refused


def kind_of(server: Rehearsal, body: Json) -> str:
    """The name of what happened to a request, as a client sees it."""
    structured = "response_format" in body
    begin = time.monotonic()
    try:
        answer = ask(server, body)
    except json.JSONDecodeError:
        return "malformed"
    except HTTPException as error:
        return "truncate" if isinstance(error, IncompleteRead) else "drop"
    except ConnectionError:
        return "drop"
    if answer.status != 200:
        if answer.status == 429:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["retry-after-ms"] == "20"
        assert answer.body["error"]["message"]
        return str(answer.status)
    if time.monotonic() - begin > 0.9:
        return "slow"
    message = answer.body["choices"][0]["message"]
    if message["refusal"]:
        assert structured
        assert refused(message["refusal"])
        return "refuse"
    text = message["content"]
    if text == "":
        return "empty"
    if structured:
        validator = jsonschema_rs.validator_for(TICKET)
        return "answered" if validator.is_valid(json.loads(text)) else "schema"
    if refused(text):
        return "refuse"
    return "as-an-ai" if as_an_ai(text) else "answered"


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_what_it_is_called(rehearse: Rehearse, fault: str) -> None:
    server = rehearse(errors={fault: 1.0})
    body = chat("hello", response_format=by_schema(TICKET)) if fault == "schema" else chat("hello")
    assert kind_of(server, body) == fault
    counted = stats(server)
    assert counted["faults"] == {name: int(name == fault) for name in FAULTS}
    answers = fault in {"empty", "slow", "refuse", "schema", "as-an-ai"}
    assert (counted["requests"], counted["answered"]) == (1, int(answers))


def test_the_faults_that_clients_see_are_those_counted(rehearse: Rehearse) -> None:
    chances = {name: 0.04 for name in FAULTS if name != "slow"}
    server = rehearse(errors={**chances, "slow": 0.004}, seed=3)
    bodies: list[Json] = [chat(f"free {n}") for n in range(500)]
    bodies += [chat(f"formed {n}", response_format=by_schema(TICKET)) for n in range(500)]
    with ThreadPoolExecutor(16) as pool:
        seen = Counter(pool.map(lambda body: kind_of(server, body), bodies))
    counted = stats(server)
    assert {name: seen[name] for name in FAULTS} == counted["faults"]
    assert all(seen[name] > 8 for name in chances)
    assert counted["requests"] == 1000
    lost = {"429", "401", "500", "503", "drop", "truncate", "malformed"}
    assert counted["answered"] == 1000 - sum(seen[name] for name in lost)


def test_a_fault_is_a_matter_of_the_request_and_not_of_the_hour(rehearse: Rehearse) -> None:
    bodies = [chat(f"number {n}") for n in range(60)]
    options = {"errors": {"500": 0.5}, "seed": 9}
    first, second = rehearse(**options), rehearse(**options)
    third = rehearse(**{**options, "seed": 8})
    forth = [ask(first, body).status for body in bodies]
    back = [ask(second, body).status for body in reversed(bodies)]
    assert forth == back[::-1]
    assert 15 < forth.count(500) < 45
    assert forth != [ask(third, body).status for body in bodies]
    # Asked again, a request draws again.
    failed = bodies[forth.index(500)]
    assert {ask(first, failed).status for _ in range(20)} == {200, 500}


@pytest.mark.parametrize("fault", ["drop", "truncate", "malformed", "empty", "refuse"])
def test_streams_have_faults_too(rehearse: Rehearse, fault: str) -> None:
    server = rehearse(errors={fault: 1.0})
    with client_of(server) as client:
        seen = {streamed(client, f"hello {n}") for n in range(20)}
    assert seen == {fault}
    assert stats(server)["faults"][fault] == 20


def streamed(client: openai.OpenAI, prompt: str) -> str:
    """The name of what happens to a stream, as a client sees it."""
    text: str | None = None
    try:
        for event in client.chat.completions.create(**chat(prompt), stream=True):
            text = (text or "") + (event.choices[0].delta.content or "")
    except openai.APIConnectionError:
        return "drop" if text is None else "truncate"
    except json.JSONDecodeError:
        return "malformed"
    if not text:
        return "empty"
    return "refuse" if refused(text) else "answered"


def test_choices_are_missed_on_purpose(rehearse: Rehearse) -> None:
    server = rehearse(errors={"schema": 1.0})
    prompt = "Answer with exactly one of these choices and nothing else:\n- calm\n- none of these"
    assert say(server, prompt) == "none of these at all"
    assert stats(server)["faults"]["schema"] == 1
    assert as_an_ai(say(server, "Tell me more.")) is None
    assert stats(server)["faults"]["schema"] == 1, "free text has no schema to break"


def test_an_ai_speaks_only_where_text_is_free(rehearse: Rehearse) -> None:
    server = rehearse(errors={"as-an-ai": 1.0})
    text = say(server, "Use the headings CAUSE and CURE.")
    assert text.startswith("CAUSE\nAs an AI language model, ")
    assert "\n\nCURE\n" in text
    valid(TICKET, say(server, "x", response_format=by_schema(TICKET)))
    assert stats(server)["faults"]["as-an-ai"] == 1


@pytest.mark.parametrize("number", range(30))
def test_refusals_are_those_that_checks_find(rehearse: Rehearse, number: int) -> None:
    server = rehearse(errors={"refuse": 1.0}, seed=number)
    assert refused(say(server, "hello"))


def test_ordinary_texts_pass_the_checks(server: Rehearsal) -> None:
    for n in range(300):
        text = say(server, f"hello {n}")
        assert (refused(text), as_an_ai(text)) == (None, None)
