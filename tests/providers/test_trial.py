import re
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.imperfect import Asked, Told, completion, models, serving
from wordmill.models import checked
from wordmill.providers.base import Probe, Trial
from wordmill.providers.openai import OpenAI
from wordmill.settings import Settings
from wordmill.types import Usage

KEY = "sk-this-is-the-key-1234"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A_KEY", KEY)


def provider(url: str, **options: object) -> OpenAI:
    settings = Settings(home=Path("/nowhere"), first_byte_seconds=0.3, connect_seconds=2)
    return OpenAI(
        checked({"name": "mock", "base_url": url, "model": "mock-1", **options}), settings
    )


def tried(
    answer: Callable[[Asked], Told], path: str = "/v1", **options: object
) -> tuple[Trial, str]:
    """What `test` says of a server, and the server's address."""
    with serving(answer) as server:
        return provider(server.url + path, **options).test(), server.url


def probed(
    answer: Callable[[Asked], Told], path: str = "/v1", **options: object
) -> tuple[Probe, str]:
    with serving(answer) as server:
        return provider(server.url + path, **options).probe(), server.url


def chat(answer: Told, *offered: str) -> Callable[[Asked], Told]:
    """A server with both paths of the API, below /v1."""

    def respond(asked: Asked) -> Told:
        if asked.path == "/v1/chat/completions":
            return answer
        return models(*offered) if asked.path == "/v1/models" and offered else Told(404, {})

    return respond


def test_a_server_that_works() -> None:
    with serving(chat(completion("Hello there."))) as server:
        mock = provider(server.url + "/v1", key_env="A_KEY", headers={"X-Team": "${A_KEY}"})
        trial = mock.test()
    assert trial.passed
    assert trial.sentence == (
        f"mock works: mock-1 answered in {trial.seconds * 1000:.0f} ms, "
        "7 tokens in, 2 out: 'Hello there.'"
    )
    assert (trial.text, trial.usage) == ("Hello there.", Usage(7, 2))
    (asked,) = server.asked
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["x-team"] == KEY
    assert asked.body == {
        "model": "mock-1",
        "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
        "max_tokens": 64,
    }


PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (completion(usage="?"), "and does not count tokens: 'Hello.'"),
        (completion(PARTS), "7 tokens in, 2 out: 'Hello.'"),
        (completion(None), "7 tokens in, 2 out, all of them thought and none said"),
        (completion("x " * 300), "7 tokens in, 2 out: '" + "x " * 100 + "...'"),
        (completion(model=None), "7 tokens in, 2 out: 'Hello.'"),
    ],
)
def test_servers_that_are_not_quite_right_and_work(answer: Told, end: str) -> None:
    trial, _ = tried(chat(answer))
    assert trial.passed
    assert trial.sentence.startswith("mock works: mock-1 answered in ")
    assert trial.sentence.partition(" ms, ")[2] == end


def test_a_server_that_refuses_fields_gets_fewer() -> None:
    def respond(asked: Asked) -> Told:
        if "max_tokens" in asked.body:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model. "
            return Told(400, {"error": {"message": words + "Use 'max_completion_tokens' instead."}})
        return completion()

    with serving(respond) as server:
        trial = provider(server.url).test()
    assert trial.passed
    assert trial.degraded == (
        (
            "mock: the server refused `max_tokens`, so the run goes on without it (its words: "
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.)"
        ),
    )
    assert [sorted(body) for body in server.bodies] == [
        ["max_tokens", "messages", "model"],
        ["max_completion_tokens", "messages", "model"],
    ]


def test_nothing_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    mock = provider(f"http://127.0.0.1:{port}/v1")
    sentence = (
        f"Nothing answers at http://127.0.0.1:{port} (Connection refused). Start the server, or "
        "correct the address (`wordmill models add mock --replace ...`)."
    )
    assert mock.test() == Trial(False, sentence)
    assert mock.probe() == Probe(False, 0.0, (), sentence, False)


def test_no_such_host() -> None:
    trial = provider("http://api.nowhere.invalid/v1").test()
    assert trial.sentence.startswith("There is no host 'api.nowhere.invalid' (")
    assert trial.sentence.endswith("). Is it spelt right, and is there a network?")


def test_https_where_there_is_only_http() -> None:
    with serving(chat(completion())) as server:
        url = server.url.replace("http:", "https:")
        trial = provider(url).test()
    assert trial.sentence == (
        f"{url} does not speak TLS: try http:// instead of https://, or correct the address "
        "(`wordmill models add mock --replace ...`)."
    )


