"""What the files of a model say of it, read without loading it: headers and configurations alone.

Nothing here trusts a file: a header has a ceiling, what it names must lie inside the file, and a
number that is no number is a sentence and no traceback.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from wordmill.backends.folders import task_of
from wordmill.errors import InvalidInput
from wordmill.local_models.gguf import read_gguf
from wordmill.local_models.rules import check_file
from wordmill.local_models.types import Facts, Form, Task
from wordmill.storage import said

HEADER: Final = 100 << 20
"""Bytes of the longest header that is read, as the format's own reader has it."""
SMALL: Final = 64 << 20
"""Bytes of the longest JSON file that is read: a tokenizer."""

_WIDTH: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8,
}  # fmt: skip
_SIGNS: Final = tuple(
    (f'element_type="{sign}"'.encode(), dtype)
    for sign, dtype in (
        ("u4", "int4"), ("i4", "int4"), ("u8", "int8"), ("i8", "int8"),
        ("bf16", "bfloat16"), ("f16", "float16"),
    )
)  # fmt: skip
"""By what a converted graph shows the precision of its weights, the smallest first."""
_DTYPES: Final = {"F32": "float32", "F64": "float32", "F16": "float16", "BF16": "bfloat16",
                  "F8_E4M3": "int8", "F8_E5M2": "int8", "I8": "int8", "U8": "int4"}  # fmt: skip


def form_of(path: Path) -> Form:
    """How the weights at a path are kept. Raises InvalidInput where there are none."""
    if path.is_file():
        return "gguf"
    if (path / "openvino_model.xml").is_file():
        return "openvino"
    if any(path.glob("*.safetensors")):
        return "safetensors"
    if len(list(path.glob("*.gguf"))) == 1:
        return "gguf"
    raise InvalidInput(
        f"{path} has no weights: neither *.safetensors, nor openvino_model.xml, nor a *.gguf."
    )


def facts_of(path: Path) -> Facts:
    """What a folder or a GGUF file says of its model; every header is checked on the way.

    Raises InvalidInput for what is missing, damaged, or does not belong together; StorageError.
    """
    form = form_of(path)
    if form == "gguf":
        file = path if path.is_file() else next(path.glob("*.gguf"))
        return read_gguf(file)
    config = read_json(path / "config.json")
    with said(path):
        files = sorted(path.glob("*.safetensors" if form == "safetensors" else "*.bin"))
        whole = sum(file.stat().st_size for file in files)
    sentences = (path / "modules.json").is_file()
    if form == "openvino":
        if not (path / "openvino_model.bin").is_file():
            raise InvalidInput(f"{path} has openvino_model.xml and no openvino_model.bin.")
        facts = facts_from(config, {}, whole, has_template(path), sentences=sentences)
        dtype = _openvino_dtype(path)
        return _with(facts, dtype, facts.parameters)
    counts: dict[str, int] = {}
    names: set[str] = set()
    for file in files:
        for name, dtype, number in tensors(file):
            counts[dtype] = counts.get(dtype, 0) + number
            names.add(name)
    _check_index(path, names)
    _check_tokenizer(path, config)
    return facts_from(config, counts, whole, has_template(path), sentences=sentences)


def facts_from(
    config: Mapping[str, Any],
    counts: Mapping[str, int],
    weights: int,
    template: bool,
    *,
    sentences: bool,
) -> Facts:
    """What a configuration says. counts: parameters by the type of safetensors, where known.
    sentences: it is one of sentence-transformers' models (`modules.json` lies beside it).
    """
    inner = config.get("text_config")
    text: Mapping[str, Any] = inner if isinstance(inner, dict) else config

    def number(*names: str) -> int:
        for name in names:
            value = text.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 48:
                return value
        return 0

    heads, hidden = (
        number("num_attention_heads", "n_head"),
        number("hidden_size", "n_embd", "d_model"),
    )
    parameters = sum(counts.values())
    dtype = max(counts, key=lambda name: counts[name]) if counts else ""
    facts = Facts(
        architecture=_architecture(config),
        task=_task(config, sentences),
        parameters=parameters,
        weights=weights,
        dtype=_DTYPES.get(dtype, ""),
        context=number("max_position_embeddings", "n_positions", "n_ctx", "seq_length"),
        layers=number("num_hidden_layers", "n_layer", "num_layers"),
        hidden=hidden,
        key_heads=number("num_key_value_heads") or heads,
        head=number("head_dim") or (hidden // heads if heads else 0),
        vocabulary=number("vocab_size"),
        template=template,
    )
    return _with(facts, facts.dtype or _declared(config), parameters)


def _with(facts: Facts, dtype: str, parameters: int) -> Facts:
    from dataclasses import replace

    return replace(facts, dtype=dtype, parameters=parameters)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0][:100]
    kind = config.get("model_type")
    return kind[:100] if isinstance(kind, str) else ""


