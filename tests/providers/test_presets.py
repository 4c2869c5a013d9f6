from pathlib import Path

import pytest

from wordmill.models import checked
from wordmill.providers.presets import PRESETS, markdown, preset_of


def test_the_names_that_people_type() -> None:
    assert list(PRESETS) == [
        "openai", "anthropic", "gemini", "mistral", "groq", "together", "deepseek", "openrouter",
        "ollama", "vllm", "llama.cpp", "tgi", "lm-studio",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model_with_no_more_than_a_name(name: str) -> None:
    model = checked({"name": "x", "provider": name, "model": "m"})
    assert (model.base_url, model.key_env) == PRESETS[name][:2]
    assert preset_of(name, model.base_url) is PRESETS[name]
    assert (model.key_env is None) == model.base_url.startswith("http://127.0.0.1:")


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert markdown() in page.read_text(encoding="utf-8")
