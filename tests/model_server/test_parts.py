"""Small parts of the model server: chunks, figures, memory, engines, places in words."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_server.conftest import until
from tests.model_server.test_pool import alive
from wordmill.errors import ConfigError
from wordmill.local_models.machine import Gpu
from wordmill.model_server import memory
from wordmill.model_server.front import _usage
from wordmill.model_server.library import Named, chosen, paths_of
from wordmill.model_server.metrics import Metrics
from wordmill.model_server.relay import Chunks, WorkerLost
from wordmill.model_server.types import Described
from wordmill.providers.base import Place


def test_chunks_come_out_however_they_are_cut() -> None:
    draw = random.Random(3)
    parts = [draw.randbytes(draw.randint(1, 300)) for _ in range(40)]
    sent = b"".join(b"%X;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    for _ in range(50):
        chunks, found, at = Chunks(), b"", 0
        while at < len(sent):
            size = draw.choice((1, 2, 7, 100, 5000))
            found += chunks.feed(sent[at : at + size])
            at += size
        assert (found, chunks.ended) == (b"".join(parts), True)


@pytest.mark.parametrize("bad", [b"zz\r\nabc", b"-5\r\n", b"\r\n\r\n", b"fffffffff\r\n"])
def test_what_is_no_chunk_is_no_answer(bad: bytes) -> None:
    with pytest.raises(WorkerLost):
        Chunks().feed(bad)


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b'..,"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n', 3),
        (b'..,"usage": {"prompt_tokens": 5, "details": {"a": 1}}}', 5),
        (b'"usage":null}', None),
        (b'"usage":{"prompt_tokens":3', None),
        (b"nothing", None),
    ],
)
def test_what_was_used_is_found_at_the_end(tail: bytes, found: int | None) -> None:
    usage = _usage(tail)
    assert (usage and usage["prompt_tokens"]) == found


def test_tokens_a_second_are_of_the_time_since_the_last_sample() -> None:
    now = [100.0]
    metrics = Metrics(lambda: now[0])
    metrics.sample("m", running=1.0)
    metrics.of("m", "ann").tokens_out += 50
    metrics.of("m", "bob").tokens_out += 150
    now[0] = 105.0
    sample = metrics.sample("m", running=2.0)
    assert (sample["tokens_out"], sample["running"]) == (40.0, 2.0)
    assert [one["at"] for one in metrics.history("m", since=100.0)] == [105.0]
    assert metrics.people("m")["bob"]["tokens_out"] == 150


def test_labels_of_prometheus_are_quoted() -> None:
    metrics = Metrics()
    metrics.of('a"b\\c', "x\ny").requests += 1
    line = r'wordmill_model_requests_total{model="a\"b\\c",person="x\ny"} 1'
    assert line in metrics.prometheus({})


def test_a_histogram_of_all_people() -> None:
    metrics = Metrics()
    for seconds in (0.01, 0.2, 400.0):
        metrics.of("m", f"p{seconds}").first.add(seconds)
    whole = metrics.total("m").first
    assert (whole.count, whole.quantile(0.5), whole.quantile(1.0)) == (3, 0.25, 120.0)
    assert 'first_token_seconds_bucket{model="m",le="0.25"} 2' in metrics.prometheus({})


def test_a_model_takes_its_files_and_its_engine(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "config.json").write_bytes(b"x" * 1000)
    model = Described(name="m", path=tmp_path, engine="openvino")
    assert memory.needed(model, ()) == memory.Need(1100 + (300 << 20))
    assert memory.needed(Described(name="m", path=tmp_path, memory=7), ()) == memory.Need(7)


@pytest.mark.parametrize(
    ("engine", "device", "card"),
    [
        ("transformers", "", 0),
        ("transformers", "cuda:1", 1),
        ("transformers", "cuda:2", None),
        ("transformers", "cpu", None),
        ("transformers", "mps", None),
        ("openvino", "", None),
    ],
)
def test_a_model_on_a_card_takes_its_memory(engine: str, device: str, card: int | None) -> None:
    here = (Gpu("NVIDIA L4", 24 << 30, 20 << 30),) * 2
    options: dict[str, object] = {"device": device}
    model = Described(name="m", path=Path(), engine=engine, memory=9 << 30, options=options)
    need = memory.needed(model, here)
    assert need.card == card
    if card is not None:
        assert (need.memory, need.on_card) == (memory.ON_GPU, 9 << 30)


def test_the_machine_has_memory() -> None:
    assert 0 < memory.free() <= memory.total()


def test_the_form_of_a_model_decides_its_engine(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.touch()
    (tmp_path / "ov").mkdir()
    (tmp_path / "ov" / "openvino_model.xml").touch()
    places = {"file": file, "ov": tmp_path / "ov", "other": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    models = Named(places)
    found = {name: getattr(models.find(name), "engine", None) for name in models.names()}
    assert found == {"file": "gguf", "ov": "openvino", "other": "transformers"}
    assert chosen("gguf")[0] == "gguf"
    assert chosen("safetensors", "transformers") == ("transformers", "transformers was chosen.")


def test_models_that_are_named_must_be_there(tmp_path: Path) -> None:
    assert paths_of([f"m={tmp_path}"]) == {"m": tmp_path}
    with pytest.raises(ConfigError, match=r"^--model 'm' is not written as NAME=FOLDER\.$"):
        paths_of(["m"])
    with pytest.raises(ConfigError, match="there is nothing at /nowhere"):
        paths_of(["m=/nowhere"])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(3, 20.4, "ready"), "third in line, about 20 s"),
        (Place(1, None, "ready"), "first in line"),
        (Place(12, 0.2, "ready"), "number 12 in line, about 1 s"),
        (Place(1, 8.0, "loading"), "the model is being loaded, about 8 s"),
        (Place(2, None, "loading"), "second in line, the model is being loaded"),
    ],
)
def test_a_place_in_words(place: Place, words: str) -> None:
    assert place.words() == words


CHILD = """
import os, time
print(os.getpid(), open("/proc/self/oom_score_adj").read().strip(), flush=True)
time.sleep(60)
"""
ATTACHED = """
import subprocess, sys
from wordmill import processes
subprocess.run(processes.attached([sys.executable, "-c", sys.argv[1]]))
"""


def test_a_process_that_is_attached_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ATTACHED, CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, gladly = parent.stdout.readline().split()
        assert gladly == "800"
        assert alive(int(pid))
        parent.kill()
    until(lambda: not alive(int(pid)), 10)
