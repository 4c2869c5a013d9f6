"""What the files of a model's folder say about it: window, end tokens, kind, tokenizer.

Read without any engine. Hugging Face's layout is taken as it is; what a file says wrongly or not
at all is an error in words or a plain default, never a guess that is kept silent.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from wordmill.backends.base import Task
from wordmill.errors import ConfigError, ExtraMissing

_WAYS: Final = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_WINDOWS: Final = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
_MODULES: Final = "modules.json"
"""What sentence-transformers does one after another, where a model is for its texts."""
Pooling: TypeAlias = Literal["mean", "cls", "last"]
_POOLED: Final[dict[str, Pooling]] = {
    "mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last",
}  # fmt: skip
_STEP: Final = re.compile(r"[A-Za-z0-9_]{0,40}")


def task_of(kind: str, *, sentences: bool) -> Task:
    """What a model of a class is for. sentences: it is one of sentence-transformers' models."""
    if kind.endswith("ForSequenceClassification"):
        return "rerank"
    reads = kind.endswith("Model") and not kind.endswith("LMHeadModel")
    return "embeddings" if reads or sentences else "chat"


@dataclass(frozen=True)
class Reading:
    """How the vectors of a text's tokens become one. pooling: which of them.  unit: its length is
    made 1.
    """

    pooling: Pooling
    unit: bool


@dataclass(frozen=True)
class Folder:
    """A model's folder. Raises ConfigError from its properties for a file that cannot be read."""

    path: Path
    _read: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def json(self, name: str, *, needed: bool = False) -> dict[str, Any]:
        """A JSON object of the folder; empty where the file is absent and not needed."""
        if name not in self._read:
            self._read[name] = self._load(name, needed)
        value: dict[str, Any] = self._read[name]
        return value

    def _load(self, name: str, needed: bool) -> dict[str, Any]:
        file = self.path / name
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            if not needed:
                return {}
            raise ConfigError(
                f"The folder {self.path} has no {name}: it is not a whole model. Fetch it again, "
                "or name the folder that holds config.json."
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"The file {file} cannot be read: {error}.") from error
        if not isinstance(value, dict):
            raise ConfigError(f"The file {file} does not hold a JSON object.")
        return value

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; of a model that also sees or hears, the part that is about text."""
        whole = self.json("config.json", needed=True)
        text = whole.get("text_config")
        return {**whole, **text} if isinstance(text, dict) else whole

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together; 0 where no file says it."""
        for name in _WINDOWS:
            value = self.config.get(name)
            if isinstance(value, int) and value > 0:
                return value
        return 0

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer, of the generation config before the model's own."""
        for file in ("generation_config.json", "config.json"):
            value = (self.config if file == "config.json" else self.json(file)).get("eos_token_id")
            if isinstance(value, int) and not isinstance(value, bool):
                return frozenset({value})
            if isinstance(value, list) and value:
                return frozenset(int(one) for one in value)
        return frozenset()

    @property
    def ways(self) -> dict[str, float]:
        """How its makers have it choose, of the generation config: temperature, top_k, ..."""
        held = self.json("generation_config.json")
        found = {name: held.get(name) for name in _WAYS}
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        }

    @property
    def kind(self) -> str:
        """The class that the model says it is, as in `LlamaForCausalLM`; empty where it is not."""
        names = self.config.get("architectures") or [""]
        return str(names[0])

    @property
    def task(self) -> Task:
        """What the model is for, by its class and by what lies beside it."""
        return task_of(self.kind, sentences=(self.path / _MODULES).is_file())

    @property
    def reading(self) -> Reading:
        """How its makers have it read texts. Raises ConfigError for a way that is not known here:
        other vectors than theirs would be of no use.
        """
        steps = self._steps()
        unknown = sorted(set(steps) - {"Transformer", "Pooling", "Normalize"})
        if unknown:
            raise ConfigError(
                f"The model in {self.path} goes through {', '.join(unknown)} after the model "
                "itself, which Wordmill cannot do. Take another model for embeddings."
            )
        pooling = self.json(f"{steps.get('Pooling', '1_Pooling') or '.'}/config.json")
        named = pooling.get("pooling_mode")
        names = [named] if isinstance(named, str) else list(named or ())
        names += [
            name.removeprefix("pooling_mode_")
            for name, value in pooling.items()
            if name.startswith("pooling_mode_") and value is True
        ]
        kinds = {_POOLED.get(str(name)) for name in names or ["mean"]}
        kind = kinds.pop()
        if kinds or kind is None:
            raise ConfigError(
                f"The model in {self.path} makes one vector of a text by {', '.join(names)}; "
                "Wordmill can by mean, cls or lasttoken. Take another model for embeddings."
            )
        unit = "Normalize" in steps if steps else not pooling
        return Reading(kind, unit)

    def _steps(self) -> dict[str, str]:
        """Of `modules.json`: what is done, by its name, and its folder; empty without the file."""
        file = self.path / _MODULES
        if not file.is_file():
            return {}
        try:
            listed = json.loads(file.read_text(encoding="utf-8"))
            found = {
                str(one["type"]).rpartition(".")[2]: str(one.get("path") or "") for one in listed
            }
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ConfigError(f"The file {file} cannot be read: {error}.") from error
        for name, path in found.items():
            if not _STEP.fullmatch(path):
                raise ConfigError(f"In {file}, {path!r} is no folder for {name[:80]}.")
        return found

    @property
    def template(self) -> str | None:
        """The chat template; of several, the one named `default`."""
        file = self.path / "chat_template.jinja"
        if file.is_file():
            try:
                return file.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise ConfigError(f"The file {file} cannot be read: {error}.") from error
        found = self.json("tokenizer_config.json").get("chat_template")
        if isinstance(found, list):
            named = {str(one.get("name")): one.get("template") for one in found}
            found = named.get("default") or next(iter(named.values()), None)
        return found if isinstance(found, str) and found else None

    @property
    def special(self) -> dict[str, str]:
        """Special tokens by name, as chat templates call them."""
        found = {**self.json("special_tokens_map.json"), **self.json("tokenizer_config.json")}
        special = {}
        for name, value in found.items():
            if not name.endswith("_token"):
                continue
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                special[name] = text
        return special


