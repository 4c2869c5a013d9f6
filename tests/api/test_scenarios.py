"""What an OpenAI client may expect (tests/scenarios), of the rehearsal server and of the gateway.

The official client plays each scenario, sync and async, against both: what is promised of one is
promised of the other.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from jsonschema_rs import validator_for
from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.api.conftest import Server
from wordmill.models import checked

FOLDER = Path(__file__).parents[1] / "scenarios"
SCENARIOS = [
    pytest.param(one, id=one["scenario"])
    for file in sorted(FOLDER.glob("*.yaml"))
    for one in yaml.safe_load(file.read_text(encoding="utf-8"))
]
TARGETS = ("rehearsal", "gateway")


@pytest.fixture
def places(server: Server, rehearse: Callable[..., Any]) -> dict[str, dict[str, str]]:
    """The same server, reached directly and through the gateway, which knows it as `mock`."""
    url = f"http://127.0.0.1:{rehearse().port}/v1"
    server.house.catalog.add(checked({"name": "mock", "model": "mock", "base_url": url}))
    return {
        "rehearsal": {"base_url": url, "api_key": "none"},
        "gateway": {"base_url": f"{server.url}/v1", "api_key": server.keys["bob"]},
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_goes_the_same_way_everywhere(
    scenario: dict[str, Any], places: dict[str, dict[str, str]]
) -> None:
    for target in [scenario["only"]] if "only" in scenario else TARGETS:
        with openai.OpenAI(**places[target], max_retries=0) as client:
            play(scenario, target, lambda step, client=client: sync(client, step))

        async def in_a_loop(target: str = target) -> None:
            async with openai.AsyncOpenAI(**places[target], max_retries=0) as client:
                for step, kept in steps(scenario):
                    judge(step, kept, target, *await tried_async(client, step))

        asyncio.run(in_a_loop())


Step = dict[str, Any]


def steps(scenario: dict[str, Any]) -> Iterator[tuple[Step, dict[str, Any]]]:
    kept: dict[str, Any] = {}
    for step in scenario["steps"]:
        yield step, kept


def play(scenario: dict[str, Any], target: str, act: Callable[[Step], dict[str, Any]]) -> None:
    for step, kept in steps(scenario):
        try:
            judge(step, kept, target, act(step), None)
        except openai.APIError as error:
            judge(step, kept, target, None, error)


async def tried_async(
    client: openai.AsyncOpenAI, step: Step
) -> tuple[dict[str, Any] | None, openai.APIError | None]:
    try:
        found = method(client, step)(**step.get("with", {}))
        if inspect.isawaitable(found):
            found = await found
        if hasattr(found, "__aiter__") and step.get("with", {}).get("stream"):
            return joined([piece async for piece in found]), None
        return plain(found), None
    except openai.APIError as error:
        return None, error


def sync(client: openai.OpenAI, step: Step) -> dict[str, Any]:
    found = method(client, step)(**step.get("with", {}))
    return joined(list(found)) if step.get("with", {}).get("stream") else plain(found)


def method(client: Any, step: Step) -> Callable[..., Any]:
    for name in step["call"].split("."):
        client = getattr(client, name)
    found: Callable[..., Any] = client
    return found


def plain(answer: Any) -> dict[str, Any]:
    made: dict[str, Any] = answer.model_dump()
    if hasattr(answer, "output_text"):
        made["output_text"] = answer.output_text
    return made


def joined(pieces: list[Any]) -> dict[str, Any]:
    """A stream as if it had come whole, with what can only be seen of a stream."""
    if hasattr(pieces[0], "sequence_number"):
        deltas = [one.delta for one in pieces if one.type == "response.output_text.delta"]
        return {
            **plain(pieces[-1].response),
            "events": [one.type for one in pieces],
            "deltas": "".join(deltas),
            "numbered": [one.sequence_number for one in pieces] == list(range(len(pieces))),
        }
    state = ChatCompletionStreamState()
    for piece in pieces:
        state.handle_chunk(piece)
    whole = state.current_completion_snapshot.model_dump()
    last = pieces[-1].model_dump()
    return {
        **whole,
        "object": last["object"],
        "usage": last["usage"],
        "ids": sorted({one.id for one in pieces}),
    }


def judge(
    step: Step,
    kept: dict[str, Any],
    target: str,
    found: dict[str, Any] | None,
    error: openai.APIError | None,
) -> None:
    where = f"{target}: {step['call']} with {step.get('with')}"
    if "raises" in step:
        assert error is not None, f"{where} did not fail"
        wanted = dict(step["raises"])
        assert type(error).__name__ == wanted.pop("error"), f"{where}: {error!r}"
        if "says" in wanted:
            assert wanted.pop("says") in str(error), where
        if "status" in wanted:
            assert getattr(error, "status_code", None) == wanted.pop("status"), where
        assert {name: getattr(error, name) for name in wanted} == wanted, where
        return
    assert error is None, f"{where}: {error!r}"
    assert found is not None
    for path, wanted in step.get("gives", {}).items():
        value = at(found, path)
        assert holds(value, wanted, kept), f"{where}: {path} is {value!r}, not {wanted!r}"
    for path, name in step.get("keeps", {}).items():
        kept[name] = at(found, path)


def at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | float),
    "list": lambda value: isinstance(value, list),
    "nothing": lambda value: value is None,
}
RULES: dict[str, Callable[[Any, Any, dict[str, Any]], bool]] = {
    "above": lambda value, wanted, _: value > wanted,
    "matches": lambda value, wanted, _: re.search(wanted, value) is not None,
    "length": lambda value, wanted, _: len(value) == wanted,
    "same": lambda value, wanted, kept: value == kept[wanted],
    "other": lambda value, wanted, kept: value != kept[wanted],
    "is": lambda value, wanted, _: KINDS[wanted](value),
    "valid": lambda value, wanted, _: validator_for(wanted).is_valid(json.loads(value)),
}


def holds(value: Any, wanted: Any, kept: dict[str, Any]) -> bool:
    if isinstance(wanted, dict) and set(wanted) <= set(RULES):
        return all(RULES[rule](value, one, kept) for rule, one in wanted.items())
    return bool(value == wanted)