def _declared(config: Mapping[str, Any]) -> str:
    named = str(config.get("dtype") or config.get("torch_dtype") or "")
    return named if named in ("float32", "bfloat16", "float16") else ""


def _task(config: Mapping[str, Any], sentences: bool) -> Task:
    found = task_of(_architecture(config), sentences=sentences)
    return "reranking" if found == "rerank" else found


def has_template(path: Path) -> bool:
    """Whether a folder brings a chat template."""
    if (path / "chat_template.jinja").is_file():
        return True
    try:
        return bool(read_json(path / "tokenizer_config.json").get("chat_template"))
    except InvalidInput:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file. Raises InvalidInput for anything else."""
    try:
        if path.stat().st_size > SMALL:
            raise InvalidInput(f"{path.name} has more than {SMALL >> 20} MiB, and is not read.")
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{path.parent.name} has no {path.name}, without which nothing runs it."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path.name} of {path.parent.name} is no JSON that can be read."
        ) from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path.name} of {path.parent.name} holds no JSON object.")
    return value


def tensors(path: Path) -> list[tuple[str, str, int]]:
    """Name, type and number of values of each tensor of a safetensors file.

    Raises InvalidInput for a file that is not whole, or no such file; StorageError.
    """
    with said(path), path.open("rb") as file:
        return list(_tensors(file, path.name, path.stat().st_size))


def _tensors(file: BinaryIO, name: str, whole: int) -> Iterable[tuple[str, str, int]]:
    damaged = InvalidInput(f"{name} is no safetensors file, or is damaged.")
    head = file.read(8)
    if len(head) < 8:
        raise damaged
    (size,) = struct.unpack("<Q", head)
    if size > min(HEADER, whole - 8):
        raise damaged
    try:
        header = json.loads(file.read(size))
        entries = [(key, value) for key, value in header.items() if key != "__metadata__"]
        for key, value in entries:
            dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
            number = 1
            for side in shape:
                number *= side
            if not 0 <= begin <= end <= whole - 8 - size:
                raise InvalidInput(f"{name} is shorter than its header says: it was cut off.")
            if dtype in _WIDTH and number * _WIDTH[dtype] != end - begin:
                raise damaged
            yield str(key), str(dtype), number
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged from error


def _check_index(path: Path, names: set[str]) -> None:
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise InvalidInput(f"{index.name} of {path.name} has no weight_map.")
    files = {check_file(str(file)) for file in places.values()}
    lacking = sorted(file for file in files if not (path / file).is_file())
    if lacking:
        raise InvalidInput(f"{path.name} lacks {lacking[0]}, which its index of weights names.")
    absent = sorted(set(places) - names)
    if absent:
        raise InvalidInput(f"The weights of {path.name} lack {absent[0]}, which their index names.")


def _check_tokenizer(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a tokenizer whose words the model has no numbers for."""
    file = path / "tokenizer.json"
    inner = config.get("text_config")
    size = (inner if isinstance(inner, dict) else config).get("vocab_size")
    if not file.is_file() or not isinstance(size, int):
        return
    whole = read_json(file)
    model = whole.get("model")
    if not isinstance(model, dict):
        raise InvalidInput(f"tokenizer.json of {path.name} describes no tokenizer.")
    vocabulary, added = model.get("vocab"), whole.get("added_tokens")
    last = -1
    if isinstance(vocabulary, dict):
        last = max((one for one in vocabulary.values() if isinstance(one, int)), default=-1)
    elif isinstance(vocabulary, list):
        last = len(vocabulary) - 1
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            last = max(last, token["id"])
    if last >= size:
        raise InvalidInput(
            f"The tokenizer of {path.name} is another model's: it counts up to {last:,}, and the "
            f"model knows {size:,} tokens."
        )


def _openvino_dtype(path: Path) -> str:
    """The precision of a converted model, from what the converter wrote beside it."""
    for name, key in (("openvino_config.json", "dtype"), ("wordmill.json", "dtype")):
        try:
            named = str(read_json(path / name).get(key) or "")
        except InvalidInput:
            continue
        short = {"int4": "int4", "int8": "int8", "fp32": "float32", "fp16": "float16"}
        if named in short or named in short.values():
            return short.get(named, named)
    xml, binary = path / "openvino_model.xml", path / "openvino_model.bin"
    # Compressed weights stand as u8 or u4 in the graph; its beginning has some of them.
    with said(xml), xml.open("rb") as file:
        head = file.read(4 << 20)
    for sign, dtype in _SIGNS:
        if sign in head:
            return dtype
    return "float32" if binary.is_file() else ""
