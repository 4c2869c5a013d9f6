"""llama.cpp against what every engine must do, and what only it does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends import reference
from tests.backends.contract import GREEDY, LONG, WINDOW, Contract, Models, answers, drawn, one
from tests.servers import tiny_gguf, tiny_models
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


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gguf.Gguf]:
    place = tmp_path_factory.mktemp("long")
    shape = replace(tiny_models.TINY, context=WINDOW)
    model = tiny_models.build(place / "llama", "llama", shape=shape)
    engine = gguf.load(tiny_gguf.write(model, place / "llama.gguf"), LONG)
    yield engine
    engine.close()


class TestGguf(Contract):
    families = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gpt2")

    @pytest.fixture
    def models(self, kept: Models) -> Models:
        return kept

    @pytest.fixture
    def long(self, long: gguf.Gguf) -> gguf.Gguf:
        return long

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


def test_answers_that_do_not_fit_together_wait_for_each_other(tmp_path: Path) -> None:
    """Else llama.cpp ends all of them: its context size has been exceeded.

    The model is slower than the tiny ones, so that this process hears of its tokens in time while
    others have the processor, as it does of a true one's.
    """
    shape = tiny_models.Shape(8, 256, 4, 4, 768, 512, 512)
    model = tiny_models.build(tmp_path / "llama", shape=shape)
    file = tiny_gguf.write(model, tmp_path / "llama.gguf")
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


def test_what_an_earlier_prompt_began_with_is_not_read_again(long: gguf.Gguf) -> None:
    prompt = drawn(3000, 3)
    other = prompt[:2000] + drawn(200, 4)
    for asked, cached in ((prompt, 0), (prompt, 2999), (other, 2000), (prompt, 2000)):
        made = one(long, asked, GREEDY)
        assert made.pieces[-1].cached is not None
        assert made.pieces[-1].cached >= cached
        assert made.count == GREEDY.max_tokens
        # A seed asks for the same answer each time, and so for a prompt that is read anew.
        anew = one(long, asked, replace(GREEDY, seed=1))
        assert anew.pieces[-1].cached == 0
        assert anew.text == made.text


def test_prompts_that_no_slot_holds_any_more_are_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 GiB, as llama.cpp has it by itself, no estimate of a model's memory knows."""
    import xllamacpp

    told = []

    def server(parameters: Any) -> None:
        told.append((parameters.cache_ram_mib, parameters.n_batch))
        raise RuntimeError("seen")

    monkeypatch.setattr(xllamacpp, "Server", server)
    file = tmp_path / "one.gguf"
    file.touch()
    for options in (Options(), Options(kept_bytes=40 << 20, batch_tokens=128)):
        with pytest.raises(ConfigError, match="seen"):
            gguf.load(file, options)
    assert told == [(256, 512), (40, 128)]


def test_an_answer_gets_its_tokens_between_the_pieces_of_a_prompt(
    long: gguf.Gguf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp itself tells how far it is: threads hand the pieces over when they can."""
    body, read = gguf.body, gguf._Request.read
    came: list[tuple[int, int | None]] = []

    def asked(*given: Any) -> dict[str, Any]:
        return {**body(*given), "return_progress": True}

    def heard(request: gguf._Request, told: Mapping[str, Any]) -> Any:
        came.append((request.number, told.get("prompt_progress", {}).get("processed")))
        return read(request, told)

    monkeypatch.setattr(gguf, "body", asked)
    monkeypatch.setattr(gguf._Request, "read", heard)
    long.submit(201, drawn(20, 5), replace(GREEDY, max_tokens=4000))
    while not any(piece.count for piece in long.step()):
        pass
    long.submit(202, drawn(4000, 6), GREEDY)
    while not any(piece.count for piece in long.step() if piece.request == 202):
        pass
    for request in (201, 202):
        long.cancel(request)
    steps = [at for number, at in came if number == 202 and at is not None]
    assert len(steps) > 4000 // LONG.batch_tokens - 2
    begun, over = came.index((202, steps[0])), came.index((202, steps[-1]))
    assert sum(number == 201 for number, _ in came[begun:over]) >= len(steps) // 2
