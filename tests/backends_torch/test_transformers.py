"""The engine of transformers against what every engine must do, and what only it does."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends import reference
from tests.backends.contract import (
    EXACT,
    GREEDY,
    LONG,
    WINDOW,
    Contract,
    Models,
    answers,
    one,
)
from tests.servers import tiny_models
from wordmill.backends import transformers
from wordmill.backends.base import Options, Sampling
from wordmill.backends.torch_choosing import Row, choose
from wordmill.errors import ConfigError


@pytest.fixture(scope="module")
def kept(keeping: Callable[..., Any], plain: Callable[[str], Path]) -> Models:
    models: Models = keeping(transformers.load, plain)
    return models


class TestTransformers(Contract):
    families = tiny_models.DECODERS

    @pytest.fixture
    def models(self, kept: Models) -> Models:
        return kept

    @pytest.fixture
    def long(self, tmp_path: Path) -> transformers.Transformers:
        shape = replace(tiny_models.TINY, context=WINDOW)
        return transformers.load(tiny_models.build(tmp_path, "llama", shape=shape), LONG)


def test_the_golden_rows_are_what_generate_says_today(plain: Callable[[str], Path]) -> None:
    for family in ("llama", "gpt2"):
        rows = reference.generate(plain(family))
        golden = reference.rows()[family]
        assert rows["greedy"] == golden["greedy"]
        assert rows["penalty"] == golden["penalty"]
        assert rows["beams"] == golden["beams"]


def test_answers_that_come_and_go_are_those_that_are_made_alone(kept: Models) -> None:
    """Rows join and leave between steps, in bands of other lengths, with little room."""
    engine = kept("llama", replace(EXACT, cache_tokens=700, batch_tokens=48))
    prompts = reference.prompts()
    golden = reference.rows()["llama"]["greedy"]
    made: dict[int, list[int]] = {}
    number = 0
    for _ in range(400):
        if number < 24:
            prompt = prompts[number % 4]
            engine.submit(number, prompt, replace(GREEDY, max_tokens=5 + number % 20))
            made[number] = []
            number += 1
        for piece in engine.step():
            made[piece.request] += piece.tokens
        if number == 24 and engine.cache_use() == 0:
            break
    for at, tokens in made.items():
        assert tokens == golden[at % 4][: 5 + at % 20], at


def test_a_row_that_is_not_a_number_ends_alone() -> None:
    rows = [Row(1, GREEDY, [1], 1), Row(2, GREEDY, [1], 1)]
    told = choose(torch.tensor([[0.0, 2.0], [float("nan"), 1.0]]), rows)
    assert told[0] is not None
    assert told[0].token == 1
    assert told[1] is None


def _shares(way: Sampling, logits: list[float]) -> list[float]:
    """How often each token is drawn, of many draws."""
    row = Row(1, replace(way, seed=11), [0], 1)
    drawn = [choose(torch.tensor([logits]), [row])[0] for _ in range(3000)]
    tokens = [each.token for each in drawn if each is not None]
    return [tokens.count(token) / 3000 for token in range(len(logits))]


@pytest.mark.parametrize(
    ("way", "kept_tokens"),
    [
        ({}, [0, 1, 2, 3]),
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.7}, [0, 1]),
        ({"top_k": 3, "top_p": 0.95}, [0, 1, 2]),
        ({"min_p": 0.4}, [0, 1]),
        ({"typical_p": 0.25}, [1]),
        ({"top_k": 3, "logit_bias": {0: -100.0}}, [1, 2, 3]),
    ],
)
def test_tokens_are_drawn_as_likely_as_they_are(way: Any, kept_tokens: list[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05])
    for token in way.get("logit_bias", {}):
        weights[token] = 0
    expected = torch.zeros(4)
    expected[kept_tokens] = weights[kept_tokens] / weights[kept_tokens].sum()
    shares = _shares(Sampling(max_tokens=1, temperature=1.0, **way), logits.tolist())
    assert shares == pytest.approx(expected.tolist(), abs=0.04)


def test_vectors_are_the_mean_of_what_the_model_says(plain: Callable[[str], Path]) -> None:
    from transformers import AutoModel, AutoTokenizer

    engine = transformers.load(plain("bert"), EXACT)
    texts = ["The mill grinds.", "Who asks politely is answered politely, and who asks twice"]
    vectors, tokens = engine.embed(texts)
    model = AutoModel.from_pretrained(plain("bert"), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(plain("bert"))
    read = 0
    for text, vector in zip(texts, vectors, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        read += inputs["input_ids"].shape[1]
        with torch.inference_mode():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        assert vector == pytest.approx((mean / mean.norm()).tolist(), abs=1e-4)
    assert tokens == read


def test_a_decoder_that_reads_gives_the_vector_of_the_last_token(
    plain: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path / "reader"
    shutil.copytree(plain("llama"), folder)
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [{"type": f"sentence_transformers.models.{one}", "path": at} for one, at in steps]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    engine = transformers.load(folder, EXACT)
    texts = ["The mill grinds.", "Who asks politely is answered politely, and who asks twice"]
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(texts, engine.embed(texts)[0], strict=True):
        with torch.inference_mode():
            last = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1]
        assert vector == pytest.approx((last / last.norm()).tolist(), abs=1e-4)


def test_documents_are_ranked_as_pairs(plain: Callable[[str], Path]) -> None:
    engine = transformers.load(plain("bert-ranker"), EXACT)
    documents = ["Who asks politely", "0 1 2", "jumps over the lazy dog"]
    scores, _ = engine.rank("Who asks?", documents)
    alone = [engine.rank("Who asks?", [each])[0][0] for each in documents]
    assert scores == pytest.approx(alone, abs=1e-5)
    assert len(set(scores)) == 3


def test_weights_that_are_not_safetensors_are_refused(
    plain: Callable[[str], Path], tmp_path: Path
) -> None:
    for file in plain("llama").iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="transformers cannot load"):
        transformers.load(tmp_path, Options())


def test_code_of_strangers_is_not_run(plain: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((plain("llama") / "tokenizer.json").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoModel": "m.M"}}')
    with pytest.raises(ConfigError, match="brings code of its own, which is not run here"):
        transformers.load(tmp_path, Options())


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The library's progress bars stay off the terminal."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def test_beams_run_beside_others(kept: Models) -> None:
    engine = kept("llama", EXACT)
    prompts, rows = reference.prompts(), reference.rows()["llama"]
    made = answers(
        engine,
        {
            1: (prompts[0], replace(GREEDY, num_beams=3)),
            2: (prompts[0], GREEDY),
            3: (prompts[2], replace(GREEDY, num_beams=3)),
        },
    )
    assert made[1].tokens == rows["beams"][0]
    assert made[2].tokens == rows["greedy"][0]
    assert made[3].tokens == rows["beams"][2]
    assert one(engine, prompts[1], GREEDY).tokens == rows["greedy"][1]