class FolderWords:
    """The tokenizer of a folder, from its tokenizer.json."""

    def __init__(self, folder: Folder) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ExtraMissing("The package tokenizers", "cpu") from error
        file = folder.path / "tokenizer.json"
        if not file.is_file():
            raise ConfigError(
                f"The folder {folder.path} has no tokenizer.json. Fetch the whole repository; "
                "where it has only a slow tokenizer, run the model as GGUF."
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises no narrower one
            raise ConfigError(f"The tokenizer {file} cannot be read: {error}.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.template = folder.template
        self.special = folder.special
        self.vocabulary: int = self._tokenizer.get_vocab_size()

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decoding(self, *, special: bool) -> "FolderDecoding":
        """For one answer."""
        return FolderDecoding(self._tokenizer, special)

    def word(self, token: int) -> str:
        """The text of one token alone."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text

    def text(self) -> str:
        """The tokenizer itself as JSON."""
        whole: str = self._tokenizer.to_str()
        return whole


class FolderDecoding:
    """Tokens of one answer into text, as they come."""

    def __init__(self, tokenizer: Any, special: bool) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._skip = tokenizer, not special
        self._stream = DecodeStream(skip_special_tokens=self._skip)
        self._kept: list[int] = []

    def add(self, tokens: Sequence[int]) -> str:
        """The text that is certain now."""
        made = ""
        for token in tokens:
            text = self._stream.step(self._tokenizer, token)
            if text is None:
                self._kept.append(token)
            else:
                self._kept.clear()
                made += text
        return made

    def end(self) -> str:
        """What was kept back: half a character, shown as the sign for what cannot be read."""
        if not self._kept:
            return ""
        text: str = self._tokenizer.decode(self._kept, skip_special_tokens=self._skip)
        self._kept.clear()
        return text
