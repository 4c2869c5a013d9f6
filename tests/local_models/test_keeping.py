"""What is here: updated, rolled back, set, weighed, deleted by revision; one's own files."""

import fcntl
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.local_models.test_fetch import ignored, never
from tests.servers import tiny_models
from tests.servers.hub import Hub
from wordmill.database import LOCAL, now
from wordmill.errors import Conflict, InvalidInput, StorageError, UnknownName, WordmillError
from wordmill.local_models.cache import UNDER_WAY
from wordmill.local_models.child import run
from wordmill.local_models.fit import fit, need, size
from wordmill.local_models.local_models import Ask, LocalModels
from wordmill.local_models.machine import Gpu, Machine, this_machine
from wordmill.local_models.options import read
from wordmill.local_models.rules import chosen
from wordmill.local_models.types import Facts, LocalModel, Remote
from wordmill.model_server.library import Shelf, described

GIB = 1 << 30


@pytest.fixture
def two(hub: Hub, models: LocalModels, llama: Path, tmp_path: Path) -> tuple[str, str]:
    """A model that was fetched, and then a second commit of it; both commits."""
    old = hub.put("ann/tiny", llama)
    models.fetch(Ask("ann/tiny"), LOCAL, ignored, never)
    newer = tiny_models.build(tmp_path / "newer", seed=1)
    (newer / "README.md").write_bytes((llama / "README.md").read_bytes())
    return old, hub.put("ann/tiny", newer, "Better words")


def test_an_update_is_told_fetched_and_undone(
    hub: Hub, models: LocalModels, two: tuple[str, str]
) -> None:
    old, new = two
    found = models.newer("tiny")
    assert found is not None
    assert found.revision == new
    assert [change.title for change in found.changes] == ["Better words"]
    assert found.files == ("model.safetensors",)
    assert found.download == 560_672

    def remembered() -> str:
        """By what the answers of the model are remembered."""
        return models.registry._catalog.provider("tiny").identity

    before = remembered()
    model = models.update("tiny", ignored, never)
    assert remembered() == f"local:{new[:12]}" != before
    assert (model.revision, [one.revision for one in model.earlier]) == (new, [old])
    assert models.newer("tiny") is None
    with pytest.raises(Conflict, match="tiny is at the newest commit of main already"):
        models.update("tiny", ignored, never)
    back = models.roll_back("tiny")
    assert remembered() == before
    assert (back.revision, [one.revision for one in back.earlier]) == (old, [new])
    assert models.registry.find("tiny") == back
    assert models.roll_back("tiny", new[:8]).revision == new
    with pytest.raises(Conflict, match="tiny has no earlier revision 'ffff' on this disk"):
        models.roll_back("tiny", "ffff")


def test_an_earlier_revision_comes_back_as_it_was(
    hub: Hub, models: LocalModels, two: tuple[str, str]
) -> None:
    _, new = two
    before = models.registry.find("tiny")
    models.update("tiny", ignored, never)
    # As where the newer one was of another form, and brought code that was allowed.
    models.registry.change("tiny", form="openvino", size=7, remote_code=True)
    back = models.roll_back("tiny")
    assert (back.form, back.size, back.remote_code) == ("safetensors", before.size, False)
    folder = models.registry.find("tiny").earlier[0].path
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    own = {**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(own))
    with pytest.raises(InvalidInput, match=r"brings Python code of its own .* refused"):
        models.roll_back("tiny")
    object.__setattr__(models.settings, "remote_code", (f"ann/tiny@{new}",))
    assert models.roll_back("tiny").remote_code


def test_code_runs_as_long_as_it_is_allowed(models: LocalModels, llama: Path) -> None:
    model = replace(
        models.take(llama, LOCAL), repository="Ann/Tiny", revision="f" * 40, remote_code=True
    )
    allowed = (f"ann/tiny@{'f' * 40}",)
    assert described(model, allowed).options["remote_code"] is True
    assert described(model, ()).options["remote_code"] is None
    models.registry.change(model.name, repository="Ann/Tiny", revision="f" * 40, remote_code=True)
    settings = replace(models.settings, remote_code=allowed)
    for given, runs in ((settings, True), (models.settings, None)):
        found = Shelf(models.registry._database, given).find(model.name)
        assert found is not None
        assert found.options["remote_code"] is runs


