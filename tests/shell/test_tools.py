"""Calls of tools in the shell: shown, asked about, and gone on from."""

import json
import sys

import pytest

from tests.shell.test_chat import CTRL_C, CTRL_D, ENTER
from wordmill.channels.house import open_house
from wordmill.settings import load

pytest.importorskip("mcp")

CALCULATOR = """
from mcp.server import MCPServer
server = MCPServer("calculator")
@server.tool()
def add(a: int, b: int) -> int:
    "The sum."
    return a + b
server.run()
"""


def calls_then_answers(body):
    """A model that calls the tool, and says what came of it."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        yield f"The tool said: {last['content']}"
    elif body.get("tools"):
        yield "Let me see."
        function = {
            "name": body["tools"][0]["function"]["name"],
            "arguments": json.dumps({"a": 40, "b": 2}),
        }
        yield {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}
    else:
        yield "No tools."


@pytest.fixture
def calculator(model, tmp_path, monkeypatch):
    (tmp_path / "calculator.py").write_text(CALCULATOR)
    monkeypatch.chdir(tmp_path)
    with open_house(load()) as house:
        house.chat.tools.add(
            house.accounts.people.local(), "calculator", "stdio", sys.executable,
            arguments=[str(tmp_path / "calculator.py")],
        )  # fmt: skip
    model.say = calls_then_answers


@pytest.mark.parametrize("yes", [True, False])
def test_a_call_is_asked_about(sit, model, calculator, yes):
    terminal = sit(rows=40)
    terminal.type("/tools calculator" + ENTER)
    terminal.wait("calculator (used here)")
    terminal.type("What is it?" + ENTER)
    terminal.wait("[y/N]")
    assert "The model wants to call add of calculator:" in terminal.text
    assert '"a": 40' in terminal.text
    assert "Let me see." in terminal.text
    terminal.type(("y" if yes else "n") + ENTER)
    terminal.wait("The tool said: 42" if yes else "The tool said: This call was not allowed")
    terminal.wait("tokens in")
    terminal.type("/tools none" + ENTER)
    terminal.until(lambda text: text.count("(used here)") == 1, "no tools")
    terminal.type("And now?" + ENTER)
    terminal.wait("No tools.")


def test_ctrl_c_is_no_yes(sit, model, calculator):
    terminal = sit(rows=40)
    terminal.type("/tools calculator" + ENTER)
    terminal.wait("calculator (used here)")
    terminal.type("What is it?" + ENTER)
    terminal.wait("[y/N]")
    terminal.type(CTRL_C)
    terminal.wait("The tool said: This call was not allowed")
    terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0


def test_a_pipe_can_say_no_yes(sit, ask, model, calculator):
    terminal = sit(rows=40)
    terminal.type("/tools calculator" + ENTER)
    terminal.wait("calculator (used here)")
    terminal.type("What is it?" + ENTER)
    terminal.wait("[y/N]")
    terminal.type("n" + ENTER)
    terminal.wait("tokens in")
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    done = ask("-c", "Once more.")
    assert done.returncode == 0, done.stderr
    assert b"needs a yes, in `wordmill chat`: declined." in done.stderr
    assert done.stdout.startswith(b"Let me see.\nThe tool said: This call was not allowed")
