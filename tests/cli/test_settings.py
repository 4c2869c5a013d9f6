import json
from pathlib import Path

import pytest

from tests.cli.typed import Typed, type_command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(capsys: pytest.CaptureFixture[str], *arguments: str) -> Typed:
    return type_command(capsys, "settings", *arguments)


def test_every_setting_with_its_origin(
    project: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", "postgresql://mill:hunter2@db/mill")
    (project / "wordmill.toml").write_text("attempts = 3\natempts = 4\n")
    typed = settings(capsys)
    assert typed.code == 0
    lines = [line.split(maxsplit=1) for line in typed.out.splitlines()]
    shown = {name: " ".join(rest.split()) for name, rest in lines}
    assert shown["setting"] == "value unit from"
    assert shown["home"] == f"{home} environment (WORDMILL_HOME)"
    assert shown["attempts"] == f"3 attempts {project}/wordmill.toml"
    assert shown["concurrency"] == "auto requests default"
    assert shown["default_model"] == "- default"
    assert shown["database_url"] == (
        "postgresql://mill:********@db/mill environment (WORDMILL_DATABASE_URL)"
    )
    assert "hunter2" not in typed.out + typed.err
    assert typed.err.splitlines()[0] == (
        f"warning: {project}/wordmill.toml has 'atempts', which means nothing. "
        "Did you mean 'attempts'?"
    )


@pytest.mark.sqlite
def test_as_json(
    project: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORDMILL_CACHE_BYTES", "2GB")
    shown = json.loads(settings(capsys, "--json").out)
    assert shown["cache_bytes"] == {
        "value": 2_000_000_000,
        "unit": "bytes",
        "origin": "environment (WORDMILL_CACHE_BYTES)",
    }
    assert shown["home"]["value"] == str(home)
    assert shown["concurrency"] == {"value": None, "unit": "requests", "origin": "default"}
    assert shown["database_url"]["value"] == f"sqlite:///{home}/wordmill.db"


def test_the_table_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert settings(capsys, "--markdown").out in page.read_text(encoding="utf-8")


def test_a_bad_value_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_ATTEMPTS", "many")
    assert settings(capsys) == Typed(
        2,
        "",
        "error: attempts must be a whole number of 1 or more, not 'many' "
        "(from: environment (WORDMILL_ATTEMPTS)).\n",
    )
