"""The compose files: whole by their specification, without a default password, and confined."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.files import ROOT, compose
from wordmill import settings

ONE, SCALE = "compose.yaml", "deploy/compose.scale.yaml"
SECRETS = {
    "WORDMILL_SECRET_KEY": "0123456789abcdef" * 4,
    "POSTGRES_PASSWORD": "of-postgres",
    "RABBITMQ_PASSWORD": "of-rabbitmq",
    "REDIS_PASSWORD": "of-redis",
    "ELASTIC_PASSWORD": "of-elastic",
}
OURS = ("serve", "worker", "consumer")
KNOWN = {f"WORDMILL_{row.name.upper()}" for row in settings.table()}

Service = dict[str, Any]


def services(path: str, **more: str) -> dict[str, Service]:
    found: dict[str, Service] = compose(path, {**SECRETS, **more})["services"]
    return found


@pytest.mark.parametrize("path", [ONE, SCALE])
def test_it_keeps_to_the_specification(path: str) -> None:
    filled = yaml.safe_dump(compose(path, SECRETS))
    assert set(PyCompose.from_yaml(filled).service_names()) == set(services(path))
    with pytest.raises(ValueError):
        PyCompose.from_yaml(filled.replace("restart:", "restarted:", 1))


def test_one_machine_is_one_image_one_volume_and_one_port() -> None:
    assert list(services(ONE)) == ["wordmill"]
    one = services(ONE)["wordmill"]
    assert one["ports"] == ["127.0.0.1:8501:8501"]
    assert one["volumes"] == ["data:/data"]
    assert one["env_file"] == [{"path": ".env", "required": False}]
    assert services(ONE, PUBLISH="0.0.0.0:80")["wordmill"]["ports"] == ["0.0.0.0:80:8501"]


@pytest.mark.parametrize(
    ("path", "name"), [(ONE, "wordmill"), *((SCALE, name) for name in (*OURS, "bucket"))]
)
def test_what_is_ours_can_write_nothing_and_gain_nothing(path: str, name: str) -> None:
    service = services(path)[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(services(SCALE)) - {"bucket"}))
def test_every_server_is_watched_bounded_and_confined(name: str) -> None:
    service = services(SCALE)[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    tag = service["image"].rpartition(":")[2]
    assert name in OURS or re.search(r"\d", tag), "a foreign image has a version"
    if name not in OURS:
        assert "ports" not in service
        assert service["networks"] == ["inside"]


def test_the_servers_are_on_a_network_that_leads_nowhere() -> None:
    networks = compose(SCALE, SECRETS)["networks"]
    assert networks["inside"] == {"internal": True}
    published = {name for name, service in services(SCALE).items() if service.get("ports")}
    assert published == {"serve"}
    assert services(SCALE)["serve"]["ports"] == ["127.0.0.1:8501:8501"]


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_that_is_not_given_is_asked_for(name: str) -> None:
    given = {other: value for other, value in SECRETS.items() if other != name}
    with pytest.raises(KeyError) as error:
        compose(SCALE, given)
    assert error.value.args[0] == name
    assert "openssl rand -hex" in error.value.args[1]


def test_no_secret_stands_in_a_file() -> None:
    for path in (ONE, SCALE):
        text = (ROOT / path).read_text(encoding="utf-8")
        written = re.findall(r"(?im)^\s*\w*(?:password|pass|secret|key|auth)\w*:\s*(\S.*)$", text)
        assert all(value.startswith("${") for value in written), written
        assert all("://" not in one or "${" in one for one in re.findall(r"\S+:\S+@\S+", text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    given = dict(re.findall(r"(?m)^(\w+)=(.*)$", example))
    assert {name for name, value in given.items() if value} == {"PUBLISH", "VARIANT"}
    assert set(SECRETS) <= set(given)


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program itself reads them, and knows every one."""
    environment = services(SCALE)[name]["environment"]
    monkeypatch.chdir(tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("WORDMILL_DATABASE_URL", "")  # read at once: no such server is here
    loaded = settings.load()
    assert loaded.warnings == ()
    assert {variable for variable in environment if variable.startswith("WORDMILL_")} <= KNOWN
    assert loaded.broker_url == "amqp://wordmill:of-rabbitmq@rabbitmq:5672/%2F"
    assert loaded.elasticsearch_url == "http://elastic:of-elastic@elasticsearch:9200"
    assert loaded.redis_url == "redis://:of-redis@redis:6379/0"
    assert loaded.secret_key == SECRETS["WORDMILL_SECRET_KEY"]


def test_redis_is_told_its_password_where_no_list_of_processes_shows_it(tmp_path: Path) -> None:
    """Its very command, with a program in its place that shows what it is told."""
    service = services(SCALE)["redis"]
    program = tmp_path / "redis-server"
    program.write_text('#!/bin/sh\necho "arguments: $*"; cat\n')
    program.chmod(0o755)
    shell, flag, script = service["command"]
    done = subprocess.run(
        [shell, flag, script.replace("$$", "$")], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "REDISCLI_AUTH": "of-redis"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "arguments: -", "requirepass of-redis", "appendonly yes", "appendfsync everysec",
        "maxmemory 512mb", "maxmemory-policy noeviction", "dir /data",
    ]  # fmt: skip
