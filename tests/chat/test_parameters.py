"""How a model is asked to write: typed, ranged, each value with where it comes from."""

import math

import pytest
from sqlalchemy import delete

from tests.chat.talk import Talk
from wordmill.chat.parameters import MODES, PARAMETERS, Parameters
from wordmill.database import person_models
from wordmill.errors import InvalidInput, UnknownName
from wordmill.models import checked


@pytest.fixture
def parameters(house, model) -> Parameters:
    """With the models `mock`, `other` and `hosted`, which is OpenAI's own."""
    house.catalog.add(checked({"name": "other", "base_url": model.url, "model": "mock-2"}))
    house.catalog.add(checked({"name": "hosted", "provider": "openai", "model": "gpt-4o"}))
    return house.chat.parameters


def test_they_are_of_the_person_and_the_model_and_survive_switching_back(house, me, parameters):
    house.accounts.people.create(me, "ada@example.org", "Ada", "correct horse 7", "admin")
    ben = house.accounts.people.create(me, "ben@example.org", "Ben", "correct horse 7")
    parameters.set(me, "mock", "temperature", 0.25)
    parameters.set_mode(me, "mock", "sampling")
    parameters.set(me, "mock", "max_tokens", 99)
    parameters.set(me, "other", "temperature", 1.5)
    assert parameters.effective(me, "other")["temperature"] == 1.5
    assert parameters.effective(me, "mock") == {
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 99,
    }  # fmt: skip
    assert parameters.effective(ben, "mock") == {"top_k": 50, "top_p": 0.95}
    parameters.set(ben, "mock", "seed", 7)
    assert "seed" not in parameters.effective(me, "mock")


def test_they_are_sent_and_those_of_a_conversation_come_before(house, me, parameters, model):
    here, there = Talk.begun(house, me), Talk.begun(house, me)
    parameters.set(me, "mock", "temperature", 0.25)
    parameters.set(me, "mock", "stop", "END|FINIS")
    house.chat.set_here(me, here.id, "temperature", 0.75)
    here.say("Hello?")
    there.say("Hello?")
    assert [body["temperature"] for body in model.asked] == [0.75, 0.25]
    assert model.asked[0]["stop"] == ["END", "FINIS"]
    assert house.chat.set_here(me, here.id, "temperature", None) == (0.75, 0.25)
    here.say("And now?")
    assert model.asked[-1]["temperature"] == 0.25


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_replaces_the_one_before_whole(house, me, parameters, mode):
    # A provider that is ours can do all of them.
    for before in MODES:
        parameters.set_mode(me, "rehearsal", before)
        parameters.set(me, "rehearsal", "temperature", 0.3)
        parameters.set(me, "rehearsal", "max_tokens", 5)
        assert parameters.set_mode(me, "rehearsal", mode) == before
        assert parameters.effective(me, "rehearsal") == {**MODES[mode], "max_tokens": 5}
        assert parameters.mode(me, "rehearsal") == mode


def test_the_modes_that_are_promised_and_the_default(me, parameters):
    promised = {"greedy", "beam-search", "sampling", "top-k", "top-p", "top-k+top-p"}
    assert promised <= set(parameters.modes())
    assert parameters.mode(me, "mock") == "top-k+top-p"
    assert parameters.effective(me, "mock") == {"top_k": 50, "top_p": 0.95}
    assert parameters.mode(me, "hosted") == "own"  # OpenAI knows no top_k
    assert parameters.effective(me, "hosted") == {}


@pytest.mark.parametrize(
    ("name", "mode", "lacks"),
    [
        ("mock", "beam-search", "num_beams"),
        ("hosted", "beam-search", "num_beams"),
        ("hosted", "top-k", "top_k"),
        ("hosted", "top-k+top-p", "top_k"),
    ],
)
def test_a_mode_that_a_provider_cannot_do_is_refused_by_name(me, parameters, name, mode, lacks):
    before = parameters.effective(me, name)
    with pytest.raises(InvalidInput) as caught:
        parameters.set_mode(me, name, mode)
    assert str(caught.value) == (
        f"The model {name!r} cannot do the mode {mode}: its provider openai knows no {lacks}."
    )
    assert parameters.effective(me, name) == before
    parameters.set_mode(me, "hosted", "top-p")  # that all words may be chosen from needs no saying
    assert parameters.effective(me, "hosted") == {"top_p": 0.95}


