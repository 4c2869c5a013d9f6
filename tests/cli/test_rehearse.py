import json
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from subprocess import PIPE

import pytest

from tests.cli.conftest import Type
from tests.cli.typed import Typed
from wordmill._engine import Rehearsal
from wordmill.cli import rehearse as module

Serve = Callable[..., "Served"]


class Served:
    """`wordmill rehearse` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20)
        assert ready, "it says nothing"
        self.first = process.stdout.readline()
        (port,) = re.findall(r":(\d+)/v1", self.first)
        self.port = int(port)

    def ask(self, prompt: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        status = connection.getresponse().status
        connection.close()
        return status

    def stop(self, number: int = signal.SIGINT) -> Typed:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=10)
        return Typed(self.process.returncode, out, err)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*options: str) -> Served:
            command = [sys.executable, "-c", "from wordmill.cli import main; main()", "rehearse"]
            process = stack.enter_context(
                subprocess.Popen([*command, *options], stdout=PIPE, stderr=PIPE, text=True)
            )
            stack.callback(process.kill)
            return Served(process)

        yield start


def test_it_serves_until_ctrl_c_and_sums_up(serve: Serve) -> None:
    served = serve(
        "--latency", "10ms", "--errors", "500=50%, 429=0.0", "--limit", "8", "--seed", "3"
    )
    assert served.first == (
        f"The rehearsal model answers at http://127.0.0.1:{served.port}/v1 "
        "(after 10ms, 50% 500, no more than 8 at once, seed 3).\n"
    )
    statuses = [served.ask(f"hello {n}") for n in range(20)]
    failed = statuses.count(500)
    assert 0 < failed < 20
    assert served.stop() == Typed(
        0, f"20 requests: {20 - failed} answered, {failed} 500, at most 1 at once.\n", ""
    )


def test_it_ends_with_its_container(serve: Serve) -> None:
    served = serve()
    assert served.first.endswith("/v1 (at once, seed 0).\n")
    assert served.stop(signal.SIGTERM) == Typed(0, "No request came.\n", "")


def test_a_port_that_is_taken(serve: Serve, wordmill: Type) -> None:
    port = serve().port
    assert wordmill("rehearse", "--port", port) == Typed(
        2,
        "",
        f"error: Cannot listen on 127.0.0.1:{port}: Address already in use (os error 98). "
        "Choose another --port, or none for any free one.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--latency", "soon"),
            "--latency 'soon' is no time: write it as 200ms or 1.5s.",
        ),
        (
            ("--latency", "2h"),
            "A latency of 7200000 ms is not from 0 to one hour.",
        ),
        (
            ("--errors", "drop=1%,as-a-ai=1%"),
            "There is no fault 'as-a-ai'. Did you mean 'as-an-ai'?",
        ),
        (
            ("--errors", "drop"),
            "--errors 'drop': nothing says how often: write it as drop=2% or drop=0.02.",
        ),
        (
            ("--errors", "drop=often"),
            "--errors 'drop=often': 'often' is no share: write it as drop=2% or drop=0.02.",
        ),
        (
            ("--errors", "drop=2"),
            "--errors 'drop=2': a share is from 0% to 100% (or from 0 to 1).",
        ),
        (
            ("--errors", "drop=nan%"),
            "--errors 'drop=nan%': a share is from 0% to 100% (or from 0 to 1).",
        ),
        (
            ("--errors", "drop=1%,drop=2%"),
            "--errors names 'drop' twice: say once how often it happens.",
        ),
        (
            ("--errors", "drop=60%,500=60%"),
            "The fractions of the faults add up to 1.2, which is more than 1.",
        ),
    ],
)
def test_bad_values_get_a_sentence(wordmill: Type, arguments: tuple[str, ...], says: str) -> None:
    assert wordmill("rehearse", *arguments) == Typed(2, "", f"error: {says}\n")


@pytest.mark.parametrize("arguments", [("--limit", "0"), ("--port", "70000"), ("--seed", "-1")])
def test_values_out_of_their_range(wordmill: Type, arguments: tuple[str, str]) -> None:
    typed = wordmill("rehearse", *arguments)
    assert typed.code == 2
    assert f"Invalid value for '{arguments[0]}': {arguments[1]} is not in the range" in typed.err


def test_the_help_names_every_fault() -> None:
    text = " ".join((module.rehearse.help or "").split())
    assert f"Errors: {', '.join(Rehearsal.faults())}." in text
