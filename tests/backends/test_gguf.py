"""llama.cpp against what every engine must do, and what only it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backends import reference
from tests.backends.contract import Contract, Models, answers
from tests.servers import tiny_gguf
from wordmill.backends import gguf
from wordmill.backends.base import Options, Sampling
from wordmill.errors import ConfigError


@pytest.fixture(scope="module")
def kept(
    keeping: Callable[..., Any],
    plain: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Models:
    place = tmp_path_factory.mktemp("gguf")

    def file(family: str) -> Path:
        return tiny_gguf.write(plain(family), place / f"{family}.gguf")

    models: Models = keeping(gguf.load, file)
    return models


class TestGguf(Contract):
    families = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gpt2")

    @pytest.fixture
    def models(self, kept: Models) -> Models:
        return kept

    def tokens(self, engine: Any, way: Sampling) -> list[list[int]]:
        """llama.cpp tells text; of the tokens that made it, it tells on a path of its own.

        One prompt after another: its sums depend on who else is in a step, and so the choice
        between tokens that are nearly equal.
        """
        return [self._told(engine, prompt, way) for prompt in reference.prompts()]

    def _told(self, engine: Any, prompt: list[int], way: Sampling) -> list[int]:
        made = answers(engine, {1: (prompt, way)})[1]
        assert made.count == way.max_tokens
        body = {**gguf.body(prompt, way), "stream": False, "return_tokens": True}
        told = engine.words.ask("POST", "/completion", {**body, "n_predict": way.max_tokens})
        assert told["content"].startswith(made.text)
        tokens: list[int] = told["tokens"]
        return tokens


def test_a_file_that_is_cut_short_is_said(plain: Callable[[str], Path], tmp_path: Path) -> None:
    whole = tiny_gguf.write(plain("llama"), tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"llama\.cpp cannot load .*cut\.gguf"):
        gguf.load(cut, Options())


def test_a_folder_without_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs one \*\.gguf file; .* holds none"):
        gguf.load(tmp_path, Options())


def test_answers_that_do_not_fit_together_wait_for_each_other(
    plain: Callable[[str], Path], tmp_path: Path
) -> None:
    """Else llama.cpp ends all of them: its context size has been exceeded."""
    file = tiny_gguf.write(plain("llama"), tmp_path / "llama.gguf")
    engine = gguf.load(file, Options(cache_tokens=512, threads=1))
    try:
        prompt = list(range(20, 60))
        bounded = Sampling(max_tokens=60, temperature=0)
        made = answers(engine, dict.fromkeys(range(1, 13), (prompt, bounded)))
        assert {(one.count, one.finish) for one in made.values()} == {(60, "length")}
        # Long ones have a share of the room each, and what nobody else takes.
        long = Sampling(max_tokens=470, temperature=0)
        made = answers(engine, dict.fromkeys(range(20, 24), (prompt, long)))
        assert {one.finish for one in made.values()} == {"length"}
        assert min(one.count for one in made.values()) >= 512 // 8
        assert made[20].count == 470
    finally:
        engine.close()