def test_the_catalog_has_the_context_that_an_engine_gives(models: LocalModels, llama: Path) -> None:
    model = models.take(llama, LOCAL)
    long = replace(model.facts, context=131_072)

    def context(**fields: object) -> int | None:
        models.registry.change(model.name, **fields)
        return models.registry._catalog.get(model.name).context

    assert context(facts=long) == 16_384
    assert context(context=32_768) == 32_768
    assert context(context=None, facts=replace(long, context=512)) == 512
    assert context(facts=replace(long, context=0)) is None
    assert context(facts=replace(long, task="embeddings")) == 131_072
    # The room for keys and values that an engine takes, whatever the context is.
    found = {
        number: described(replace(model, facts=long, context=number)).memory
        for number in (512, None, 16_384, 32_768)
    }
    whole = need(long, long.dtype, engine="transformers", context=16_384)
    assert found[512] == found[None] == found[16_384] == whole.memory
    assert found[32_768] == whole.memory + whole.cache
    # llama.cpp keeps earlier prompts beside it, half as much.
    kept = described(replace(model, facts=long, engine="gguf"))
    alone = need(long, long.dtype, engine="gguf", context=16_384)
    assert kept.options["kept_bytes"] == alone.cache // 2
    assert kept.memory == alone.memory + alone.cache // 2


def test_of_what_was_made_the_removed_one_goes_alone(models: LocalModels, llama: Path) -> None:
    places = [models.folder / "made" / name for name in ("one", "two")]
    for place in places:
        shutil.copytree(llama, place)
        at = now()
        models.registry.add(
            LocalModel(
                name=place.name, source="made", form="safetensors", path=place, owner=LOCAL,
                created=at, updated=at, size=5,
            )
        )  # fmt: skip
    shutil.rmtree(places[0])  # by hand, or it never came back from a backup
    assert models.remove("one") == 0
    assert (places[1] / "model.safetensors").is_file()
    assert models.remove("two") == 5
    assert not places[1].exists()


def test_what_another_fetch_is_writing_is_not_thrown_away(
    hub: Hub, models: LocalModels, two: tuple[str, str]
) -> None:
    """The lock that a fetch has on what is under way is a lock of its own here."""
    old, _ = two
    blobs = models.cache.at("ann/tiny") / "blobs"
    parts = [blobs / f"{sign * 64}{UNDER_WAY}" for sign in "ab"]
    for part in parts:
        part.write_bytes(b"x" * 100)
    whole = blobs / ("c" * 64)
    whole.write_bytes(b"x" * 10)
    with parts[0].open("ab+") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert models.discard("ann/tiny") == 100
        assert [one.exists() for one in (*parts, whole)] == [True, False, True]
        models.cache.remove("ann/tiny", old)
        assert [parts[0].exists(), whole.exists()] == [True, True]
    assert models.discard("ann/tiny") == 110
    assert not blobs.exists()


def test_a_pinned_revision_stays(hub: Hub, models: LocalModels, two: tuple[str, str]) -> None:
    old, _ = two
    models.fetch(Ask("ann/tiny", old, "fixed"), LOCAL, ignored, never)
    assert models.newer("fixed") is None
    with pytest.raises(Conflict, match=r"fixed stays at .*: it follows no branch"):
        models.update("fixed", ignored, never)
    models.registry.change("fixed", **read(models.registry.find("fixed"), {"follows": "main"}))
    assert models.newer("fixed") is not None


def test_the_disk_by_revision(hub: Hub, models: LocalModels, two: tuple[str, str]) -> None:
    old, new = two
    models.update("tiny", ignored, never)
    used = {one.commit: (one.size, one.alone, names) for one, names in models.used()}
    assert set(used) == {old, new}
    assert used[old][1] == used[new][1] == 560_672  # the rest is there once, for both
    assert used[old][2] == used[new][2] == ("tiny",)
    with pytest.raises(Conflict, match="tiny uses this revision"):
        models.remove_revision("ann/tiny", new)
    with pytest.raises(InvalidInput, match="no revision begins with 'ffff'"):
        models.remove_revision("ann/tiny", "ffff")
    assert models.remove_revision("ann/tiny", old[:10]) == 560_672
    assert models.registry.find("tiny").earlier == ()
    with pytest.raises(Conflict, match="tiny has no earlier revision on this disk"):
        models.roll_back("tiny")
    assert (models.registry.find("tiny").path / "tokenizer.json").is_file()
    models.remove("tiny")
    assert list(models.folder.glob("models--*")) == []


