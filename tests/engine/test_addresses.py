"""Lanes whose address a stranger chose: only what is public is asked, at the very connection."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.imperfect import Served, Told, completion, serving
from wordmill._engine import Engine


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Served]:
    with serving(lambda _: completion("Hello.")) as served:
        yield served


def ask(url: str, **lane: Any) -> tuple[str | None, str, str]:
    """The kind of error, its words and the text of one request."""
    lanes = [{"name": "m", "base_url": url, "model": "m", "public": True, **lane}]
    engine = Engine(json.dumps({"owner": "ann", "lanes": lanes}))
    try:
        body = b'{"messages":[{"role":"user","content":"Hello"}]}'
        assert engine.submit_bodies("m", "/chat/completions", [1], [body], [0], 5.0) == 1
        done = engine.poll(1, 30.0)
        return done.errors[0], done.details[0], done.texts[0]
    finally:
        engine.close()


def test_a_name_is_judged_by_where_it_leads(server: Served) -> None:
    url = server.url.replace("127.0.0.1", "localhost") + "/v1"
    kind, words, _ = ask(url, attempts=6)
    assert kind == "rejected"
    assert words.startswith("the address localhost leads to ")
    assert words.endswith("which is not public: an admin allows hosts by the setting private_hosts")
    assert server.asked == []
    assert ask(url, allowed=["LOCALHOST."]) == (None, "", "Hello.")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0"])
def test_other_ways_to_write_an_address_are_looked_up(server: Served, host: str) -> None:
    assert ask(server.url.replace("127.0.0.1", host))[0] in ("rejected", "connect")
    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"])
def test_an_address_is_judged_before_anything_starts(server: Served, host: str) -> None:
    with pytest.raises(Exception, match="is not public"):
        ask(server.url.replace("127.0.0.1", host))
    assert ask(f"{server.url}/v1", allowed=["127.0.0.1"])[2] == "Hello."


def test_a_proxy_would_hide_it(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with pytest.raises(Exception, match="through a proxy, which hides where it leads"):
        ask("http://models.example.org/v1")
    assert server.asked == []


def test_redirects_are_not_followed(server: Served) -> None:
    with serving(lambda _: Told(307, {}, {"Location": server.url})) as first:
        kind, _, _ = ask(f"{first.url}/v1", allowed=["127.0.0.1"], attempts=1)
    assert kind is not None
    assert server.asked == []


def test_other_lanes_ask_as_before(server: Served) -> None:
    assert ask(f"{server.url}/v1", public=False)[2] == "Hello."