def test_a_value_that_a_provider_cannot_do_is_refused_by_name(house, me, parameters, model):
    with pytest.raises(InvalidInput, match="'hosted' cannot do top_k: its provider openai knows"):
        parameters.set(me, "hosted", "top_k", 5)
    blunt = {"name": "blunt", "base_url": model.url, "model": "x", "without": ["temperature"]}
    house.catalog.add(checked(blunt))
    with pytest.raises(InvalidInput, match="'blunt' cannot do temperature"):
        parameters.set(me, "blunt", "temperature", 1)


RANGED = [one for one in PARAMETERS.values() if one.kind in ("number", "integer")]


@pytest.mark.parametrize("parameter", RANGED, ids=lambda one: one.name)
def test_a_number_is_refused_with_its_range(me, parameters, parameter):
    for good in (parameter.low, parameter.high):
        parameters.set(me, "rehearsal", parameter.name, good)
        parameters.set(me, "rehearsal", parameter.name, f" {good:.16g} ")
        assert parameters.effective(me, "rehearsal")[parameter.name] == good
    bad = [parameter.low - 1, parameter.high + 1, math.nan, math.inf, "much", True, [], {}]
    if parameter.kind == "integer":
        bad.append(parameter.low + 0.5)
    for value in bad:
        with pytest.raises(InvalidInput) as caught:
            parameters.set(me, "rehearsal", parameter.name, value)
        assert str(caught.value) == (
            f"{parameter.name} is {parameter.range}, not {str(value)[:80]!r}."
        )
        assert caught.value.field == parameter.name
    assert f"from {parameter.low:g} to {parameter.high:g}" in parameter.range


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("reasoning_effort", "huge", "reasoning_effort is one of none, minimal, low, medium, high"),
        ("stop", "a|b|c|d|e", "stop is up to 4 texts of at most 200 characters"),
        ("stop", "", "stop is up to 4 texts"),
    ],
)
def test_a_text_is_refused_with_what_it_may_be(me, parameters, name, value, words):
    with pytest.raises(InvalidInput, match=words.replace("|", r"\|")):
        parameters.set(me, "mock", name, value)


def test_an_unknown_name_is_answered_with_the_nearest(house, me, parameters):
    with pytest.raises(
        UnknownName, match=r"no parameter 'temprature'\. Did you mean 'temperature'"
    ):
        parameters.set(me, "mock", "temprature", 1)
    with pytest.raises(UnknownName, match="Did you mean 'mock'"):
        parameters.set(me, "mokc", "temperature", 1)
    parameters.set(me, "mock", "top-p", 0.5)
    assert parameters.effective(me, "mock")["top_p"] == 0.5


def test_the_view_says_where_each_value_comes_from(house, me, parameters):
    talk = Talk.begun(house, me)

    def origins(**options) -> dict[str, tuple[object, str]]:
        shown = parameters.view(me, "mock", **options)
        assert [one.name for one in shown] == parameters.names()
        return {one.name: (one.value, one.origin) for one in shown}

    found = origins()
    assert found["temperature"] == (None, "the model's default")
    assert found["top_k"] == (50, "the mode top-k+top-p, the default")
    parameters.set_mode(me, "mock", "top-k")
    parameters.set(me, "mock", "temperature", 0.25)
    house.chat.set_here(me, talk.id, "seed", 7)
    found = origins(conversation=house.conversations.get(me, talk.id))
    assert found["top_k"] == (50, "the mode top-k")
    assert found["temperature"] == (0.25, "you, with this model")
    assert found["seed"] == (7, "this conversation")
    assert found["max_tokens"] == (None, "the model's default")
    assert parameters.set(me, "mock", "temperature", None) == (0.25, None)
    assert origins()["temperature"] == (None, "the model's default")


def test_what_the_database_holds_of_an_older_time_does_no_harm(house, me, parameters):
    parameters.set(me, "mock", "temperature", 1)
    with house.database.begin() as connection:
        connection.execute(person_models.update().values(mode="psychic", settings={"mood": 3}))
    assert parameters.mode(me, "mock") == "top-k+top-p"
    assert parameters.effective(me, "mock") == {"top_k": 50, "top_p": 0.95}
    with house.database.begin() as connection:
        connection.execute(delete(person_models))
    assert parameters.effective(me, "mock") == {"top_k": 50, "top_p": 0.95}