def test_two_models_of_one_commit_share_its_files(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    models.fetch(Ask("ann/tiny"), LOCAL, ignored, never)
    models.fetch(Ask("ann/tiny", name="twin"), LOCAL, ignored, never)
    assert models.remove("tiny") == 0
    assert (models.registry.find("twin").path / "config.json").is_file()
    assert models.remove("twin") > 500_000


def test_a_model_whose_files_are_gone_gets_them_back(
    hub: Hub, models: LocalModels, two: tuple[str, str]
) -> None:
    old, _ = two
    models.registry.change("tiny", threads=3)
    shutil.rmtree(models.folder)
    model = models.fetch(Ask("ann/tiny"), LOCAL, ignored, never)
    assert (model.revision, model.follows, model.threads) == (old, "main", 3)
    assert (model.path / "model.safetensors").is_file()


def test_ones_own_folder_stays_where_it_is(models: LocalModels, llama: Path) -> None:
    model = models.take(llama, LOCAL, "own")
    assert (model.path, model.source, model.form) == (llama.resolve(), "folder", "safetensors")
    assert models.remove("own") == 0
    assert (llama / "config.json").is_file()
    with pytest.raises(InvalidInput, match=r"There is no /nowhere/at/all\."):
        models.take(Path("/nowhere/at/all"), LOCAL)
    with pytest.raises(InvalidInput, match=r"^/ has no config\.json, so nothing says what"):
        models.take(Path("/"), LOCAL, "all")
    with pytest.raises(InvalidInput, match=r"config\.json is a single file: only a GGUF file is"):
        models.take(llama / "config.json", LOCAL)


def test_a_folder_of_too_many_files(models: LocalModels, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "many")
    for number in range(2001):
        (folder / f"{number}.txt").touch()
    with pytest.raises(InvalidInput, match="has more than 2,000 files: it is no folder of a mo"):
        models.take(folder, LOCAL)


# GGUF


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors: int = 1, cut: int = 0, shape: tuple[int, ...] = (32, 64)) -> bytes:
    """The head of a GGUF file of a tiny Llama, and room for its weights."""
    values = [
        ("general.architecture", 8, text("llama")),
        ("llama.context_length", 4, struct.pack("<I", 256)),
        ("llama.block_count", 4, struct.pack("<I", 2)),
        ("llama.embedding_length", 4, struct.pack("<I", 64)),
        ("llama.attention.head_count", 4, struct.pack("<I", 4)),
        ("llama.attention.head_count_kv", 4, struct.pack("<I", 2)),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + b"".join(map(text, "abc"))),
        ("tokenizer.chat_template", 8, text("{{ messages }}")),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values))
    for key, kind, value in values:
        head += text(key) + struct.pack("<I", kind) + value
    for number in range(tensors):
        head += text(f"blk.{number}") + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", one) for one in shape) + struct.pack("<IQ", 8, 0)
    whole = head + b"\0" * 4096
    return whole[: len(whole) - cut]