def test_a_server_that_is_slow() -> None:
    over = threading.Event()
    with serving(lambda _: Told() if over.wait(30) else Told(500)) as server:
        trial = provider(server.url).test()
        over.set()
    assert re.sub(r"\d\.\d s", "0.3 s", trial.sentence) == (
        f"{server.url} did not answer in time (nothing after 0.3 s). It may be loading the model: "
        "wait, or raise WORDMILL_FIRST_BYTE_SECONDS."
    )


def test_a_server_that_hangs_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        trial = provider(url).test()
        thread.join()
    assert trial.sentence.startswith(f"{url} broke the connection off (")


def test_a_key_that_is_refused() -> None:
    words = f"Incorrect API key provided: {KEY}. You can find your key at https://example.com."
    answer = Told(401, {"error": {"message": words, "code": "invalid_api_key"}})
    trial, url = tried(chat(answer), key_env="A_KEY")
    assert trial.sentence == (
        f"{url}/v1/chat/completions does not accept the key in A_KEY (401: Incorrect API key "
        "provided: ********. You can find your key at https://example.com.)."
    )
    probe, url = probed(lambda _: answer, key_env="A_KEY")
    assert (probe.reachable, probe.usable) == (True, False)
    assert probe.sentence.startswith(f"{url}/v1/models does not accept the key in A_KEY (401: ")


@pytest.mark.parametrize(
    ("status", "key_env", "sentence"),
    [
        (403, "A_KEY", "{url} does not allow this to the key in A_KEY (403: no)."),
        (402, "A_KEY", "{url} wants to be paid first (402: no)."),
        (429, None, "{url} is there, and has had enough of us for now (429: no)."),
        (500, None, "The server at {url} has a fault of its own (500: no)."),
        (400, None, "{url} refused the question (400: no)."),
        (418, None, "{url} refused the question (418: no)."),
    ],
)
def test_each_status_has_its_sentence(status: int, key_env: str | None, sentence: str) -> None:
    trial, url = tried(chat(Told(status, {"error": {"message": "no"}})), key_env=key_env)
    assert trial == Trial(
        False, sentence.format(url=url + "/v1/chat/completions"), seconds=trial.seconds
    )


def test_a_key_that_is_wanted() -> None:
    trial, url = tried(chat(Told(401, {"error": {"message": "no"}})))
    assert trial.sentence == (
        f"{url}/v1/chat/completions wants an API key (401: no), and 'mock' has none: store it "
        "with `wordmill models key mock`, or name the variable that holds it: `wordmill models add "
        f"mock --replace --base-url {url}/v1 --model mock-1 --key-env VARIABLE`."
    )


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY")
    mock = provider("http://127.0.0.1:1", key_env="A_KEY")
    sentence = (
        "No API key for the model 'mock': the variable A_KEY is not set. Set it, or store the key "
        "with `wordmill models key mock`."
    )
    assert mock.test() == Trial(False, sentence)
    assert mock.probe().sentence == sentence


@pytest.mark.parametrize(
    ("path", "found"), [("", "/v1"), ("/openai", "/openai/v1"), ("/v1", ""), ("/x", "/x/api/v1")]
)
def test_an_address_that_is_nearly_right(path: str, found: str) -> None:
    def respond(asked: Asked) -> Told:
        return models("mock-1") if asked.path == found + "/models" else Told(404, b"not found")

    better = "There is no API at {url}" + path + ", but there is one at {url}" + found
    better += ": `wordmill models add mock --replace --base-url {url}" + found + " ...`."
    trial, url = tried(respond, path)
    assert trial.sentence == better.format(url=url)
    probe, url = probed(respond, path)
    assert probe.sentence == better.format(url=url)
    assert not probe.usable


def test_an_address_of_something_else() -> None:
    trial, url = tried(lambda _: Told(404, b"<html>Not here</html>"), "/app")
    assert trial.sentence == (
        f"There is no {url}/app/chat/completions (404). Does the base URL end where the API "
        "begins, as in http://host:port/v1?"
    )


def test_a_page_instead_of_json() -> None:
    trial, url = tried(lambda _: Told(200, b"<!doctype html><title>Hello</title>"))
    assert trial.sentence == (
        f"{url}/v1/chat/completions answered with a web page: "
        "'<!doctype html><title>Hello</title>'. Is this the address of the API?"
    )
    trial, url = tried(lambda _: Told(200, b"OK"))
    assert trial.sentence == (
        f"{url}/v1/chat/completions answered with no JSON: 'OK'. Is this the address of the API?"
    )
    for body, what in ((b"[]", "a list"), (b'"OK"', "a single value")):
        trial, url = tried(lambda _, body=body: Told(200, body))
        assert trial.sentence.startswith(
            f"{url}/v1/chat/completions answered with JSON that is {what}, not an object: "
        )


