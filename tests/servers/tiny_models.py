"""Models with random weights that load by path, made on the spot and without a hub.

`build(folder, "llama")` writes a folder of the Hugging Face layout: configuration, weights as
safetensors, a byte-level tokenizer trained here, a chat template. The shapes are those of
their families, only small, so every engine loads them as it loads the real ones. The same
seed gives the same bytes. Neither torch nor transformers is used.

Weights are scaled so that what comes out depends on what went in: a model with timid random
weights says one word for ever, and two engines that agree on that have shown nothing.

Families: llama, qwen2, qwen3, mistral (system message and tools in the template), gemma
(refuses a system message), gpt2 (no template), bert (embeddings), bert-ranker (reranking).
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DECODERS = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gpt2")
ENCODERS = ("bert", "bert-ranker")
FAMILIES = DECODERS + ENCODERS

LINES = [
    "The quick brown fox jumps over the lazy dog. ",
    "A mill grinds grain into flour, and words into rows. ",
    "Who asks politely is answered politely, and who asks twice is answered twice. ",
    'def grind(words): return [word.lower() for word in words]\n{"name": "Ada", "age": 36} ',
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Ça va? Привет, 你好 🙂 ",
    "0 1 2 3 4 5 6 7 8 9 [ ] ( ) < > / \\ | ! ? . , ; : ' - + = # % & * @ ",
]

TURNS = (
    "{%- if tools %}{{- '<|im_start|>system\nTools, one JSON object a line:\n<tools>' }}"
    "{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}"
    '{{- \'\n</tools>\nCall one with <tool_call>{"name": ..., "arguments": ...}</tool_call>'
    "<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content %}{{- message.content }}{%- endif %}"
    "{%- for call in message.tool_calls or [] %}{{- '<tool_call>' + (call.function | tojson)"
    " + '</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TURNS_MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'system' %}"
    "{{- '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}"
    "{%- elif message.role == 'user' %}{{- '[INST] ' + message.content + ' [/INST]' }}"
    "{%- else %}{{- ' ' + (message.content or '') + eos_token }}{%- endif %}{%- endfor %}"
)
TURNS_GEMMA = (
    "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'system' %}"
    "{{- raise_exception('System role not supported') }}{%- endif %}"
    "{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n'"
    " + message.content | trim + '<end_of_turn>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)


@dataclass(frozen=True)
class Words:
    """The special tokens of a family, and its chat template."""

    begin: str
    end: str
    others: tuple[str, ...] = ()
    template: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Special tokens in the order of their ids."""
        return tuple(dict.fromkeys((self.begin, *self.others, self.end)))


