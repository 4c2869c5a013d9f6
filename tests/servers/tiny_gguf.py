"""A tiny model of `tiny_models` as a GGUF file, written with the package `gguf` alone.

The names of tensors are those that llama.cpp reads; queries and keys of Llama's family are laid out
as it turns them, and what other families add is added here.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

KINDS = {"mistral": "llama", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"} | {
    "gemma": "gemma",
    "gpt2": "gpt2",
}


def write(model: Path, file: Path, kind: str = "f32") -> Path:
    """The folder `model` as `file`. kind: f32 or q8_0."""
    config = json.loads((model / "config.json").read_text())
    family = config["model_type"]
    name = KINDS[family]
    writer = gguf.GGUFWriter(file, name)
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    keys = config.get("num_key_value_heads", heads)
    hidden = config.get("hidden_size", config.get("n_embd"))
    writer.add_context_length(config.get("max_position_embeddings", config.get("n_positions")))
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config.get("intermediate_size", config.get("n_inner")))
    writer.add_head_count(heads)
    writer.add_vocab_size(config["vocab_size"])
    if family == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(keys)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    _tokenizer(writer, model, config)
    names = gguf.get_tensor_name_map(
        {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[name], layers
    )
    quantized = {
        "f32": gguf.GGMLQuantizationType.F32,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[kind]
    for tensor, values in _tensors(model).items():
        target = names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        assert target is not None, tensor
        values = _fitted(family, tensor, values, heads, keys)
        form = quantized if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(target, gguf.quants.quantize(values, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _tensors(model: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    held: dict[str, NDArray[np.float32]] = load_file(model / "model.safetensors")
    return held


def _fitted(
    family: str, name: str, values: NDArray[np.float32], heads: int, keys: int
) -> NDArray[np.float32]:
    if family in ("llama", "mistral"):
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            return _turned(values, heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            return _turned(values, keys)
    if family == "gemma" and "norm" in name:
        return values + np.float32(1)
    if (
        family == "gpt2"
        and values.ndim == 2
        and name.split(".")[-2] in ("c_attn", "c_proj", "c_fc")
    ):
        return np.ascontiguousarray(values.T)
    return values


def _turned(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    parts = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(values.shape))


def _tokenizer(writer: gguf.GGUFWriter, model: Path, config: dict[str, Any]) -> None:
    whole = json.loads((model / "tokenizer.json").read_text())
    tokens = [""] * config["vocab_size"]
    types = [gguf.TokenType.NORMAL] * config["vocab_size"]
    for text, number in whole["model"]["vocab"].items():
        tokens[number] = text
    for added in whole["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL
    merges = [one if isinstance(one, str) else " ".join(one) for one in whole["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    template = model / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text())
