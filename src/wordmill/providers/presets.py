"""Servers known by name: where they are, where their key usually is, and what they understand.

A preset saves typing and a few refused first requests; nothing depends on its being right, because
a refusal is understood at run time (see `dialect`). It counts only for its own address.
"""

from collections.abc import Mapping
from typing import NamedTuple

from wordmill.providers.dialect import Dialect


class Preset(NamedTuple):
    """A server. `key_env` is None where none is wanted."""

    base_url: str
    key_env: str | None
    dialect: Dialect = Dialect()
    note: str = ""


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        Dialect(form="strict", bound="max_completion_tokens"),
    ),
    "anthropic": Preset(
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        Dialect(form="prompt", json_object=False, seed=False),
        "its OpenAI door ignores schemas: they go into the prompt",
    ),
    "gemini": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        Dialect(seed=False),
    ),
    "mistral": Preset("https://api.mistral.ai/v1", "MISTRAL_API_KEY", Dialect(seed=False)),
    "groq": Preset(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        Dialect(bound="max_completion_tokens"),
        "some of its models know no schema",
    ),
    "together": Preset("https://api.together.ai/v1", "TOGETHER_API_KEY"),
    "deepseek": Preset(
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        Dialect(form="json_object", seed=False),
        "JSON objects without a schema",
    ),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        note="what is understood depends on the model behind it",
    ),
    "ollama": Preset(
        "http://127.0.0.1:11434/v1",
        None,
        note="cuts long prompts silently: raise its context (OLLAMA_CONTEXT_LENGTH)",
    ),
    "vllm": Preset("http://127.0.0.1:8000/v1", None),
    "llama.cpp": Preset("http://127.0.0.1:8080/v1", None, note="--concurrency as its --parallel"),
    "tgi": Preset("http://127.0.0.1:8080/v1", None, note="calls whatever it runs `tgi`"),
    "lm-studio": Preset("http://127.0.0.1:1234/v1", None, Dialect(json_object=False)),
}


def preset_of(provider: str, base_url: str) -> Preset | None:
    """The preset of that name, if the address is its own."""
    preset = PRESETS.get(provider)
    return preset if preset is not None and preset.base_url == base_url else None


def markdown() -> str:
    """The table for docs/models.md."""
    lines = [
        "| provider | base URL | key | a schema is asked for as | seed | note |",
        "|---|---|---|---|---|---|",
    ]
    for name, preset in PRESETS.items():
        key = f"`{preset.key_env}`" if preset.key_env else "none"
        seed = "yes" if preset.dialect.seed else "no"
        lines.append(
            f"| `{name}` | `{preset.base_url}` | {key} | `{preset.dialect.form}` | {seed} "
            f"| {preset.note} |"
        )
    return "\n".join(lines) + "\n"
