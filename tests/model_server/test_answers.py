"""Requests to a model server: handed to workers, streamed, refused, cancelled."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.model_server.conftest import Server, Start, text_of, until


def test_an_answer_comes_from_a_worker_that_is_started_for_it(server: Server) -> None:
    answer = server.ask(max_tokens=3)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "one t1 t2"
    assert answer.json()["usage"]["completion_tokens"] == 3
    shown = server.models()["tiny"]
    assert (shown["state"], shown["engine"], shown["total"]["tokens_out"]) == ("ready", "stub", 3)


def test_a_stream_is_handed_on_as_it_comes(server: Server) -> None:
    lines = server.told(max_tokens=5, stream_options={"include_usage": True})
    assert text_of(lines) == "one t1 t2 t3 t4"
    assert lines[-1] == "data: [DONE]"
    people = server.http.get("/admin/metrics").json()["tiny"]["people"]
    assert people["ann"]["tokens_in"] == 7
    assert people["ann"]["tokens_out"] == 5


def test_without_the_key_nothing_is_said(server: Server) -> None:
    for path in ("/v1/models", "/admin/models", "/metrics"):
        answer = httpx.get(server.where.url + path)
        assert answer.status_code == 401
        words = "The key is missing or wrong: send the model server's as a bearer token."
        assert answer.json()["error"]["message"] == words


def test_what_a_worker_refuses_comes_in_its_words(server: Server) -> None:
    answer = server.ask("please refuse")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "top_k is not for this engine."
    with server.stream("please refuse") as answer:
        assert answer.status_code == 400


def test_an_unknown_model_and_bad_bodies_have_sentences(server: Server) -> None:
    answer = server.ask(model="none")
    words = "The model 'none' does not exist on this machine."
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, words)
    answer = server.http.post("/v1/chat/completions", content=b"[")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The body is not JSON: ")
    answer = server.http.post("/v1/chat/completions", json={"messages": []})
    words = "The body must be an object with the name of a model."
    assert answer.json()["error"]["message"] == words


def test_embeddings_go_the_same_way(server: Server) -> None:
    answer = server.http.post("/v1/embeddings", json={"model": "tiny", "input": "a"})
    assert answer.json()["data"][0]["embedding"] == [0.5]


def test_the_list_of_models(server: Server) -> None:
    server.library.add("other")
    found = server.http.get("/v1/models").json()["data"]
    assert [one["id"] for one in found] == ["other", "tiny"]


def test_who_goes_away_gives_the_slot_free(server: Server) -> None:
    server.library.add("slow", slots=1, token_seconds=0.05)
    with server.stream(model="slow", max_tokens=2000) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "t1" in line)
        assert server.models()["slow"]["running"] == 1
    until(lambda: server.models()["slow"]["running"] == 0, 5)
    assert server.ask(model="slow", max_tokens=1).status_code == 200
    people = server.http.get("/admin/metrics").json()["slow"]["people"]
    assert people["ann"]["cancelled"] == 1


def test_who_waits_is_told_the_place(server: Server) -> None:
    server.library.add("slow", slots=1, token_seconds=0.1)
    server.ask(model="slow", max_tokens=2)  # so that it knows how long an answer takes
    with server.stream(model="slow", max_tokens=10_000, person="bob"), ThreadPoolExecutor() as pool:
        until(lambda: server.models()["slow"]["running"] == 1)
        waiting = pool.submit(first_place, server)
        place = waiting.result(30)
    assert place["place"] == 1
    assert place["state"] == "ready"
    assert 0 < place["seconds"] < 5


def first_place(server: Server) -> dict:
    with server.stream(model="slow", max_tokens=1, user="ann/her-request") as answer:
        lines = answer.iter_lines()
        told = next(line for line in lines if line.startswith(": wordmill "))
        named = server.http.get("/v1/waiting").json()["waiting"]
        assert named["her-request"]["place"] == 1
        return json.loads(told.removeprefix(": wordmill "))


def test_a_hundred_of_one_do_not_hold_up_another(server: Server) -> None:
    server.library.add("slow", slots=2, token_seconds=0.005)
    with ThreadPoolExecutor(101) as pool:
        many = [
            pool.submit(server.ask, f"ann {n}", model="slow", max_tokens=10) for n in range(100)
        ]
        until(lambda: server.models().get("slow", {}).get("waiting", 0) > 90)
        answer = server.ask("bob", model="slow", person="bob", max_tokens=1)
        assert answer.status_code == 200
        assert server.models()["slow"]["waiting"] > 70
        assert {one.result(60).status_code for one in many} == {200}


@pytest.mark.parametrize(
    ("path", "several"),
    [
        ("/v1/chat/completions", {"n": 4, "messages": []}),
        ("/v1/completions", {"n": 2, "prompt": ["a", "b"]}),
    ],
)
def test_several_answers_to_one_request_take_a_slot_each(
    server: Server, path: str, several: dict[str, Any]
) -> None:
    server.library.add("slow", slots=4, token_seconds=0.02)
    body = {"model": "slow", "max_tokens": 10_000, "stream": True, **several}
    with ThreadPoolExecutor() as pool:
        with server.http.stream("POST", path, json=body):
            until(lambda: server.models().get("slow", {}).get("running") == 4)
            bob = pool.submit(server.ask, model="slow", person="bob", max_tokens=1)
            until(lambda: server.models()["slow"]["waiting"] == 1)
        assert bob.result(30).status_code == 200


def test_two_hundred_at_once_are_all_answered(server: Server) -> None:
    server.library.add("wide", slots=32, token_seconds=0.001)
    with ThreadPoolExecutor(200) as pool:
        found = [
            pool.submit(server.told, f"number {n}", model="wide", person=f"p{n % 7}", max_tokens=8)
            for n in range(200)
        ]
        texts = {text_of(one.result(90)) for one in found}
    assert texts == {"one t1 t2 t3 t4 t5 t6 t7"}
    shown = server.models()["wide"]
    assert (shown["running"], shown["waiting"], shown["total"]["requests"]) == (0, 0, 200)


def test_a_full_queue_says_so(start: Start) -> None:
    server = start(waiting=3, waiting_each=2)
    server.library.add("slow", slots=1, token_seconds=0.05)
    with ThreadPoolExecutor(8) as pool, server.stream(model="slow", max_tokens=10_000):
        until(lambda: server.models().get("slow", {}).get("running") == 1)
        ann = [pool.submit(server.ask, model="slow", max_tokens=1) for _ in range(2)]
        until(lambda: server.models()["slow"]["waiting"] == 2)
        refused = server.ask(model="slow")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert refused.json()["error"]["message"] == (
            "2 of your requests wait for the model 'slow' already, the most that one person may "
            "have there (setting local_person_queue)."
        )
        bob = pool.submit(server.ask, model="slow", person="bob", max_tokens=1)
        until(lambda: server.models()["slow"]["waiting"] == 3)
        refused = server.ask(model="slow", person="eve")
        assert refused.json()["error"]["message"] == (
            "3 requests wait for the model 'slow' already, the most that are taken (setting "
            "local_queue)."
        )
        ann.append(bob)
    assert {one.result(30).status_code for one in ann} == {200}


def test_prometheus_reads_it(server: Server) -> None:
    server.told(max_tokens=3, stream_options={"include_usage": True})
    text = server.http.get("/metrics").text
    assert 'wordmill_model_tokens_out_total{model="tiny",person="ann"} 3' in text
    assert 'wordmill_model_loaded{model="tiny"} 1' in text
    assert 'wordmill_model_first_token_seconds_bucket{model="tiny",le="+Inf"} 1' in text
