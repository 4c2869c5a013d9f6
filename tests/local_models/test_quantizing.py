"""A model made out of another: what is refused, what is kept, how the loss is told."""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.local_models.test_fetch import ignored, never
from tests.model_server.conftest import until
from tests.model_server.test_pool import alive
from wordmill.database import LOCAL
from wordmill.errors import InvalidInput, StorageError, WordmillError
from wordmill.local_models import converting
from wordmill.local_models.local_models import LocalModels
from wordmill.local_models.quantizing import quantize

CONVERTER = '''
"""Stands in for the converter's Python: it copies, and halves the weights."""
import json, pathlib, sys, time
wish = json.loads(sys.stdin.readline())
out = pathlib.Path(wish["out"]); out.mkdir()
with open(out.parent.parent / "at-once", "a") as file:
    file.write(f"{len(list(out.parent.glob('.*.part')))}\\n")
for name in ("config.json", "tokenizer.json"):
    (out / name).write_bytes((pathlib.Path(wish["model"]) / name).read_bytes())
(out / "openvino_model.xml").write_text('<net><port element_type="u8"/></net>')
print("a library's own words", flush=True)
print(json.dumps({"step": "converting", "before": 9.0}), flush=True)
mode = pathlib.Path(sys.argv[0]).with_name("mode").read_text()
if mode == "fail":
    print(json.dumps({"error": "The converter failed: no such operator."}), flush=True)
    sys.exit(2)
if mode == "die":
    print("Killed", file=sys.stderr)
    sys.exit(9)
if mode == "hang":
    time.sleep(600)
(out / "openvino_model.bin").write_bytes(b"x" * 1000)
print(json.dumps({"before": 9.0, "after": 9.9}), flush=True)
'''


@pytest.fixture
def converter(models: LocalModels, llama: Path, tmp_path: Path) -> Path:
    """The file that says how the stand-in behaves; the model `tiny` is there to be converted."""
    program = tmp_path / "converter.py"
    program.write_text(CONVERTER)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {program}\n")
    python.chmod(0o755)
    (tmp_path / "mode").write_text("well")
    object.__setattr__(models.settings, "converter_python", python)
    models.take(llama, LOCAL, "tiny")
    return tmp_path / "mode"


def nothing_is_left(models: LocalModels) -> bool:
    return models.registry.names() == ["tiny"] and not list((models.folder / "made").iterdir())


def test_a_smaller_model_with_what_it_lost(models: LocalModels, converter: Path) -> None:
    heard: list[object] = []
    made = quantize(models, "tiny", "int8", LOCAL, heard.append, never)
    assert heard == [{"step": "converting", "before": 9.0}]
    assert (made.name, made.form, made.source, made.made_from) == (
        "tiny-int8", "openvino", "made", "tiny",
    )  # fmt: skip
    assert made.quality == {"before": 9.0, "after": 9.9}
    assert made.facts.dtype == "int8"
    assert json.loads((made.path / "wordmill.json").read_text())["made_from"] == "tiny"
    assert models.registry.find("tiny-int8") == made
    models.remove("tiny-int8")
    assert nothing_is_left(models)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fail", "The converter failed: no such operator."),
        ("die", "The process ended with 9: Killed"),
    ],
)
def test_a_converter_that_fails(
    models: LocalModels, converter: Path, mode: str, words: str
) -> None:
    converter.write_text(mode)
    with pytest.raises(StorageError, match=words):
        quantize(models, "tiny", "int8", LOCAL, ignored, never)
    assert nothing_is_left(models)


def test_a_conversion_that_nobody_wants_any_more(models: LocalModels, converter: Path) -> None:
    converter.write_text("hang")
    heard: list[object] = []
    with pytest.raises(InterruptedError):
        quantize(models, "tiny", "int4", LOCAL, ignored, lambda: bool(heard) or _begun(models))
    assert nothing_is_left(models)


def _begun(models: LocalModels) -> bool:
    return any((models.folder / "made").rglob("openvino_model.xml"))


def test_two_conversions_go_one_after_the_other(models: LocalModels, converter: Path) -> None:
    heard: list[object] = []
    with ThreadPoolExecutor() as pool:
        each = [
            pool.submit(quantize, models, "tiny", to, LOCAL, heard.append, never)
            for to in ("int8", "int4", "float32")
        ]
        names = {one.result(60).name for one in each}
    assert names == {"tiny-int8", "tiny-int4", "tiny-float32"}
    assert {"step": "waiting"} in heard
    assert (models.folder / "at-once").read_text() == "1\n" * 3


def test_what_a_killed_conversion_left_is_swept(models: LocalModels, converter: Path) -> None:
    left = [models.folder / "made" / name for name in (".other.77.part", "tiny-int8")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"x")
    made = quantize(models, "tiny", "int8", LOCAL, ignored, never)
    assert not left[0].exists()
    assert not (made.path / "weights").exists()
    # The name of another model may lead to the same folder: that one stays.
    models.registry.remove("tiny-int8")
    models.registry.add(replace(made, name="tiny.int8", path=models.folder / "made" / "tiny--x"))
    (models.folder / "made" / "tiny--x").mkdir()
    with pytest.raises(InvalidInput, match=r"tiny\.int8 is kept at .*tiny--x: choose another name"):
        quantize(models, "tiny", "int8", LOCAL, ignored, never, called="tiny--x")
    assert (models.folder / "made" / "tiny--x").is_dir()


def test_the_converter_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Also the program that it runs itself, which knows nothing of its parent's parent."""
    (tmp_path / "transformers.py").write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"runpy.run_path({converting.__file__!r}, run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"model": "m", "out": "o"}) + "\n")
        process.stdin.flush()
        sleeping = int(process.stdout.readline())
        process.stdin.close()
        process.wait(20)
    until(lambda: not alive(sleeping))


def test_what_cannot_be_made(models: LocalModels, converter: Path) -> None:
    with pytest.raises(InvalidInput, match="A model can be made float32, float16, int8, int4, not"):
        quantize(models, "tiny", "int3", LOCAL, ignored, never)
    with pytest.raises(WordmillError, match="There is no local model 'tinny'"):
        quantize(models, "tinny", "int8", LOCAL, ignored, never)
    quantize(models, "tiny", "int8", LOCAL, ignored, never)
    with pytest.raises(InvalidInput, match="tiny-int8 is kept as openvino for chat; what can be"):
        quantize(models, "tiny-int8", "int4", LOCAL, ignored, never)
    with pytest.raises(WordmillError, match="There is a model 'tiny-int8' already"):
        quantize(models, "tiny", "int8", LOCAL, ignored, never)
    object.__setattr__(models.settings, "converter_python", Path("/nowhere/python"))
    with pytest.raises(InvalidInput, match="converter_python names /nowhere/python, which is not"):
        quantize(models, "tiny", "int4", LOCAL, ignored, never)


def test_perplexity_is_what_its_definition_says() -> None:
    """Two words, of which the model gives the one that comes a quarter: e to -ln(1/4) is 4."""
    scores = np.log(np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]))
    assert converting.perplexity([[0, 1, 1]], lambda _: scores) == pytest.approx(4.0)
    mixed = converting.perplexity([[0, 0, 1]], lambda _: scores)
    assert mixed == pytest.approx(math.exp(-(math.log(0.75) + math.log(0.25)) / 2))
    assert converting.perplexity([], lambda _: scores) is None
    assert converting.perplexity([[0, 1]], lambda _: scores[:2] * np.nan) == math.inf
    assert [len(one) for one in converting.windows_of(list(range(600)))] == [256, 256, 88]
