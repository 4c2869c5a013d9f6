"""What a batch may ask beyond OpenAI's form: addresses, checks of answers, functions."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Server
from tests.api.test_batches import ended, jsonl, request, until
from tests.servers.imperfect import Asked, Served, Told, completion, serving
from wordmill.providers.base import Model

Json = dict[str, Any]
SECRET = "sk-hidden-5f3a9c7e1b2d4f60"

SHOP = """
import os, time

def shout(answer):
    print("this goes nowhere")
    return {"said": answer["text"].upper(), "value": answer["value"], "id": answer["custom_id"]}

def fails(answer):
    raise ValueError("no " + answer["text"])

def sleeps(answer):
    time.sleep(60)

def peeks(answer):
    return sorted(name for name in os.environ if name.startswith(("WORDMILL", "AWS", "SECRET")))

def huge(answer):
    return 10 ** 30
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setenv("WORDMILL_BATCH_FUNCTIONS", "shop")
    monkeypatch.setenv("WORDMILL_BATCH_FUNCTION_SECONDS", "500ms")
    monkeypatch.setenv("WORDMILL_BATCH_URLS", "members")
    monkeypatch.setenv("WORDMILL_PRIVATE_HOSTS", "127.0.0.1")
    monkeypatch.setenv("SECRET_OF_THE_SERVER", SECRET)
    monkeypatch.setenv(
        "WORDMILL_BATCH_KEYS", "SECRET_OF_THE_SERVER@127.0.0.1,OTHER@api.example.org"
    )
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@dataclass
class Desk:
    """Bob at the API."""

    server: Server
    http: httpx.Client
    openai: openai.OpenAI

    def order(self, *lines: Json, **wish: Any) -> httpx.Response:
        data = jsonl(*lines)
        file = self.openai.files.create(file=("asked.jsonl", data), purpose="batch").id
        return self.http.post("/api/batches", json={"file": file, **wish})

    def done(self, *lines: Json, **wish: Any) -> Json:
        told = self.order(*lines, **wish)
        assert told.status_code == 202, told.text
        assert ended(self.openai, told.json()["id"]).status == "completed"
        found: Json = self.http.get(f"/api/batches/{told.json()['id']}").json()
        return found

    def results(self, *lines: Json, **wish: Any) -> list[Json]:
        batch = self.done(*lines, **wish)["id"]
        found: list[Json] = self.http.get(f"/api/batches/{batch}/results").json()["items"]
        return found


@pytest.fixture
def desk(server: Server) -> Iterator[Desk]:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.keys["bob"], max_retries=0)
    with server.client("bob") as http:
        yield Desk(server, http, client)


@pytest.fixture
def model() -> Iterator[Callable[..., Served]]:
    """A model's server that says these texts, one after another, and the last one for ever."""
    opened = []

    def start(*texts: str) -> Served:
        left = list(texts)

        def answer(asked: Asked) -> Told:
            return completion(left.pop(0) if len(left) > 1 else left[0])

        context = serving(answer)
        served = context.__enter__()
        opened.append(context)
        return served

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def line(name: str, served: Served | None = None, /, **own: Any) -> Json:
    found = request(name)
    if served is not None:
        own["url"] = f"{served.url}/v1"
        found["body"]["model"] = "theirs"
    if own:
        found["wordmill"] = own
    return found


# Checks -------------------------------------------------------------------------------------


def test_an_answer_is_asked_for_again_with_the_reason(
    desk: Desk, model: Callable[..., Served]
) -> None:
    served = model("Perhaps.", "Certainly!", " No. ")
    check = {"choices": ["yes", "no"], "tries": 3}
    (found,) = desk.results(line("a", served), validate=check)
    own = found["wordmill"]
    assert found["response"]["body"]["choices"][0]["message"]["content"] == " No. "
    assert (found["error"], found["custom_id"], own["line"]) == (None, "a", 1)
    assert (own["tries"], own["value"], own["attempts"]) == (3, "no", 3)
    assert own["reasons"] == [
        "'Perhaps.' is none of yes, no", "'Certainly!' is none of yes, no",
    ]  # fmt: skip
    assert (own["input_tokens"], own["output_tokens"]) == (21, 6)
    first, second, third = served.bodies
    assert second["messages"][:1] == first["messages"]
    assert second["messages"][1] == {"role": "assistant", "content": "Perhaps."}
    assert second["messages"][2]["role"] == "user"
    assert second["messages"][2]["content"].startswith("That is none of the choices.")
    assert len(third["messages"]) == 5


