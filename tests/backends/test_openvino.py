"""OpenVINO against what every engine must do, and what only it does."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.backends import reference
from tests.backends.contract import (
    EXACT,
    GREEDY,
    LONG,
    WINDOW,
    Answer,
    Contract,
    Models,
    drawn,
    one,
)
from wordmill.backends import openvino
from wordmill.backends.base import Options
from wordmill.errors import ConfigError, InvalidInput


@pytest.fixture(scope="module")
def kept(keeping: Callable[..., Any], converted: Path) -> Models:
    models: Models = keeping(openvino.load, lambda family: converted / family)
    return models


@pytest.fixture(scope="module")
def longer(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(converted / "llama", tmp_path_factory.mktemp("long") / "llama")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = WINDOW
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def long(longer: Path) -> Iterator[openvino.OpenVino]:
    engine = openvino.load(longer, LONG)
    yield engine
    engine.close()


class TestOpenVino(Contract):
    # The converter takes GPT-2 with an older transformers than the one it asks for itself.
    families = ("llama", "qwen2", "qwen3", "mistral", "gemma")

    @pytest.fixture
    def models(self, kept: Models) -> Models:
        return kept

    @pytest.fixture
    def long(self, long: openvino.OpenVino) -> openvino.OpenVino:
        return long


def test_a_folder_that_is_not_converted_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has no openvino_model\.xml: it is not in OpenVINO's"):
        openvino.load(tmp_path, Options())


def test_a_longer_context_is_there_for_those_who_ask_for_it(
    converted: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(converted / "llama", tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40_000}))
    for asked, given in ((0, 16_384), (100, 100), (32_768, 32_768), (50_000, 40_000)):
        engine = openvino.load(folder, Options(context=asked, threads=1))
        assert engine.facts.context == given
        engine.close()


def test_tokens_that_the_model_does_not_know_are_refused(kept: Models) -> None:
    engine = kept("llama", EXACT)
    for token in (-1, 512, 2**70):
        with pytest.raises(InvalidInput, match="A token of the prompt is not below 512"):
            engine.submit(1, [1, token], GREEDY)


def test_vectors_have_the_length_one_and_like_texts_are_near(converted: Path) -> None:
    engine = openvino.load(converted / "bert", EXACT)
    vectors, tokens = engine.embed(["The mill grinds.", "The mill grinds.", "0 1 2 3 4"])
    assert tokens > 6
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-4)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[2], abs=1e-2)
    with pytest.raises(InvalidInput, match="This model is for embeddings, not for chat"):
        engine.submit(1, [1], GREEDY)


def test_a_model_that_ranks_is_sent_to_the_engine_that_can(converted: Path) -> None:
    with pytest.raises(ConfigError, match="ranks documents, which this engine cannot"):
        openvino.load(converted / "bert-ranker", EXACT)


def test_a_long_prompt_is_read_in_pieces(kept: Models) -> None:
    engine = kept("llama", replace(EXACT, batch_tokens=32))
    made = one(engine, reference.prompts()[3], GREEDY)
    assert made.tokens == reference.rows()["llama"]["greedy"][3]


class Counted:
    """An engine, and the steps that it has made."""

    def __init__(self, engine: openvino.OpenVino) -> None:
        self.engine, self.words, self.submit, self.steps = engine, engine.words, engine.submit, 0

    def step(self) -> Any:
        self.steps += 1
        return self.engine.step()

    def ask(self, prompt: list[int]) -> tuple[Answer, int]:
        """The answer, and the steps until its first token."""
        self.steps = 0
        made = one(cast(Any, self), prompt, GREEDY)
        return made, self.steps - made.count + 1


def test_what_an_earlier_prompt_began_with_is_not_read_again(longer: Path) -> None:
    """OpenVINO does not tell how much it has kept: the steps tell, of 128 tokens each."""
    prompt = drawn(3000, 3)
    other = prompt[:2000] + drawn(200, 4)
    engine, fresh = openvino.load(longer, LONG), openvino.load(longer, LONG)
    try:
        first, steps = Counted(engine).ask(prompt)
        assert steps == -(-3000 // 128)
        again, steps = Counted(engine).ask(prompt)
        assert steps == 1
        assert again.tokens == first.tokens
        begun, steps = Counted(engine).ask(other)
        assert steps <= 2
        anew, steps = Counted(fresh).ask(other)
        assert steps == -(-2200 // 128)
        assert begun.tokens == anew.tokens
    finally:
        engine.close()
        fresh.close()
