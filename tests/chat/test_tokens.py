"""Tokens as the model's own tokenizer counts them, or as an estimate that learns."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from wordmill.chat import tokens as module
from wordmill.chat.tokens import PER_MESSAGE, PER_PICTURE, Tokens
from wordmill.models import checked
from wordmill.settings import Settings, load

MODEL = checked({"name": "mine", "base_url": "http://127.0.0.1:9/v1", "model": "makers/small-1"})
SAID = [{"role": "user", "content": "one two three unknown"}]


def write(file: Path) -> None:
    """A tokenizer to which a word is a token."""
    words = {word: number for number, word in enumerate(["?", "one", "two", "three"])}
    made = Tokenizer(WordLevel(words, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(file))


@pytest.fixture
def settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return load()


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """An empty cache of Hugging Face."""
    return tmp_path / "hub"


@pytest.fixture
def tokens(settings: Settings, hub: Path) -> Tokens:
    return Tokens(settings, {"HF_HUB_CACHE": str(hub)})


def test_without_a_tokenizer_bytes_are_counted(tokens):
    assert not tokens.exact(MODEL)
    assert tokens.count(MODEL, SAID) == PER_MESSAGE + 5  # 21 bytes
    assert tokens.count(MODEL, [{"role": "user", "content": "ÄÖÜäöü"}]) == PER_MESSAGE + 3


def test_the_data_folder_has_the_models_tokenizer(tokens, home):
    write(home / "tokenizers" / "mine.json")
    assert tokens.exact(MODEL)
    assert tokens.count(MODEL, SAID) == PER_MESSAGE + 4
    assert not tokens.exact(replace(MODEL, name="another", model="other"))


def test_a_name_with_a_slash_stays_in_the_folder(tokens, home):
    write(home / "tokenizers" / "org%2Fmine.json")
    assert tokens.exact(replace(MODEL, name="org/mine", model="x"))


def test_the_model_is_a_folder_here(tokens, tmp_path):
    write(tmp_path / "weights" / "tokenizer.json")
    assert tokens.exact(replace(MODEL, model=str(tmp_path / "weights")))


def test_the_cache_of_hugging_face_has_it(tokens, hub):
    repository = hub / "models--makers--small-1"
    write(repository / "snapshots" / "0a1b2c" / "tokenizer.json")
    assert tokens.file(MODEL) is None  # nothing says which revision holds
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a1b2c\n")
    fresh = replace(MODEL, name="fresh")
    assert tokens.file(fresh) == repository / "snapshots" / "0a1b2c" / "tokenizer.json"
    assert tokens.count(fresh, SAID) == PER_MESSAGE + 4


@pytest.mark.parametrize("name", ["../secret", "a/../../b", "makers/small-1/x", "makers"])
def test_what_is_no_repository_is_not_looked_for(tokens, name):
    assert tokens.file(replace(MODEL, model=name)) is None


def test_where_the_cache_is(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variables, place in (
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, Path("/a")),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, Path("/b/hub")),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/huggingface/hub")),
        ({}, tmp_path / ".cache/huggingface/hub"),
    ):
        assert Tokens(settings, variables)._cache == place


def test_one_that_is_put_there_later_is_found(tokens, home, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.0)
    assert not tokens.exact(MODEL)
    file = home / "tokenizers" / "mine.json"
    write(file)
    assert tokens.exact(MODEL)
    file.write_text("nonsense")
    os.utime(file, (1, 1))
    assert not tokens.exact(MODEL)


def test_what_is_no_tokenizer_is_said_and_estimated(tokens, home, caplog):
    (home / "tokenizers").mkdir(parents=True)
    (home / "tokenizers" / "mine.json").write_text("nonsense")
    with caplog.at_level(logging.WARNING):
        assert tokens.count(MODEL, SAID) == PER_MESSAGE + 5
    assert "mine.json is no tokenizer" in caplog.text


def test_the_error_is_told_and_learnt_from(tokens):
    long = [{"role": "user", "content": "x" * 3984}]  # 1000 by the estimate
    assert tokens.count(MODEL, long) == 1000
    assert tokens.learn(MODEL, long, 500) == pytest.approx(1.0)  # twice as many
    assert tokens.count(MODEL, long) == 500
    assert tokens.learn(MODEL, long, 500) == pytest.approx(0.0)
    assert tokens.count(replace(MODEL, name="another"), long) == 1000
    assert tokens.learn(MODEL, [], 5) == 0.0


def test_pictures_and_calls_count_too(tokens):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "word"}
    assert tokens.count(MODEL, [{"role": "user", "content": [text, picture]}]) == (
        PER_MESSAGE + 1 + PER_PICTURE
    )
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    assert tokens.count(MODEL, [{"role": "assistant", "content": "", "tool_calls": [call]}]) > 15