def test_an_answer_that_never_fits_is_an_error_with_all_it_cost(
    desk: Desk, model: Callable[..., Served]
) -> None:
    served = model("no json")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    batch = desk.done(line("a", served, validate={"schema": schema, "tries": 2}), line("b"))
    assert (batch["counts"]["completed"], batch["counts"]["failed"]) == (1, 1)
    assert batch["counts"]["causes"] == {"schema": 1}
    found = desk.http.get(f"/api/batches/{batch['id']}/results").json()["items"]
    first, second = found
    assert first["response"] is None
    assert first["error"] == {"code": "schema", "message": "the answer holds no JSON"}
    assert (first["wordmill"]["tries"], len(first["wordmill"]["reasons"])) == (2, 2)
    assert first["wordmill"]["input_tokens"] == 14
    assert "tries" not in second["wordmill"]
    assert second["error"] is None
    used = desk.server.house.accounts.ledger.used(desk.server.people["bob"].id)["day"].amount
    assert used.requests == 3


def test_a_pattern_and_a_schema_read_what_they_want(
    desk: Desk, model: Callable[..., Served]
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    served = model('```json\n{"n": 3}\n```')
    other = model("Room 12b")
    first, second = desk.results(
        line("a", served, validate={"schema": schema}),
        line("b", other, validate={"pattern": "[0-9]+b$"}),
    )
    assert first["wordmill"]["value"] == {"n": 3}
    assert second["wordmill"]["value"] == "Room 12b"


def test_the_rehearsal_model_keeps_to_a_schema_in_a_large_batch(desk: Desk) -> None:
    lines = [request(f"r{n}", "Answer with exactly one of: yes, no") for n in range(2500)]
    batch = desk.done(*lines, validate={"choices": ["yes", "no"]}, priority=7)
    assert batch["counts"]["completed"] == 2500
    assert batch["priority"] == 7
    assert batch["options"]["validate"] == {"choices": ["yes", "no"]}
    output = desk.openai.files.content(batch["output"]).text.splitlines()
    names = [json.loads(one)["custom_id"] for one in output]
    assert names == [f"r{n}" for n in range(2500)]


@pytest.mark.parametrize(
    ("validate", "words"),
    [
        ({}, "validate has one of schema, choices and pattern, and beside it at most tries."),
        ({"choices": []}, "validate: choices is a list of texts, not an empty one."),
        ({"schema": {"type": "nothing"}}, "validate: "),
        ({"pattern": "("}, "validate: '(' is no regular expression that is understood here."),
        ({"pattern": "(?=a)b"}, "validate: '(?=a)b' is no regular expression"),
        ({"choices": ["a"], "tries": 99}, "validate.tries is a whole number from 1 to 10."),
        ({"choices": ["a"], "pattern": "a"}, "validate has one of schema, choices and pattern"),
    ],
)
def test_a_check_that_is_none_is_refused(desk: Desk, validate: Json, words: str) -> None:
    told = desk.order(request("a"), validate=validate)
    assert told.status_code == 400
    assert told.json()["error"]["message"].startswith(words)
    good, bad = desk.results(request("good"), line("bad", validate=validate))
    assert good["error"] is None
    assert bad["error"]["code"] == "invalid_wordmill"
    assert bad["error"]["message"].startswith(words)


# Functions ----------------------------------------------------------------------------------


def test_a_function_gets_the_answer_and_what_it_returns_is_kept(
    desk: Desk, model: Callable[..., Served]
) -> None:
    served = model("yes")
    found, other = desk.results(
        line("a", served, validate={"choices": ["yes"]}), line("b", served), post="shop:shout"
    )
    assert found["wordmill"]["post"] == {"said": "YES", "value": "yes", "id": "a"}
    assert other["wordmill"]["post"] == {"said": "YES", "value": None, "id": "b"}


def test_what_a_function_does_wrong_is_its_line_s_error(
    desk: Desk, model: Callable[..., Served]
) -> None:
    served = model("luck")
    functions = ("fails", "sleeps", "huge", "shout", "missing", "peeks")
    found = desk.results(*(line(name, served, post=f"shop:{name}") for name in functions))
    told = {one["custom_id"]: one["error"] for one in found}
    assert told["fails"] == {"code": "post", "message": "ValueError: no luck"}
    assert told["sleeps"] == {"code": "post", "message": "shop:sleeps took longer than 0.5 s"}
    assert told["huge"]["message"].startswith("what it returned is no JSON that is kept:")
    assert told["missing"]["message"].startswith("shop:missing cannot be had: AttributeError")
    assert told["shout"] is None
    assert found[-1]["wordmill"]["post"] == []


@pytest.mark.parametrize(
    ("post", "words"),
    [
        ("os:system", "The module os is not among those that an admin allows batches to call"),
        ("shop.other", "post is a function, written package.module:function."),
        ("shopping:shout", "The module shopping is not among those"),
    ],
)
def test_only_functions_of_allowed_modules_are_called(desk: Desk, post: str, words: str) -> None:
    told = desk.order(request("a"), post=post)
    assert told.status_code == 400
    assert told.json()["error"]["message"].startswith(words)
    good, bad = desk.results(request("good"), line("bad", post=post))
    assert (good["error"], bad["error"]["code"]) == (None, "invalid_wordmill")
    assert bad["error"]["message"].startswith(words)


# Addresses ----------------------------------------------------------------------------------


def test_a_server_is_asked_by_its_address_and_becomes_a_private_model(
    desk: Desk, model: Callable[..., Served]
) -> None:
    served = model("Good day.")
    direct = request("c", "Hello to c")
    direct["url"] = f"{served.url}/v1/chat/completions"
    direct["body"]["model"] = "theirs"
    keyed = line("b", served, key="SECRET_OF_THE_SERVER")
    keyed["body"]["messages"][0]["content"] = "Hello to b"
    found = desk.results(line("a", served), keyed, direct, request("d"))
    assert [one["error"] for one in found] == [None] * 4
    name = f"theirs@{served.url}/v1"
    assert [one["wordmill"]["model"] for one in found] == [
        name, f"{name}@SECRET_OF_THE_SERVER", name, "rehearsal",
    ]  # fmt: skip
    keys = [asked.headers.get("authorization") for asked in served.asked]
    assert sorted(keys, key=str) == [f"Bearer {SECRET}", None, None]
    assert {body["model"] for body in served.bodies} == {"theirs"}
    for who, seen in (("bob", True), ("cem", False), ("ann", False)):
        with desk.server.client(who) as client:
            listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert (name in listed) is seen, who


def test_a_whole_batch_may_ask_one_server(desk: Desk, model: Callable[..., Served]) -> None:
    served = model("Good day.")
    batch = desk.done(request("a"), request("b", "Bye"), url=f"{served.url}/v1/")
    assert (batch["counts"]["completed"], len(served.bodies)) == (2, 2)
    again = desk.http.post(f"/api/batches/{batch['id']}/retry")
    assert again.status_code == 409


def test_a_stored_key_goes_only_to_its_own_server(desk: Desk, model: Callable[..., Served]) -> None:
    served, other = model("Good day."), model("No.")
    house, people = desk.server.house, desk.server.people
    house.add_model(people["ann"], Model(name="catalogued", base_url=f"{served.url}/v2", model="m"))
    house.accounts.provider_keys.set(people["bob"], "catalogued", SECRET)
    good, bad = desk.results(
        line("a", served, key="catalogued"), line("b", other, key="catalogued")
    )
    assert good["error"] is None
    assert served.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert bad["error"] == {
        "code": "url_refused",
        "message": "Your stored key of 'catalogued' is for that model's server alone.",
    }
    assert other.asked == []


def test_a_key_in_a_line_is_refused_and_stands_nowhere(
    desk: Desk, model: Callable[..., Served], home: Path
) -> None:
    served = model("Good day.")
    keyed = line("b", served, key=SECRET + "x")
    headed = line("c", served, headers={"Authorization": SECRET + "x"})
    named = line("d")
    named["wordmill"] = {"url": f"http://me:{SECRET}x@127.0.0.1/v1"}
    found = desk.results(line("a", served), request("e"), request("f"), keyed, headed, named)
    codes = [one["error"] and one["error"]["code"] for one in found]
    assert codes == [None, None, None, "unknown_key", "key_in_line", "invalid_url"]
    assert SECRET not in json.dumps(found)
    told = desk.order(request("a"), url=f"{served.url}/v1", key=SECRET + "x")
    assert (told.status_code, SECRET in told.text) == (400, False)
    kept = [path for path in home.rglob("*") if path.is_file() and path.parent.name != "files"]
    assert [str(path) for path in kept if SECRET.encode() in path.read_bytes()] == []


def test_addresses_that_are_not_public_are_refused(
    desk: Desk, model: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = model("You should not see this.")
    port = served.url.rpartition(":")[2]
    hosts = ("localhost", "127.0.0.2", "[::1]", "169.254.169.254", "0.0.0.0", "127.1", "2130706433")

    def at(name: str, host: str) -> Json:
        found = line(name)
        found["wordmill"] = {"url": f"http://{host}:{port}/v1"}
        return found

    lines = [request(f"good {n}") for n in range(len(hosts))]
    found = desk.results(*lines, *(at(host, host) for host in hosts))[len(hosts) :]
    for host, one in zip(hosts, found, strict=True):
        assert one["error"]["code"] == "url_refused", host
        assert (
            "is not public: an admin allows hosts by the setting private_hosts"
            in (one["error"]["message"])
        )
    assert served.asked == []
    told = desk.order(request("a"), url=f"http://localhost:{port}/v1")
    assert told.status_code == 400


def test_an_address_behind_a_proxy_is_refused(
    desk: Desk, model: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = model("You should not see this.")
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", desk.server.url.removeprefix("http://"))
    told = desk.order(request("a"), url="http://models.example.org/v1")
    assert told.status_code == 400
    assert told.json()["error"]["message"] == (
        "models.example.org would be asked through a proxy, which hides where it leads: name it in "
        "NO_PROXY."
    )
    assert proxy.asked == []


def test_a_redirect_is_not_followed(desk: Desk, model: Callable[..., Served]) -> None:
    inside = model("You should not see this.")
    with serving(lambda _: Told(302, {}, {"Location": f"{inside.url}/v1"})) as outside:
        found, _ = desk.results(line("a", outside), request("b"))
    assert found["response"] is None
    assert inside.asked == []


def test_without_the_right_there_are_no_addresses(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, model: Callable[..., Served]
) -> None:
    monkeypatch.setenv("WORDMILL_BATCH_URLS", "admins")
    desk: Desk = request.getfixturevalue("desk")
    served = model("You should not see this.")
    good, bad = desk.results(line("a"), line("b", served))
    assert (good["error"], bad["error"]["code"]) == (None, "url_refused")
    told = desk.order(line("a"), url=f"{served.url}/v1")
    assert told.status_code == 403
    assert served.asked == []


def test_a_batch_names_few_servers(desk: Desk, model: Callable[..., Served]) -> None:
    served = model("Good day.")
    lines = [line(f"r{n}", served) for n in range(18)]
    for number, one in enumerate(lines):
        one["body"]["model"] = f"m{number}"
    found = desk.results(*lines)
    assert [one["error"] is None for one in found] == [True] * 16 + [False] * 2
    assert found[-1]["error"]["code"] == "too_many_urls"


# Ends ---------------------------------------------------------------------------------------


def test_a_cancelled_batch_has_one_record_for_each_line(desk: Desk) -> None:
    asked = []

    def answer(one: Asked) -> Told:
        asked.append(one)
        time.sleep(0.05)
        return completion("maybe")

    with serving(answer) as served:
        lines = [line(f"r{n}", served) for n in range(300)]
        for number, one in enumerate(lines):
            one["body"]["messages"][0]["content"] = f"{number}"
        check = {"choices": ["yes"], "tries": 10}
        batch = desk.order(*lines, validate=check).json()["id"]
        until(lambda: len(asked), lambda count: count > 320)
        desk.openai.batches.cancel(batch)
        done = ended(desk.openai, batch)
        assert done.status == "cancelled"
        found = desk.http.get(f"/api/batches/{batch}/results?limit=1000").json()["items"]
    assert [one["custom_id"] for one in found] == [f"r{n}" for n in range(300)]
    assert {one["error"]["code"] for one in found} <= {"batch_cancelled", "choice"}