def test_a_gguf_file_of_ones_own(models: LocalModels, tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(gguf())
    model = models.take(file, LOCAL)
    assert (model.name, model.form, model.path) == ("small", "gguf", file)
    assert model.facts == Facts(
        "llama", "chat", 2048, len(gguf()), "int8", 256, 2, 64, 2, 16, 3, template=True
    )
    assert model.engines == ("gguf",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no GGUF file: it does not begin as one"),
        (b"GGUF\x09\0\0\0" + b"\0" * 16, "is GGUF version 9; 2 and 3 are read"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "is no GGUF file, or is damaged"),
        (gguf(cut=4200), "is no GGUF file, or is damaged"),
        (gguf(tensors=0), "holds no weights"),
        (gguf(shape=(2**60,) * 9), "has a tensor of 9 dimensions: it is damaged"),
        (gguf(shape=(2**60,)), "is no GGUF file, or is damaged"),
        (gguf(shape=(2**30, 2**30)), "has a tensor of 1152921504606846976 numbers"),
    ],
)
def test_what_is_no_gguf_file(
    models: LocalModels, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "odd.gguf"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        models.take(file, LOCAL)
    assert models.registry.names() == []


def test_one_of_several_gguf_files_is_named(hub: Hub, models: LocalModels, tmp_path: Path) -> None:
    folder = tmp_path / "quantized"
    folder.mkdir()
    for name in ("a.Q4.gguf", "a.Q8.gguf", "b-00001-of-00002.gguf"):
        (folder / name).write_bytes(gguf())
    hub.put("ann/quantized", folder)
    with pytest.raises(InvalidInput, match=r"has 3 GGUF files: name one\. There are: a\.Q4\.gguf"):
        models.plan(Ask("ann/quantized"))
    with pytest.raises(InvalidInput, match="is a part of a file that was split"):
        models.plan(Ask("ann/quantized", file="b-00001-of-00002.gguf"))
    ask = Ask("ann/quantized", file="a.Q8.gguf")
    planned = models.plan(ask)
    assert (planned.facts.context, planned.facts.layers, planned.form) == (256, 2, "gguf")
    model = models.fetch(ask, LOCAL, ignored, never)
    assert model.path.name == "a.Q8.gguf"
    assert [one.name for one in model.path.parent.iterdir()] == ["a.Q8.gguf"]
    hub.put("ann/quantized", folder)
    assert models.newer("quantized") is not None  # a commit, of which nothing is to be fetched
    assert models.update("quantized", ignored, never).path.name == "a.Q8.gguf"


# How it is run


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ({"device": "cuda:0"}, "device", "cuda:0"),
        ({"threads": "4"}, "threads", 4),
        ({"threads": "auto"}, "threads", None),
        ({"dtype": "bf16"}, "dtype", "bfloat16"),
        ({"context": "128"}, "context", 128),
        ({"pinned": "yes"}, "pinned", True),
        ({"engine": "transformers"}, "engine", "transformers"),
    ],
)
def test_options_are_the_models(
    models: LocalModels, llama: Path, words: dict[str, str], field: str, value: object
) -> None:
    model = models.take(llama, LOCAL, "tiny")
    changed = models.registry.change("tiny", **read(model, words))
    assert getattr(changed, field) == value
    assert models.registry.find("tiny") == changed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"device": "../gpu"}, "'../gpu' is no device"),
        ({"threads": "0"}, "threads is a whole number from 1 to 1,024, not '0'"),
        ({"threads": "9" * 5000}, "threads is a whole number"),
        ({"dtype": "int4"}, "tiny is not quantized while it is loaded"),
        ({"dtype": "x"}, "dtype is float32, bfloat16 or float16, not 'x'"),
        ({"context": "9999"}, "context is a whole number from 16 to 512, not '9999'"),
        ({"pinned": "perhaps"}, "pinned is yes or no, not 'perhaps'"),
        ({"engine": "openvino"}, "tiny is kept as safetensors, which transformers reads"),
        ({"follows": "main"}, "tiny is not from the hub, so it follows no branch"),
        ({"colour": "red"}, "There is no option of a model 'colour'"),
    ],
)
def test_options_that_are_none(
    models: LocalModels, llama: Path, words: dict[str, str], said: str
) -> None:
    model = models.take(llama, LOCAL, "tiny")
    with pytest.raises(WordmillError, match=said):
        read(model, words)


def test_a_name_that_nothing_has(models: LocalModels, llama: Path) -> None:
    models.take(llama, LOCAL, "tiny")
    with pytest.raises(UnknownName, match=r"no local model .tinny.\. Did you mean .tiny."):
        models.registry.find("tinny")
    with pytest.raises(UnknownName):
        models.registry.find("a\0b")


# Whether it fits

SEVEN = Facts(
    "LlamaForCausalLM", "chat", 7 * 10**9, 14 * 10**9, "bfloat16", 8192, 32, 4096, 8, 128, 32000
)
"""A model of seven billion parameters."""


def test_the_memory_is_weights_conversation_and_engine() -> None:
    found = need(SEVEN, "bfloat16", engine="transformers", context=4096, streams=2)
    assert found.weights == 14 * 10**9
    assert found.cache == 2 * 32 * 8 * 128 * 2 * 4096 * 2  # keys and values, in 2 bytes
    assert found.other == (800 << 20) + 14 * 10**8
    assert found.memory == found.weights + found.cache + found.other
    assert need(SEVEN, "bfloat16", engine="openvino", context=10**6).context == 8192
    assert need(SEVEN, "int4", engine="openvino").weights == round(7e9 * 0.6)


