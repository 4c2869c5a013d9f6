"""A rehearsal server, and OpenAI's client of it."""

from collections.abc import Iterator

import openai
import pytest

from tests.rehearsal.asked import Rehearse, client_of
from wordmill._engine import Rehearsal


@pytest.fixture
def server(rehearse: Rehearse) -> Rehearsal:
    return rehearse()


@pytest.fixture
def client(server: Rehearsal) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client
