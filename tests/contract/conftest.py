"""Two sizes of Wordmill: in one process, and over a database, a broker, an index and a consumer."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.servers import consumer, elasticsearch, postgres, rabbitmq
from wordmill import _engine
from wordmill.accounts import LOCAL_PERSON
from wordmill.channels.api.app import make_app
from wordmill.channels.house import House, open_house
from wordmill.providers.base import Model
from wordmill.settings import load

Json = dict[str, Any]
PASSWORD = "correct horse battery staple"
KEY = "sk-contract-" + "5" * 32
"""Of the provider. It is in the environment of whoever sends, and nowhere else."""
VARIABLE = "CONTRACT_KEY"


@dataclass
class Size:
    """A server of one size. environment: what its commands need."""

    name: str
    url: str
    house: House
    keys: dict[str, str]
    environment: dict[str, str]

    def client(self, who: str = "bob") -> httpx.Client:
        """Somebody's."""
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def provider() -> Iterator[_engine.Rehearsal]:
    """One for both sizes."""
    server = _engine.Rehearsal(json.dumps({"latency_ms": 2}))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sizes(
    provider: _engine.Rehearsal,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: postgres.Server,
    rabbitmq_server: rabbitmq.Server,
    elasticsearch_server: elasticsearch.Server,
) -> Iterator[tuple[Size, Size]]:
    """Embedded, and scaled out with one consumer."""
    small, large = tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("large")
    prefix = elasticsearch_server.new_prefix()
    scaled = {
        "database_url": postgres_server.new_database(),
        "broker_url": rabbitmq_server.url,
        "elasticsearch_url": elasticsearch_server.url,
        "elasticsearch_prefix": prefix,
    }
    with ExitStack() as stack:
        stack.enter_context(_variable(VARIABLE, KEY))
        embedded = stack.enter_context(_serving("embedded", small, {}, provider))
        spread = stack.enter_context(_serving("scaled out", large, scaled, provider))
        environment = {**spread.environment, VARIABLE: KEY}
        running = consumer.Consumer(environment, large / "consumer.log")
        stack.callback(running.kill)
        yield embedded, spread
    elasticsearch_server.wipe(prefix)
    postgres_server.drop_database(scaled["database_url"])


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _serving(
    name: str, home: Path, given: dict[str, str], provider: _engine.Rehearsal
) -> Iterator[Size]:
    settings = load({"home": str(home), **given})
    environment = {f"WORDMILL_{one.upper()}": value for one, value in given.items()}
    environment["WORDMILL_HOME"] = str(home)
    with open_house(settings) as house, socket.create_server(("127.0.0.1", 0)) as listener:
        create = house.accounts.people.create
        people = {"ann": create(LOCAL_PERSON, "ann@example.org", "Ann", PASSWORD, "admin")}
        for one in ("bob", "cem"):
            people[one] = create(people["ann"], f"{one}@example.org", one, PASSWORD, "member")
        keys = {
            one: house.accounts.keys.create(
                person, "test", (*("chat", "runs", "read"), *(("admin",) if one == "ann" else ()))
            )[1]
            for one, person in people.items()
        }
        _models(house, provider)
        app = uvicorn.Server(uvicorn.Config(make_app(house), log_config=None))
        thread = threading.Thread(target=app.run, kwargs={"sockets": [listener]})
        thread.start()
        while not app.started:
            time.sleep(0.01)
        yield Size(name, f"http://127.0.0.1:{listener.getsockname()[1]}", house, keys, environment)
        app.should_exit = True
        thread.join()


def _models(house: House, provider: _engine.Rehearsal) -> None:
    address = f"http://127.0.0.1:{provider.port}/v1"
    ann = house.accounts.people.local()
    house.add_model(
        ann,
        Model(
            name="mock", base_url=address, model="mock", key_env=VARIABLE, price_in=1.0,
            price_out=2.0, headers={"x-key": f"${{{VARIABLE}}}"},
        ),
    )  # fmt: skip
    house.add_model(ann, Model(name="stored", base_url=address, model="mock"), KEY)
    house.add_model(
        ann,
        Model(name="away", base_url="http://127.0.0.1:9/v1", model="mock", concurrency=8),
    )
    house.add_model(ann, Model(name="slow", base_url=address, model="mock", rpm=30))
