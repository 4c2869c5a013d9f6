"""Whatever goes wrong on the way is a sentence, and leaves nothing half-installed."""

import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, scan_cache_dir

from tests.local_models.conftest import READER
from tests.local_models.test_fetch import ignored, never
from tests.servers import tiny_models
from tests.servers.hub import Hub, digests
from wordmill.database import LOCAL
from wordmill.errors import Conflict, HubError, InvalidInput, StorageError, WordmillError
from wordmill.local_models import cache as caches
from wordmill.local_models import fetching, local_models
from wordmill.local_models.local_models import Ask, LocalModels
from wordmill.local_models.machine import Gpu, Machine
from wordmill.local_models.types import Remote

ASK = Ask("ann/tiny")


def fetch(models: LocalModels, ask: Ask = ASK) -> str:
    return models.fetch(ask, LOCAL, ignored, never).name


def nothing_is_left(models: LocalModels) -> bool:
    """No row, no commit, nothing under way."""
    return (
        models.registry.names() == []
        and models.cache.used() == []
        and list(models.folder.rglob("*.incomplete")) == []
    )


def without(llama: Path, folder: Path, *names: str) -> Path:
    shutil.copytree(llama, folder)
    for name in names:
        (folder / name).unlink()
    return folder


def test_a_body_that_breaks_off_goes_on_where_it_was(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.cut, hub.faults.cuts = 3 * 65_536, 2
    fetch(models)
    spans = [one.span for one in hub.bodies("model.safetensors") if one.store]
    assert len(spans) == 3
    assert spans[0] is None
    assert spans[1] == "bytes=196608-"


def test_what_came_before_a_kill_is_not_fetched_again(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.rate = 400_000
    heard = threading.Event()

    def hear(line: object) -> None:
        if list(models.folder.rglob("b*/*.incomplete")):
            heard.set()

    with pytest.raises(InterruptedError):
        models.fetch(ASK, LOCAL, hear, heard.is_set)
    (part,) = models.folder.rglob("*.incomplete")
    assert models.registry.names() == []
    hub.faults.rate = None
    begun = part.stat().st_size
    hub.log.clear()
    fetch(models)
    spans = [one.span for one in hub.log if one.store]
    assert spans == [f"bytes={begun}-" if begun else None]
    assert list(models.folder.rglob("*.incomplete")) == []


def test_a_wrong_checksum_is_thrown_away(hub: Hub, llama: Path, models: LocalModels) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.spoil = {"model.safetensors"}
    with pytest.raises(HubError, match=r"^model\.safetensors of ann/tiny came with another checks"):
        fetch(models)
    assert nothing_is_left(models)
    hub.faults.spoil = set()
    assert fetch(models) == "tiny"


def test_a_small_file_with_a_wrong_checksum_is_too(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.spoil = {"tokenizer.json"}
    with pytest.raises(HubError, match="came with another checksum"):
        fetch(models)
    assert nothing_is_left(models)


def test_a_token_never_follows_a_redirect(
    hub: Hub, llama: Path, models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/tiny", llama, gated="manual", readers={READER})
    with pytest.raises(HubError, match="is gated, and its owner lets people in"):
        fetch(models)
    hub.tokens["hf_of_somebody_who_was_not_let_in"] = "bob"
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_who_was_not_let_in")
    with pytest.raises(HubError, match="its owner has not let you in"):
        fetch(models)
    monkeypatch.setenv("HF_TOKEN", READER)
    fetch(models)
    assert {one.token for one in hub.log if one.store} == {None}
    assert READER in {one.token for one in hub.log if not one.store}


def test_tokens_from_a_file_and_stored(
    hub: Hub, llama: Path, models: LocalModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/tiny", llama, private=True, readers={READER})
    with pytest.raises(HubError, match="The hub has no ann/tiny, or is private; a token opens"):
        models.plan(ASK)
    (tmp_path / "token").write_text(READER + "\n")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "token"))
    assert models.tokens.origin() == "the environment (HF_TOKEN)"
    models.plan(ASK)
    monkeypatch.delenv("HF_TOKEN_FILE")
    assert models.tokens.store(READER) == "ann"
    assert models.tokens.origin() == "stored"
    models.plan(ASK)
    files = [file.read_bytes() for file in models.settings.home.rglob("*") if file.is_file()]
    assert not any(READER.encode() in data for data in files)
    with pytest.raises(HubError, match="The hub refuses the token"):
        models.tokens.store("hf_nobody_has_this_one")
    assert models.tokens.remove()
    assert models.tokens.origin() == ""


def test_a_busy_hub_is_asked_once_more(hub: Hub, llama: Path, models: LocalModels) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.busy = 1
    assert len(models.search("tiny")) == 1


def test_a_repository_that_has_another_name_by_now(
    hub: Hub, llama: Path, models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/tiny", llama, private=True, readers={READER})
    hub.moved["ann/before"] = "ann/tiny"
    monkeypatch.setenv("HF_TOKEN", READER)
    assert fetch(models, Ask("ann/before", name="moved")) == "moved"
    hub.moved["ann/circle"] = "ann/circle"
    with pytest.raises(HubError, match="answers 307"):
        models.plan(Ask("ann/circle"))


def test_a_hub_that_is_down_or_not_there(
    hub: Hub, models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.down = True
    with pytest.raises(HubError, match="answers 503"):
        models.search("tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached"):
        models.search("tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="Offline mode is on"):
        models.search("tiny")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda at: (at / "config.json").unlink(), "ann/tiny has no config.json"),
        (
            lambda at: (at / "model.safetensors").unlink(),
            r"ann/tiny has a config.json and no weights",
        ),
        (
            lambda at: (at / "model.safetensors").rename(at / "pytorch_model.bin"),
            r"has its weights only as a pickle \(pytorch_model.bin\)",
        ),
        (
            lambda at: (at / "model.safetensors").rename(at / "adapter_model.safetensors"),
            "is an adapter",
        ),
        (lambda at: (at / "config.json").write_text("{"), "config.json of ann/tiny is no JSON"),
        (lambda at: (at / "config.json").write_text("[1]"), "holds no JSON object"),
        (
            lambda at: edit(at / "config.json", auto_map={"AutoModel": "x.X"}, model_type="odd"),
            r"brings Python code of its own .* remote_code: ann/tiny@[0-9a-f]{40}$",
        ),
        (
            lambda at: edit(at / "config.json", vocab_size=100),
            "The tokenizer of .* is another model's: it counts up to 511",
        ),
        (
            lambda at: (at / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"),
            r"model\.safetensors is no safetensors file, or is damaged",
        ),
        (lambda at: shorten(at / "model.safetensors"), "is shorter than its header says"),
        (lambda at: (at / "tokenizer.json").write_text("{}"), "describes no tokenizer"),
    ],
)
def test_repositories_that_are_no_models(
    hub: Hub,
    llama: Path,
    models: LocalModels,
    tmp_path: Path,
    change: Callable[[Path], object],
    words: str,
) -> None:
    folder = without(llama, tmp_path / "odd")
    change(folder)
    hub.put("ann/tiny", folder)
    with pytest.raises(InvalidInput, match=words):
        fetch(models)
    assert nothing_is_left(models)
    own = re.sub(r" \.\* remote_code: .*", "", words).replace("ann/tiny", ".*")
    with pytest.raises(InvalidInput, match=own):
        models.take(folder, LOCAL)
    assert nothing_is_left(models)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_remote_code_that_an_admin_allowed_at_one_commit(
    hub: Hub, llama: Path, models: LocalModels, tmp_path: Path
) -> None:
    folder = without(llama, tmp_path / "odd")
    edit(folder / "config.json", auto_map={"AutoModel": "x.X"}, model_type="odd")
    (folder / "x.py").write_text("class X: ...\n")
    commit = hub.put("Ann/Tiny", folder)
    object.__setattr__(models.settings, "remote_code", (f"ann/tiny@{commit}",))
    ask = Ask("Ann/Tiny", commit, "tiny")
    model = models.fetch(ask, LOCAL, ignored, never)
    assert (model.remote_code, model.follows) == (True, "")
    assert (model.path / "x.py").exists()
    folder.joinpath("x.py").write_text("import os\n")
    hub.put("Ann/Tiny", folder)
    with pytest.raises(InvalidInput, match="It is refused"):
        models.plan(Ask("Ann/Tiny"))


def test_known_architectures_run_without_the_code_that_is_brought(
    hub: Hub, llama: Path, models: LocalModels, tmp_path: Path
) -> None:
    folder = without(llama, tmp_path / "odd")
    edit(folder / "config.json", auto_map={"AutoModel": "x.X"})
    (folder / "x.py").write_text("raise SystemExit\n")
    hub.put("ann/tiny", folder)
    planned = models.plan(ASK)
    assert not planned.remote_code
    assert "x.py" not in {file.name for file in planned.files}
    assert planned.notes[0] == "It brings code of its own, which is not fetched: it runs without."


def test_what_runs_a_model_is_said_before_it_is_fetched(
    hub: Hub, llama: Path, models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/tiny", llama)
    for here in (False, True):
        monkeypatch.setattr(local_models, "installed", lambda _, here=here: here)
        words = " ".join(models.plan(ASK).notes)
        assert ('pip install "wordmill[torch]"' in words) is not here
        assert "OpenVINO answers about twice as fast" in words
    card = Machine(1 << 34, 1 << 34, 2, gpus=(Gpu("Card", 1 << 33, 1 << 33),))
    monkeypatch.setattr(local_models, "this_machine", lambda: card)
    assert models.plan(ASK).notes == ()


@pytest.mark.parametrize("name", ["../../x", "x", "a/../b", "a/b/c", "", "ann/..", "/etc/passwd"])
def test_names_that_lead_elsewhere(models: LocalModels, name: str) -> None:
    with pytest.raises(InvalidInput, match="is no repository of the hub"):
        models.plan(Ask(name))


@pytest.mark.parametrize("name", ["../x", "", "/x", "a//b"])
def test_revisions_that_lead_elsewhere(models: LocalModels, name: str) -> None:
    with pytest.raises(InvalidInput, match="is no revision"):
        models.plan(Ask("ann/tiny", name))


def test_a_name_that_is_none_or_taken(hub: Hub, llama: Path, models: LocalModels) -> None:
    hub.put("ann/tiny", llama)
    with pytest.raises(WordmillError, match=r"'\.\./\.\./x' is no name for a model"):
        models.fetch(Ask("ann/tiny", name="../../x"), LOCAL, ignored, never)
    fetch(models)
    with pytest.raises(WordmillError, match="There is a model 'tiny' already"):
        fetch(models)


def test_a_repository_that_lists_a_file_elsewhere(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    files = hub.repositories["ann/tiny"].commits[0].files
    files["../../evil.safetensors"] = files["model.safetensors"]
    with pytest.raises(InvalidInput, match=r"lists a file '\.\./\.\./evil\.safetensors', which"):
        fetch(models)
    assert nothing_is_left(models)


def test_a_link_that_leads_out_of_a_folder(
    llama: Path, models: LocalModels, tmp_path: Path
) -> None:
    folder = without(llama, tmp_path / "linked", "tokenizer.json")
    (tmp_path / "secret.json").write_text("{}")
    (folder / "tokenizer.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(
        InvalidInput, match=r"tokenizer\.json in .* is a link to .*secret\.json, ou"
    ):
        models.take(folder, LOCAL)


def test_a_link_in_a_snapshot_that_leads_out_is_refused(
    hub: Hub, llama: Path, models: LocalModels, tmp_path: Path
) -> None:
    commit = hub.put("ann/tiny", llama)
    snapshot = models.cache.snapshot("ann/tiny", commit)
    snapshot.mkdir(parents=True)
    (tmp_path / "passwords.json").write_text("{}")
    (snapshot / "tokenizer_config.json").symlink_to(tmp_path / "passwords.json")
    with pytest.raises(InvalidInput, match=r"is a link to .*passwords\.json, outside of it"):
        fetch(models)
    assert nothing_is_left(models)
    assert (tmp_path / "passwords.json").exists()


def test_too_little_room_is_said_before_anything_is_fetched(
    hub: Hub, llama: Path, models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/tiny", llama)
    monkeypatch.setattr("wordmill.local_models.local_models.room", lambda _: 1_000_000)
    with pytest.raises(InvalidInput, match="the disk has room for 1 MB"):
        fetch(models)
    assert not any(one.store for one in hub.log)


def wished(hub: Hub, models: LocalModels, commit: str) -> fetching.Wish:
    files = tuple(
        Remote(name, path.stat().st_size, digests(path)[name.endswith(".safetensors")])
        for name, path in hub.repositories["ann/tiny"].commits[0].files.items()
    )
    return fetching.Wish(hub.url, None, str(models.folder), "ann/tiny", commit, files)


def test_a_disk_that_fills_up_on_the_way_is_given_back(
    hub: Hub, llama: Path, models: LocalModels, tmp_path: Path
) -> None:
    """The system itself refuses: a limit on the size of a file, as a full disk, in mid-write."""
    import resource
    import signal

    wish = wished(hub, models, hub.put("ann/tiny", llama))
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(StorageError, match="What had come of the model was removed again"):
            fetching.fetch(wish, ignored)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert nothing_is_left(models)
    assert [file for file in models.folder.rglob("*") if file.is_file()] == []


def test_two_at_once_do_not_meet_in_a_file(hub: Hub, llama: Path, models: LocalModels) -> None:
    import fcntl

    wish = wished(hub, models, hub.put("ann/tiny", llama))
    blob = models.cache.blob("ann/tiny", wish.files[0])
    part = caches.under_way(blob)
    part.parent.mkdir(parents=True)
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="is being fetched by another process"):
            fetching.fetch(wish, ignored)


def test_the_hubs_own_client_reads_what_was_fetched(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    model = models.fetch(ASK, LOCAL, ignored, never)
    api = HfApi(endpoint=hub.url, token=False)
    hub.log.clear()
    theirs = api.snapshot_download("ann/tiny", cache_dir=models.folder)
    assert Path(theirs) == model.path
    assert not any("/resolve/" in one.path for one in hub.log)
    found = scan_cache_dir(models.folder)
    assert found.warnings == []
    (repository,) = found.repos
    ((used, names),) = models.used()
    assert (repository.size_on_disk, set(repository.refs)) == (used.size, {"main"})
    assert names == ("tiny",)
    strategy = found.delete_revisions(used.commit)
    assert strategy.expected_freed_size == used.alone
    assert models.remove("tiny") == used.alone
    assert scan_cache_dir(models.folder).repos == frozenset()


def test_what_the_hubs_own_client_fetched_is_not_fetched_again(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    HfApi(endpoint=hub.url, token=False).snapshot_download("ann/tiny", cache_dir=models.folder)
    hub.log.clear()
    assert fetch(models) == "tiny"
    assert not any(one.store for one in hub.log)


def test_the_two_clients_say_the_same(hub: Hub, llama: Path, models: LocalModels) -> None:
    for number in range(5):
        hub.put(f"ann/tiny-{number}", llama, downloads=number, license="mit" if number else None)
    hub.page = 2
    api = HfApi(endpoint=hub.url, token=False)
    theirs = [one.id for one in api.list_models(search="tiny", sort="downloads", limit=5)]
    ours = [one.repository for one in models.search("tiny", limit=5)]
    assert ours == theirs == [f"ann/tiny-{number}" for number in (4, 3, 2, 1, 0)]
    info = api.model_info("ann/tiny-1", files_metadata=True)
    about = models.hub().about("ann/tiny-1")
    assert (about.commit, about.found.license) == (info.sha, "mit")
    assert info.safetensors is not None
    assert about.counts == info.safetensors.parameters
    assert {(one.rfilename, one.size) for one in info.siblings or ()} == {
        (one.name, one.size) for one in about.files
    }
    assert [one.commit for one in models.hub().history("ann/tiny-1")] == [
        one.commit_id for one in api.list_repo_commits("ann/tiny-1")
    ]


def test_no_file_of_the_fetch_is_left_open_to_others(
    hub: Hub, llama: Path, models: LocalModels
) -> None:
    hub.put("ann/tiny", llama)
    fetch(models)
    assert all(
        file.stat().st_mode & 0o077 == 0 for file in models.folder.rglob("*") if file.is_file()
    )


def test_a_model_of_several_files(hub: Hub, models: LocalModels, tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "parts", "mistral", shards=3)
    hub.put("ann/tiny", folder)
    fetch(models)
    (folder / "model-00002-of-00003.safetensors").unlink()
    hub.put("ann/lacking", folder)
    with pytest.raises(InvalidInput, match=r"lacks model-00002-of-00003\.safetensors, which"):
        fetch(models, Ask("ann/lacking"))
    assert models.registry.names() == ["tiny"]


def test_a_licence_that_is_not_allowed(hub: Hub, llama: Path, models: LocalModels) -> None:
    hub.put("ann/tiny", llama, license="cc-by-nc-4.0")
    object.__setattr__(models.settings, "model_licenses", ("mit", "apache-2.0"))
    with pytest.raises(InvalidInput, match=r"is cc-by-nc-4\.0; the setting model_licenses allows"):
        fetch(models)
