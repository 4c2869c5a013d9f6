"""How a model reads texts, from the files that sentence-transformers writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from wordmill.backends.folders import Folder, Reading
from wordmill.errors import ConfigError


def folder(path: Path, kind: str, steps: list[tuple[str, str]], pooling: Any = None) -> Folder:
    (path / "config.json").write_text(json.dumps({"architectures": [kind]}))
    if steps:
        modules = [{"type": f"sentence_transformers.models.{one}", "path": at} for one, at in steps]
        (path / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return Folder(path)


BOTH = [("Transformer", ""), ("Pooling", "1_Pooling")]
UNIT = [*BOTH, ("Normalize", "2_Normalize")]  # whose folder is empty, and so in no repository


@pytest.mark.parametrize(
    ("steps", "pooling", "wanted"),
    [
        ([], None, Reading("mean", True)),
        (UNIT, {"pooling_mode_mean_tokens": True}, Reading("mean", True)),
        (BOTH, {"pooling_mode_mean_tokens": True}, Reading("mean", False)),
        (UNIT, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
         Reading("cls", True)),
        (UNIT, {"pooling_mode_lasttoken": True, "include_prompt": True}, Reading("last", True)),
        (UNIT, {"pooling_mode": "lasttoken"}, Reading("last", True)),
        (UNIT, {"pooling_mode": ["cls"]}, Reading("cls", True)),
    ],
)  # fmt: skip
def test_a_model_reads_as_its_makers_say(
    tmp_path: Path, steps: list[tuple[str, str]], pooling: Any, wanted: Reading
) -> None:
    assert folder(tmp_path, "BertModel", steps, pooling).reading == wanted


@pytest.mark.parametrize(
    ("steps", "pooling", "words"),
    [
        ([*BOTH, ("Dense", "2_Dense")], {"pooling_mode": "mean"}, "goes through Dense after"),
        (BOTH, {"pooling_mode_max_tokens": True}, "by max_tokens; Wordmill can"),
        (BOTH, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token, "),
        ([("Pooling", "../../etc")], None, "is no folder for Pooling"),
    ],
)
def test_another_way_is_refused_by_name(
    tmp_path: Path, steps: list[tuple[str, str]], pooling: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        _ = folder(tmp_path, "BertModel", steps, pooling).reading


def test_what_a_model_is_for(tmp_path: Path) -> None:
    assert folder(tmp_path, "Qwen3ForCausalLM", []).task == "chat"
    assert folder(tmp_path, "Qwen3ForCausalLM", UNIT).task == "embeddings"
    assert folder(tmp_path, "BertForSequenceClassification", UNIT).task == "rerank"
    assert folder(tmp_path, "BertModel", []).task == "embeddings"


def test_modules_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    one = folder(tmp_path, "BertModel", [])
    (tmp_path / "modules.json").write_text('[{"path": ""}]')
    with pytest.raises(ConfigError, match=r"modules\.json cannot be read"):
        _ = one.reading
