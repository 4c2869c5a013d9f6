"""Heroku and its kin: the Procfile's own lines, on an emptied disk beside a database."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.files import ROOT, dockerfile, procfile
from tests.deploy.serving import environment, free_port, serving
from wordmill.errors import ConfigError
from wordmill.settings import load
from wordmill.settings.platform import NAMES

ADMIN = {"WORDMILL_ADMIN_EMAIL": "ann@example.org", "WORDMILL_ADMIN_PASSWORD": "a long one, this"}


def test_accounts_outlive_the_disk(postgres_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    port = free_port()
    variables = environment(
        PORT=str(port), DYNO="web.1", WORDMILL_HOME=str(home), WORDMILL_SECRET_KEY="s" * 64,
        DATABASE_URL=postgres_url.replace("postgresql://", "postgres://"),
    )  # fmt: skip
    command = ["/bin/sh", "-c", f"exec {procfile()['web']}"]
    with serving(command, {**variables, **ADMIN}, tmp_path):
        key = _typed("keys create test --person ann@example.org", variables, tmp_path).strip()
        _typed("models add mine --provider vllm --base-url http://127.0.0.1:9/v1 --model m", variables, tmp_path)  # fmt: skip  # noqa: E501
        assert _models(port, key) >= {"mine"}

    assert home.is_dir()
    shutil.rmtree(home)  # as a dyno's disk, at every restart

    with serving(command, variables, tmp_path):
        assert _models(port, key) >= {"mine"}
        assert "ann@example.org" in _typed("people list", variables, tmp_path)
    assert not list(home.glob("wordmill.db*"))


def _typed(words: str, variables: dict[str, str], folder: Path) -> str:
    """`heroku run wordmill ...`."""
    done = subprocess.run(
        ["wordmill", *words.split()], cwd=folder, env=variables, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _models(port: int, key: str) -> set[str]:
    answer = httpx.get(
        f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=30
    )
    return {model["id"] for model in answer.raise_for_status().json()["data"]}


def test_names_of_a_platform_count_for_what_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYNO", raising=False)
    monkeypatch.setenv("PORT", "9123")
    monkeypatch.setenv("REDIS_URL", "rediss://:p@cache:6380")
    monkeypatch.setenv("CLOUDAMQP_URL", "amqps://u:p@rabbit/u")
    monkeypatch.setenv("BONSAI_URL", "https://u:p@search:443")
    plain = load()
    assert (plain.port, plain.host, plain.redis_url) == (8501, "127.0.0.1", "")
    served = load(serving=True)
    assert (served.port, served.host) == (9123, "0.0.0.0")
    assert served.redis_url == "rediss://:p@cache:6380"
    assert served.broker_url == "amqps://u:p@rabbit/u"
    assert served.elasticsearch_url == "https://u:p@search:443"
    assert served.origin("port") == "environment (PORT)"
    monkeypatch.setenv("DYNO", "run.1")
    assert load().port == 9123


def test_what_is_said_to_us_beats_what_a_platform_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "9123")
    given = load({"port": "9000"}, serving=True)
    assert (given.port, given.host) == (9000, "127.0.0.1")
    monkeypatch.setenv("WORDMILL_PORT", "9001")
    assert load(serving=True).port == 9001
    monkeypatch.delenv("WORDMILL_PORT")
    (tmp_path / "wordmill.toml").write_text("port = 9002\n")
    assert load(serving=True).port == 9002
    (tmp_path / "wordmill.toml").write_text('host = "127.0.0.1"\n')
    assert (load(serving=True).port, load(serving=True).host) == (9123, "127.0.0.1")


def test_a_port_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(ConfigError) as error:
        load(serving=True)
    assert "not 'http' (from: environment (PORT))" in str(error.value)


def test_heroku_yml_runs_what_the_procfile_runs() -> None:
    described = yaml.safe_load((ROOT / "heroku.yml").read_text(encoding="utf-8"))
    runs = {
        name: value if isinstance(value, str) else " ".join(value["command"])
        for name, value in described["run"].items()
    }
    assert runs == procfile()
    assert (ROOT / described["build"]["docker"]["web"]).is_file()
    given = {rest.partition("=")[0] for word, rest in dockerfile()["build"] if word == "ARG"}
    assert set(described["build"]["config"]) <= given


def test_the_consumer_is_given_the_names_of_the_platform() -> None:
    line = procfile()["consumer"]
    platform = {variable: f"{variable} of the platform" for variable in NAMES}
    show = line.replace("wordmill-consumer", "env")
    said = subprocess.run(
        ["/bin/sh", "-c", show], env=environment(**platform), capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    for variable, name in NAMES.items():
        if variable != "PORT":
            assert f"WORDMILL_{name.upper()}={variable} of the platform\n" in said
    own = {"WORDMILL_REDIS_URL": "mine", **platform}
    said = subprocess.run(
        ["/bin/sh", "-c", show], env=environment(**own), capture_output=True, text=True, check=True
    ).stdout
    assert "WORDMILL_REDIS_URL=mine\n" in said


def test_the_worker_is_a_command_of_ours() -> None:
    done = subprocess.run(
        [*procfile()["worker"].split(), "--help"], env=environment(), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_requirements_are_those_of_the_lock(tmp_path: Path) -> None:
    fresh = tmp_path / "requirements.txt"
    subprocess.run([ROOT / "scripts" / "requirements", fresh], cwd=ROOT, check=True, timeout=60)
    assert fresh.read_text() == (ROOT / "requirements.txt").read_text(), "make lock writes it anew"


def test_streamlit_is_configured_in_one_place() -> None:
    link = ROOT / ".streamlit" / "config.toml"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "src" / "wordmill" / "channels" / "web" / "streamlit.toml"
