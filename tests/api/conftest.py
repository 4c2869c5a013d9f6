"""A real server on a real socket, and two people with keys."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.channels.api.app import make_app
from wordmill.channels.house import House, open_house
from wordmill.settings import load

ALL = ("chat", "runs", "read", "admin")
PASSWORD = "correct horse battery staple"


@dataclass
class Server:
    """The address, the house behind it, and keys: of ann (an admin), bob and cem (members)."""

    url: str
    house: House
    people: dict[str, Person]
    keys: dict[str, str]

    def client(self, who: str | None = "ann") -> httpx.Client:
        headers = {"authorization": f"Bearer {self.keys[who]}"} if who else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)


@pytest.fixture
def server() -> Iterator[Server]:
    with open_house(load()) as house:
        create = house.accounts.people.create
        people = {"ann": create(LOCAL_PERSON, "ann@example.org", "Ann", PASSWORD, "admin")}
        for name in ("bob", "cem"):
            people[name] = create(people["ann"], f"{name}@example.org", name, PASSWORD, "member")
        keys = {
            name: house.accounts.keys.create(
                person, "test", ALL if name == "ann" else ("chat", "runs", "read")
            )[1]
            for name, person in people.items()
        }
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        app = uvicorn.Server(uvicorn.Config(make_app(house), log_config=None))
        thread = threading.Thread(target=app.run, kwargs={"sockets": [listener]})
        thread.start()
        while not app.started:
            time.sleep(0.01)
        yield Server(f"http://127.0.0.1:{port}", house, people, keys)
        app.should_exit = True
        thread.join()
        listener.close()
