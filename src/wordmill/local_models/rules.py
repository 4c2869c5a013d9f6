"""What may come onto this machine: names, files, licences, code.

Weights come as safetensors, OpenVINO or GGUF, which are numbers and nothing else. A pickle is a
program that runs when it is opened, so it is refused; so is a repository whose model needs code of
its own, unless an admin allowed it for exactly that repository at exactly that revision.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from wordmill.errors import InvalidInput
from wordmill.local_models.types import Form, Remote

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
FILES: Final = 2000
"""Files of a repository with more are not looked through."""

_PICKLED: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_WORDS: Final = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|preprocessor_config|modules|sentence_bert_config|config_sentence_transformers"
    r"|openvino_config|chat_template|wordmill)\.json|[^/]+\.(jinja|model)|merges\.txt|vocab\.txt"
    r"|1_Pooling/config\.json|README\.md|(LICENSE|NOTICE)[^/]*",
    re.IGNORECASE,
)
_OPENVINO: Final = re.compile(r"openvino_[a-z_]+\.(xml|bin)")
WHOLE: Final = "model.safetensors"
_PART: Final = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
NATIVE: Final = frozenset({
    "bert", "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "falcon", "gemma",
    "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "gpt2", "gpt_neo", "gpt_neox", "gptj",
    "granite", "llama", "mistral", "mixtral", "modernbert", "mpt", "olmo", "olmo2",
    "opt", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "roberta", "smollm3",
    "stablelm", "starcoder2", "xlm-roberta",
})  # fmt: skip
"""Architectures that run without code of the repository, even where one brings some."""


def check_repository(name: str) -> str:
    """The name of a repository, as owner/name. Raises InvalidInput."""
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        raise InvalidInput(
            f"{name[:200]!r} is no repository of the hub: they are written owner/name, as "
            "HuggingFaceTB/SmolLM2-135M-Instruct.",
            "repository",
        )
    return name


def check_revision(name: str) -> str:
    """The name of a branch or a tag, or a commit. Raises InvalidInput."""
    if not _REVISION.fullmatch(name) or ".." in name or "//" in name:
        raise InvalidInput(
            f"{name[:200]!r} is no revision: it is a branch, a tag, or the 40 digits of a commit.",
            "revision",
        )
    return name


def check_file(name: str) -> str:
    """The name of a file inside a repository. Raises InvalidInput."""
    path = PurePosixPath(name)
    odd = path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable()
    if odd or not path.parts or len(name) > 300 or str(path) != name:
        raise InvalidInput(f"The repository lists a file {name[:200]!r}, which leads elsewhere.")
    return name


def chosen(
    files: Sequence[Remote], repository: str, gguf: str | None = None, code: bool = False
) -> tuple[Form, list[Remote]]:
    """The files of a repository that are needed, and the form of its weights.

    gguf: the one of several GGUF files.  code: Python files too, as an admin allowed.
    Raises InvalidInput for a repository without configuration or weights, with pickled ones, with
    files that lead elsewhere, or where one of several must be named.
    """
    if len(files) > FILES:
        raise InvalidInput(f"{repository} has {len(files):,} files; at most {FILES:,} are read.")
    named = {check_file(file.name): file for file in files}
    words = [file for name, file in named.items() if _WORDS.fullmatch(name)]
    quantized = {name: file for name, file in named.items() if name.endswith(".gguf")}
    if gguf is not None or (quantized and "config.json" not in named):
        return "gguf", [_one_gguf(quantized, repository, gguf), *_pages(words)]
    if "config.json" not in named:
        raise InvalidInput(
            f"{repository} has no config.json, so nothing says what model it is. Is it a data set, "
            "an adapter, or a collection of other files?"
        )
    if "openvino_model.xml" in named:
        if "openvino_model.bin" not in named:
            raise InvalidInput(f"{repository} has openvino_model.xml and no openvino_model.bin.")
        parts = [file for name, file in named.items() if _OPENVINO.fullmatch(name)]
        return "openvino", words + parts
    weights = _safetensors(named)
    if not weights:
        if quantized:
            return "gguf", [_one_gguf(quantized, repository, None), *_pages(words)]
        raise InvalidInput(_without_weights(repository, named))
    index = [file for name, file in named.items() if name == "model.safetensors.index.json"]
    programs = [file for name, file in named.items() if code and name.endswith(".py")]
    return "safetensors", words + index + weights + programs


def _pages(words: Sequence[Remote]) -> list[Remote]:
    """Of the small files, those that a GGUF file does not hold itself."""
    return [file for file in words if file.name.startswith(("README", "LICENSE", "NOTICE"))]


def _safetensors(named: Mapping[str, Remote]) -> list[Remote]:
    """The files that engines look for: one, or several parts of one."""
    if WHOLE in named:
        return [named[WHOLE]]
    return [named[name] for name in sorted(named) if _PART.fullmatch(name)]


def _without_weights(repository: str, named: Collection[str]) -> str:
    pickled = sorted(name for name in named if name.endswith(_PICKLED))
    if any(name.startswith("adapter_") for name in named):
        return (
            f"{repository} is an adapter, which changes another model and is none itself. Fetch "
            "the model that it was merged into."
        )
    if pickled:
        return (
            f"{repository} has its weights only as a pickle ({pickled[0]}): opening one runs "
            "whatever program is in it, so it is refused. Look for a repository, or a revision, "
            "with *.safetensors."
        )
    others = sorted(name for name in named if name.endswith(".safetensors"))
    if others:
        return f"{repository} calls its weights {others[0]}; engines look for {WHOLE}."
    return f"{repository} has a config.json and no weights (*.safetensors)."


def _one_gguf(files: Mapping[str, Remote], repository: str, wanted: str | None) -> Remote:
    if wanted is not None:
        if wanted not in files:
            raise InvalidInput(
                f"{repository} has no file {wanted[:200]!r}. {_offered(files)}", "file"
            )
        found = files[wanted]
    elif len(files) == 1:
        (found,) = files.values()
    else:
        raise InvalidInput(
            f"{repository} has {len(files)} GGUF files: name one. {_offered(files)}", "file"
        )
    if _SHARD.search(found.name):
        raise InvalidInput(
            f"{found.name} is a part of a file that was split. Choose one that is whole.", "file"
        )
    return found


def _offered(files: Mapping[str, Remote]) -> str:
    names = sorted(files, key=lambda name: files[name].size)
    return "There are: " + ", ".join(names[:12]) + ("." if len(names) <= 12 else ", and more.")


def needs_code(config: Mapping[str, Any]) -> bool:
    """Whether a model runs only with code of its repository."""
    return bool(config.get("auto_map")) and config.get("model_type") not in NATIVE


def check_code(
    config: Mapping[str, Any], repository: str, revision: str, allowed: Collection[str]
) -> bool:
    """Whether code of the repository will run. Raises InvalidInput where it may not.

    allowed: entries owner/name@commit, in lower case.
    """
    if not needs_code(config):
        return False
    entry = f"{repository}@{revision}"
    if entry.lower() in allowed:
        return True
    raise InvalidInput(
        f"{repository} brings Python code of its own (auto_map in its config.json), which would "
        "run here with the rights of this server. It is refused. After reading that code, whoever "
        f"runs this server can allow it by the setting remote_code: {entry}"
    )


def check_license(repository: str, license_: str, allowed: Collection[str]) -> None:
    """Refuse a licence that is not among the allowed ones; all are where none is named."""
    if allowed and license_.lower() not in {one.lower() for one in allowed}:
        raise InvalidInput(
            f"The licence of {repository} is {license_ or 'not said'}; the setting model_licenses "
            f"allows {', '.join(allowed)}."
        )