def test_a_page_where_v1_is_missing() -> None:
    def respond(asked: Asked) -> Told:
        return models("m") if asked.path == "/v1/models" else Told(200, b"<html></html>")

    trial, url = tried(respond, "")
    assert trial.sentence.startswith(f"There is no API at {url}, but there is one at {url}/v1: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "overloaded"}}, ": overloaded"),
        ({"choices": []}, ': {"choices": []}'),
        ({"choices": [{"text": "x"}]}, ': {"choices": [{"text": "x"}]}'),
        ({"choices": 3}, ': {"choices": 3}'),
    ],
)
def test_json_of_another_kind(body: object, words: str) -> None:
    trial, url = tried(chat(Told(200, body)))
    assert trial.sentence == (
        f"{url}/v1/chat/completions answered with JSON that holds no choices of a chat "
        f"completion{words}."
    )


def test_a_redirect() -> None:
    trial, url = tried(lambda _: Told(308, {}, {"Location": "https://elsewhere/"}))
    assert trial.sentence == (
        f"{url}/v1/chat/completions redirects to https://elsewhere/, which we do not follow: give "
        "the address itself."
    )


NOT_FOUND = Told(404, {"error": {"message": "model 'mock-1' not found", "type": "not_found"}})


@pytest.mark.parametrize(
    ("offered", "end"),
    [
        (("mock-2", "other"), ". Did you mean 'mock-2'?"),
        (("models/mock-11",), ". Did you mean 'mock-11'?"),
        (("big/mock-1b", "z"), ". Did you mean 'big/mock-1b'?"),
        (("x", "y"), ". There are: x, y."),
    ],
)
def test_a_model_that_the_server_does_not_have(offered: tuple[str, ...], end: str) -> None:
    trial, _ = tried(chat(NOT_FOUND, *offered))
    assert trial.sentence == f"The server has no model 'mock-1'{end}"


def test_a_model_that_the_server_does_not_have_and_says_no_more() -> None:
    trial, _ = tried(chat(NOT_FOUND))
    assert trial.sentence == "The server knows no model 'mock-1' (model 'mock-1' not found)."
    coded = Told(400, {"error": {"message": "?", "code": "model_not_found"}})
    trial, _ = tried(chat(coded, "mock-3"))
    assert trial.sentence == "The server has no model 'mock-1'. Did you mean 'mock-3'?"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}, {"other": 1}, 3]}, ("a", "b")),
        ({"models": [{"name": "a"}, {"model": "b"}]}, ("a", "b")),
        (["a", "b"], ("a", "b")),
        ([{"id": "a"}], ("a",)),
        ({"data": {"a": 1}}, ()),
        ("a", ()),
    ],
)
def test_lists_of_models_in_every_shape(body: object, names: tuple[str, ...]) -> None:
    probe, _ = probed(lambda _: Told(200, body))
    assert probe.names == names
    assert probe.reachable
    assert probe.usable


def test_a_probe_says_what_it_found() -> None:
    probe, url = probed(chat(completion(), "mock-1", "mock-2"))
    host = url.removeprefix("http://")
    known = f"{host} answers in {probe.seconds * 1000:.0f} ms and offers 2 models"
    assert probe.sentence == f"{known}, 'mock-1' among them."
    probe, url = probed(chat(completion(), "mock-2"))
    assert probe.sentence.endswith(
        "offers 1 model, but none called 'mock-1'. Did you mean 'mock-2'?"
    )
    assert probe.usable


def test_a_probe_knows_the_other_names_of_a_model() -> None:
    for offered in ("models/mock-1", "mock-1:latest"):
        probe, _ = probed(chat(completion(), offered))
        assert probe.sentence.endswith("offers 1 model, 'mock-1' among them.")


def test_a_server_without_a_list() -> None:
    probe, url = probed(lambda _: Told(404, b"?"))
    assert probe == Probe(
        True,
        probe.seconds,
        (),
        f"{url.removeprefix('http://')} answers, but gives no list of models at {url}/v1/models "
        "(status 404).",
        True,
    )
    probe, _ = probed(lambda _: Told(200, {"data": []}))
    assert probe.sentence.endswith("(an empty list).")