@pytest.mark.parametrize(
    ("free", "room", "verdict", "words"),
    [
        (64 * GIB, 900 * GIB, "yes", "Yes: it takes"),
        (18 * GIB, 900 * GIB, "tight", "Tight: it takes"),
        (12 * GIB, 900 * GIB, "no", "As int8 it takes"),
        (64 * GIB, 1 * GIB, "no", "The download has 14 GB, and the disk has room for 1.07 GB"),
        (64 * GIB, 14 * GIB, "tight", "which leaves little of 15 GB"),
    ],
)
def test_yes_tight_and_no_with_the_numbers(free: int, room: int, verdict: str, words: str) -> None:
    found = fit(
        SEVEN, Machine(64 * GIB, free, 8), room=room, download=14 * 10**9,
        dtypes=("bfloat16", "int8", "int4"), engine="transformers",
    )  # fmt: skip
    assert found.verdict == verdict
    assert words in found.sentence
    assert [row.need.engine for row in found.rows] == ["transformers", "openvino", "openvino"]


def test_a_graphics_card_counts_for_the_engine_that_can_use_it() -> None:
    machine = Machine(16 * GIB, 8 * GIB, 8, gpus=(Gpu("NVIDIA L4", 24 * GIB, 23 * GIB),))
    found = fit(
        SEVEN, machine, room=900 * GIB, download=14 * 10**9, dtypes=("bfloat16", "int8"),
        engine="transformers",
    )  # fmt: skip
    assert [row.verdict for row in found.rows] == ["yes", "no"]
    assert "8.59 GB of 17.2 GB are free, and on the NVIDIA L4 24.7 GB of 25.8 GB." in found.sentence


def test_what_the_driver_of_a_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034, 22500'\necho 'odd'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert this_machine().gpus == (Gpu("NVIDIA L4", 23034 << 20, 22500 << 20),)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert this_machine().gpus == ()


def test_this_machine_has_memory_and_cores() -> None:
    found = this_machine()
    assert 0 < found.free <= found.memory
    assert found.cores >= 1


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (14e9, "14 GB")]
)
def test_sizes_for_people(number: float, words: str) -> None:
    assert size(number) == words


def test_what_is_chosen_of_a_repository() -> None:
    names = (
        "config.json", "tokenizer.json", "model.safetensors", "consolidated.safetensors",
        "pytorch_model.bin", "onnx/model.onnx", "original/params.json", "README.md", "x.py",
        "training_args.bin", "LICENSE", "chat_template.jinja", ".gitattributes", "spy.html",
    )  # fmt: skip
    form, files = chosen([Remote(name, 1, "0" * 40) for name in names], "ann/x")
    assert (form, {file.name for file in files}) == (
        "safetensors",
        {"config.json", "tokenizer.json", "model.safetensors", "README.md", "LICENSE",
         "chat_template.jinja"},
    )  # fmt: skip
    form, files = chosen(
        [
            Remote(name, 1, "0" * 40)
            for name in ("config.json", "openvino_model.xml", "openvino_model.bin", "x.bin")
        ],
        "ann/x",
    )
    assert (form, "x.bin" in {file.name for file in files}) == ("openvino", False)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("model.safetensors", "model.fp16.safetensors"), ["model.safetensors"]),
        (
            ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_weights_that_engines_look_for(names: tuple[str, ...], found: list[str]) -> None:
    _, files = chosen([Remote(name, 1, "0" * 40) for name in ("config.json", *names)], "ann/x")
    assert [file.name for file in files if file.name.endswith(".safetensors")] == found


def test_weights_of_another_name_are_not_looked_for() -> None:
    files = [Remote(name, 1, "0" * 40) for name in ("config.json", "foo.safetensors")]
    with pytest.raises(InvalidInput, match=r"calls its weights foo\.safetensors; engines look for"):
        chosen(files, "ann/x")


def test_an_index_that_leads_elsewhere(models: LocalModels, llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(llama, folder)
    (tmp_path / "other.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    places = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(places))
    with pytest.raises(InvalidInput, match=r"a file '\.\./other\.safetensors', which leads"):
        models.take(folder, LOCAL)


def test_a_branch_that_is_called_as_the_folder_of_another(models: LocalModels) -> None:
    for ref in ("main", "main/new"):
        assert models.cache.finish("ann/tiny", "a" * 40, [], ref).is_dir()


def test_a_process_that_ends_before_it_was_asked_says_why() -> None:
    words = ("-c", "import sys; sys.stdin.close(); sys.exit('no room')")
    with pytest.raises(StorageError, match="The process ended with 1: no room"):
        run("", "x" * 1_000_000, ignored, never, arguments=words)