WORDS = {
    "llama": Words("<|endoftext|>", "<|im_end|>", ("<|im_start|>",), TURNS),
    "qwen2": Words("<|endoftext|>", "<|im_end|>", ("<|im_start|>",), TURNS),
    "qwen3": Words("<|endoftext|>", "<|im_end|>", ("<|im_start|>",), TURNS),
    "mistral": Words(
        "<s>",
        "</s>",
        ("<unk>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        TURNS_MISTRAL,
    ),
    "gemma": Words("<bos>", "<end_of_turn>", ("<start_of_turn>", "<eos>"), TURNS_GEMMA),
    "gpt2": Words("<|endoftext|>", "<|endoftext|>"),
    "bert": Words("[CLS]", "[SEP]", ("[PAD]", "[UNK]", "[MASK]")),
    "bert-ranker": Words("[CLS]", "[SEP]", ("[PAD]", "[UNK]", "[MASK]")),
}


@dataclass(frozen=True)
class Shape:
    """How large a model is; `context` in tokens."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    key_heads: int = 2
    inner: int = 128
    vocabulary: int = 512
    context: int = 512

    @property
    def head(self) -> int:
        return self.hidden // self.heads


TINY = Shape()
SMOLLM2_135M = Shape(30, 576, 9, 3, 1536, 49152, 8192)


@dataclass(frozen=True)
class Plan:
    """A model to be written: its configuration, and the shape of each tensor by name."""

    config: dict[str, Any]
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)


def build(
    folder: Path,
    family: str = "llama",
    *,
    shape: Shape = TINY,
    seed: int = 0,
    dtype: str = "float32",
    shards: int = 1,
    broken: bool = False,
) -> Path:
    """Write a model of `family` into `folder` (made if absent) and return the folder.

    dtype: float32, bfloat16 or float16.  shards: files that the weights are spread over.
    broken: the last norm is NaN, so that every logit is NaN.
    Raises KeyError for a family that is not in `FAMILIES`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS[family]
    if family in ENCODERS or family == "gpt2":
        shape = replace(shape, key_heads=shape.heads)
    plan = (_gpt2 if family == "gpt2" else _bert if family in ENCODERS else _llama)(family, shape)
    ids = {word: number for number, word in enumerate(words.all)}
    plan.config.update(
        dtype=dtype,
        torch_dtype=dtype,
        bos_token_id=ids[words.begin],
        eos_token_id=ids[words.end],
        pad_token_id=ids.get("[PAD]", ids[words.begin]),
    )
    _write_json(folder / "config.json", plan.config)
    tokens = {key: plan.config[f"{key}_token_id"] for key in ("bos", "eos", "pad")}
    if family in DECODERS:
        _write_json(
            folder / "generation_config.json",
            {f"{key}_token_id": number for key, number in tokens.items()},
        )
    _tokenizer(folder, family, shape)
    if family == "bert":
        _sentence_files(folder, shape)
    weights = dict(_weights(plan, seed))
    if broken:
        last = [name for name in weights if "norm" in name or "ln_f" in name][-1]
        weights[last] = np.full_like(weights[last], np.nan)
    save(folder, weights, dtype=dtype, shards=shards)
    return folder


def _llama(family: str, shape: Shape) -> Plan:
    """The family of Llama: rotary positions, gated inner layer, root-mean-square norms."""
    tied = family == "gemma"
    config: dict[str, Any] = {
        "architectures": [f"{family.capitalize()}ForCausalLM"],
        "model_type": family,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
    }
    act = "gelu_pytorch_tanh" if family == "gemma" else "silu"
    config["hidden_act"] = act
    if family == "gemma":
        config["hidden_activation"] = act
    if family == "mistral":
        config["sliding_window"] = None
    if family in {"qwen2", "qwen3"}:
        config |= {"use_sliding_window": False, "sliding_window": None}
    queries, keys = shape.heads * shape.head, shape.key_heads * shape.head
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocabulary, shape.hidden)
    }
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        tensors[f"{at}.input_layernorm.weight"] = (shape.hidden,)
        for name, width in (("q", queries), ("k", keys), ("v", keys)):
            tensors[f"{at}.self_attn.{name}_proj.weight"] = (width, shape.hidden)
            if family == "qwen2":
                tensors[f"{at}.self_attn.{name}_proj.bias"] = (width,)
        if family == "qwen3":
            tensors[f"{at}.self_attn.q_norm.weight"] = (shape.head,)
            tensors[f"{at}.self_attn.k_norm.weight"] = (shape.head,)
        tensors[f"{at}.self_attn.o_proj.weight"] = (shape.hidden, queries)
        tensors[f"{at}.post_attention_layernorm.weight"] = (shape.hidden,)
        tensors[f"{at}.mlp.gate_proj.weight"] = (shape.inner, shape.hidden)
        tensors[f"{at}.mlp.up_proj.weight"] = (shape.inner, shape.hidden)
        tensors[f"{at}.mlp.down_proj.weight"] = (shape.hidden, shape.inner)
    tensors["model.norm.weight"] = (shape.hidden,)
    if not tied:
        tensors["lm_head.weight"] = (shape.vocabulary, shape.hidden)
    return Plan(config, tensors)


def _gpt2(family: str, shape: Shape) -> Plan:
    """GPT-2: learned positions, weights stored input first, embeddings used again at the end."""
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": family,
        "n_embd": shape.hidden,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.inner,
        "n_positions": shape.context,
        "n_ctx": shape.context,
        "vocab_size": shape.vocabulary,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
    }
    tensors: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (shape.vocabulary, shape.hidden),
        "transformer.wpe.weight": (shape.context, shape.hidden),
    }
    for layer in range(shape.layers):
        at = f"transformer.h.{layer}"
        for name, rows, columns in (
            ("attn.c_attn", shape.hidden, 3 * shape.hidden),
            ("attn.c_proj", shape.hidden, shape.hidden),
            ("mlp.c_fc", shape.hidden, shape.inner),
            ("mlp.c_proj", shape.inner, shape.hidden),
        ):
            tensors[f"{at}.{name}.weight"] = (rows, columns)
            tensors[f"{at}.{name}.bias"] = (columns,)
        for name in ("ln_1", "ln_2"):
            tensors[f"{at}.{name}.weight"] = (shape.hidden,)
            tensors[f"{at}.{name}.bias"] = (shape.hidden,)
    tensors["transformer.ln_f.weight"] = (shape.hidden,)
    tensors["transformer.ln_f.bias"] = (shape.hidden,)
    return Plan(config, tensors)


