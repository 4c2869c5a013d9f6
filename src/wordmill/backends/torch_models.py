"""Loading a folder with transformers: which class, which numbers, which device.

Weights come from safetensors alone, and the code of strangers stays out unless an admin has
allowed it for this repository and revision.
"""

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from wordmill.backends.base import Options, Task
from wordmill.backends.folders import Folder, Reading
from wordmill.backends.torch_speed import quicken
from wordmill.errors import ConfigError

DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TOGETHER: Final = 32
"""Texts that are embedded in one pass."""
_STATES: Final = ("mamba", "linear_attention", "conv", "recurrent", "hybrid")


@dataclass
class Loaded:
    """A model, or an encoder. layers: that keep keys and values."""

    task: Task
    model: Any
    encoder: "Encoder | None"
    device: str
    dtype: str
    layers: int


def load(folder: Folder, options: Options) -> Loaded:
    """Raises ConfigError for what cannot be loaded, in words."""
    config = folder.config
    known = config.get("model_type") in transformers.CONFIG_MAPPING
    if config.get("auto_map") and not known and not options.remote_code:
        raise ConfigError(
            f"The model in {folder.path} brings code of its own, which is not run here. An admin "
            "may allow it for one repository and revision (setting remote_code)."
        )
    task = folder.task
    kinds: dict[Task, Any] = {
        "chat": transformers.AutoModelForCausalLM,
        "rerank": transformers.AutoModelForSequenceClassification,
        "embeddings": transformers.AutoModel,
    }
    kind = kinds[task]
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = options.dtype or _best(device, config)
    try:
        model = kind.from_pretrained(
            str(folder.path),
            dtype=DTYPES[name],
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=options.remote_code,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        first = (
            str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "no reason"
        )
        raise ConfigError(f"transformers cannot load {folder.path}: {first}.") from error
    model = model.to(device).eval()
    model.wordmill_keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    if task != "chat":
        reading = folder.reading if task == "embeddings" else None
        return Loaded(task, None, Encoder(folder, model, reading), device, name, 0)
    text = model.config.get_text_config()
    layers = {str(one) for one in getattr(text, "layer_types", None) or ()}
    if any(word in one for one in layers for word in _STATES) or getattr(
        model, "_is_stateful", False
    ):
        raise ConfigError(
            f"The model in {folder.path} ({folder.kind}) keeps a state instead of keys and values, "
            "which this engine cannot batch. Run it as GGUF."
        )
    if device == "cpu":
        quicken(model)
    return Loaded(task, model, None, device, name, int(text.num_hidden_layers))


def _best(device: str, config: dict[str, Any]) -> str:
    """bfloat16 where it is fast; else as it is on a GPU, and float32 on a processor."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device == "mps":
        return "float16"
    flags = _flags()
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & flags else "float32"


def _flags() -> set[str]:
    """What the processor can, in Linux's words; empty elsewhere."""
    if not os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 (a file of the system)
        return set()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


class Encoder:
    """A model that reads: vectors of texts, or scores of pairs, where there is no `reading`."""

    def __init__(self, folder: Folder, model: Any, reading: Reading | None) -> None:
        from tokenizers import Tokenizer

        self._model = model
        self._tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
        most = folder.json("sentence_bert_config.json").get("max_seq_length") or folder.context
        self._tokenizer.enable_truncation(int(most) if most else 512)
        pad = int(folder.config.get("pad_token_id") or 0)
        self._tokenizer.enable_padding(pad_id=pad)
        self._reading = reading or Reading("mean", True)

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Vectors of texts, and the tokens read. Long ones are not read with short ones."""
        order = sorted(range(len(texts)), key=lambda one: len(texts[one]))
        vectors: list[list[float]] = [[]] * len(texts)
        tokens = 0
        for at in range(0, len(order), TOGETHER):
            part = order[at : at + TOGETHER]
            inputs, mask = self._inputs([texts[one] for one in part])
            tokens += int(mask.sum())
            hidden = self._model(**inputs, attention_mask=mask).last_hidden_state.float()
            for index, vector in zip(part, self._pooled(hidden, mask).tolist(), strict=True):
                vectors[index] = vector
        return vectors, tokens

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        if self._reading.pooling == "cls":
            pooled = hidden[:, 0]
        elif self._reading.pooling == "last":
            last = mask.sum(dim=1) - 1
            pooled = hidden[torch.arange(hidden.shape[0]), last]
        else:
            weights = mask[..., None].float()
            pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=-1) if self._reading.unit else pooled

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """Scores from 0 to 1 of documents, and the tokens read."""
        scores: list[float] = []
        tokens = 0
        for at in range(0, len(documents), TOGETHER):
            part = [(query, one) for one in documents[at : at + TOGETHER]]
            inputs, mask = self._inputs(part)
            tokens += int(mask.sum())
            logits = self._model(**inputs, attention_mask=mask).logits.float()
            one = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=-1)[:, -1]
            scores += one.tolist()
        return scores, tokens

    def _inputs(
        self, texts: "Sequence[str] | Sequence[tuple[str, str]]"
    ) -> tuple[dict[str, Any], Any]:
        read = self._tokenizer.encode_batch(list(texts))
        device = self._model.device
        inputs = {"input_ids": torch.tensor([one.ids for one in read], device=device)}
        if "token_type_ids" in inspect.signature(self._model.forward).parameters:
            inputs["token_type_ids"] = torch.tensor([one.type_ids for one in read], device=device)
        return inputs, torch.tensor([one.attention_mask for one in read], device=device)