def _bert(family: str, shape: Shape) -> Plan:
    """BERT: for embeddings (`bert`), or with one score at the end (`bert-ranker`)."""
    ranker = family == "bert-ranker"
    config: dict[str, Any] = {
        "architectures": ["BertForSequenceClassification" if ranker else "BertModel"],
        "model_type": "bert",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocabulary,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if ranker:
        config |= {"id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}
    top = "bert." if ranker else ""
    tensors: dict[str, tuple[int, ...]] = {}
    linear: list[tuple[str, int, int]] = []
    norms = [f"{top}embeddings.LayerNorm"]
    for name, rows in (
        ("word", shape.vocabulary),
        ("position", shape.context),
        ("token_type", 2),
    ):
        tensors[f"{top}embeddings.{name}_embeddings.weight"] = (rows, shape.hidden)
    for layer in range(shape.layers):
        at = f"{top}encoder.layer.{layer}"
        linear += [
            (f"{at}.attention.self.{name}", shape.hidden, shape.hidden)
            for name in ("query", "key", "value")
        ]
        linear += [
            (f"{at}.attention.output.dense", shape.hidden, shape.hidden),
            (f"{at}.intermediate.dense", shape.inner, shape.hidden),
            (f"{at}.output.dense", shape.hidden, shape.inner),
        ]
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    linear.append((f"{top}pooler.dense", shape.hidden, shape.hidden))
    if ranker:
        linear.append(("classifier", 1, shape.hidden))
    for name, rows, columns in linear:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = (rows, columns), (rows,)
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = (shape.hidden,), (shape.hidden,)
    return Plan(config, tensors)


def _weights(plan: Plan, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor by name; the draw depends on the seed and the name, not on the order."""
    gemma = plan.config["model_type"] == "gemma"
    for name, shape in plan.tensors.items():
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = random.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            norm = "norm" in name.lower() or "ln_" in name
            middle = 1.0 if norm and name.endswith("weight") and not gemma else 0.0
            yield name, (middle + 0.1 * values).astype(np.float32)
        elif "embed" in name or "wte" in name or "wpe" in name:
            yield name, values * np.float32(0.1 if gemma else 0.5)
        else:
            inputs = shape[0] if plan.config["model_type"] == "gpt2" else shape[1]
            yield name, values * np.float32(1.5 / np.sqrt(inputs))


# -- files ----------------------------------------------------------------------------


def save(
    folder: Path,
    weights: dict[str, NDArray[np.float32]],
    *,
    dtype: str = "float32",
    shards: int = 1,
) -> None:
    """Write weights as safetensors: one file, or `shards` files and their index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return
    names, index, total = list(weights), {}, 0
    for number in range(shards):
        part = names[number::shards]
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        total += write_safetensors(folder / file, {name: weights[name] for name in part}, dtype)
        index |= dict.fromkeys(part, file)
    whole = {"metadata": {"total_size": total}, "weight_map": index}
    _write_json(folder / "model.safetensors.index.json", whole)


def write_safetensors(path: Path, weights: dict[str, NDArray[np.float32]], dtype: str) -> int:
    """Write one safetensors file and return the bytes of its tensors.

    Source: the format's description at github.com/huggingface/safetensors.
    """
    kind = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    bodies, at = [], 0
    for name, values in weights.items():
        body = _narrowed(values, kind)
        offsets = [at, at + len(body)]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": offsets}
        bodies.append(body)
        at += len(body)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(bodies))
    return at


def _narrowed(values: NDArray[np.float32], kind: str) -> bytes:
    if kind == "F16":
        return values.astype(np.float16).tobytes()
    if kind == "F32":
        return np.ascontiguousarray(values).tobytes()
    if np.isnan(values).any():
        return np.full(values.shape, 0x7FC0, dtype=np.uint16).tobytes()
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def _tokenizer(folder: Path, family: str, shape: Shape) -> None:
    words = WORDS[family]
    whole = json.loads(_trained(words.all, min(shape.vocabulary, 512)))
    vocabulary = whole["model"]["vocab"]
    for number in range(len(vocabulary), shape.vocabulary):
        vocabulary[f"Ġw{number}"] = number  # never typed, but every id that comes out has a text
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    if family in ENCODERS:
        first, last = (words.all.index(word) for word in (words.begin, words.end))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.begin} $A {words.end}",
            pair=f"{words.begin} $A {words.end} $B:1 {words.end}:1",
            special_tokens=[(words.begin, first), (words.end, last)],
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": words.begin,
        "eos_token": words.end,
        "pad_token": "[PAD]" if "[PAD]" in words.all else words.begin,
        "unk_token": words.begin,
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    if family in ENCODERS:
        config |= {"cls_token": words.begin, "sep_token": words.end, "mask_token": "[MASK]"}
    if words.template:
        config["chat_template"] = words.template
        (folder / "chat_template.jinja").write_text(words.template)
    _write_json(folder / "tokenizer_config.json", config)
    special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    _write_json(folder / "special_tokens_map.json", special)


@lru_cache
def _trained(special: tuple[str, ...], size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 5, trainer)
    text: str = tokenizer.to_str()
    return text


def _sentence_files(folder: Path, shape: Shape) -> None:
    """What sentence-transformers reads beside the model: mean pooling, then unit length."""
    steps = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else f"{number}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(steps)
    ]
    _write_json(folder / "modules.json", modules)
    settings = {"max_seq_length": shape.context, "do_lower_case": False}
    _write_json(folder / "sentence_bert_config.json", settings)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {
        "word_embedding_dimension": shape.hidden,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    _write_json(folder / "1_Pooling" / "config.json", pooling)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
