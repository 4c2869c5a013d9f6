"""The Helm chart: rendered by Helm's own code, and held against Kubernetes' own schemas."""

import json
import re
import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import ROOT
from wordmill import settings
from wordmill.channels.api import health
from wordmill.queues.rabbitmq import BLOCKS

CHART = ROOT / "deploy" / "chart"
VERSION = "1.30"
SCALED = {"existingSecret": "keys", "scale": {"enabled": True}}
KNOWN = {f"WORDMILL_{row.name.upper()}" for row in settings.table()}

# Helm's library is a program of its own kind (Go), which takes signals: it stays out of ours.
_HELM = """
import json, sys
try:
    from helm_python.chart import Chart, lint
except ImportError:
    sys.exit(77)
from helm_python.errors import HelmError
path, values = sys.argv[1], json.loads(sys.argv[2])
try:
    files = Chart.load(path).render(values, name="mill", namespace="words")
    print(json.dumps({"files": files, "lint": lint(path, values, strict=True)}))
except HelmError as error:
    print(json.dumps({"error": str(error)}))
"""

Manifest = dict[str, Any]


def helm(values: dict[str, Any]) -> dict[str, Any]:
    """What Helm says of the chart with these values."""
    done = subprocess.run(
        [sys.executable, "-c", _HELM, CHART, json.dumps(values)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("Helm's library is not made for this machine.")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def manifests(values: dict[str, Any]) -> list[Manifest]:
    files = helm(values)["files"]
    return [
        document
        for name, text in files.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def kinds(found: list[Manifest]) -> list[str]:
    return sorted(one["kind"] for one in found)


def autoscaled(kind: str) -> dict[str, Any]:
    return {**SCALED, "consumer": {"autoscaling": {"kind": kind}}}


ALL: list[dict[str, Any]] = [
    {"existingSecret": "keys"},
    {
        "existingSecret": "keys",
        "ingress": {
            "enabled": True, "host": "mill.example.org", "tlsSecret": "tls", "className": "nginx",
            "annotations": {"a/b": "c"},
        },
        "persistence": {"storageClass": "fast", "size": "5Gi"},
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "podAnnotations": {"x": "y"},
        "serviceAccount": {"annotations": {"role": "reader"}},
    },
    SCALED,
    autoscaled("hpa"),
    autoscaled("keda"),
    {**SCALED, "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "proxy"}}}]}},
]  # fmt: skip


@pytest.mark.parametrize("values", ALL, ids=["one", "dressed", "scaled", "hpa", "keda", "policy"])
def test_all_that_it_makes_is_good(values: dict[str, Any]) -> None:
    said = helm(values)
    assert said["lint"]["errors"] == []
    assert [one for one in said["lint"]["messages"] if one["severity"] > 1] == []
    found = manifests(values)
    assert found
    for one in found:
        if one["apiVersion"].startswith("keda.sh"):
            assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        else:
            kubernetes_validate.validate(one, VERSION, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))


def test_without_scale_it_is_one_pod_with_its_volume() -> None:
    assert kinds(manifests({"existingSecret": "keys"})) == [
        "ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service",
        "ServiceAccount",
    ]  # fmt: skip


def test_scaled_out_it_has_all_three_processes() -> None:
    found = manifests(SCALED)
    commands = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0].get("command")
        for one in found
        if one["kind"] == "Deployment"
    }
    assert commands == {
        "mill-wordmill": ["wordmill", "serve", "--no-open"],
        "mill-wordmill-worker": ["wordmill", "worker"],
        "mill-wordmill-consumer": None,  # the image's own
    }


@pytest.mark.parametrize("name", ["serve", "worker", "consumer"])
def test_every_pod_is_confined(name: str) -> None:
    (pod,) = [
        one["spec"]["template"]["spec"]
        for one in manifests(SCALED)
        if one["kind"] == "Deployment"
        and one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == name
    ]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert {"limits", "requests"} == set(container["resources"])
    assert {"configMapRef": {"name": "mill-wordmill"}} in container["envFrom"]
    assert {"secretRef": {"name": "keys"}} in container["envFrom"]
    names = {one["name"] for one in container.get("env", [])}
    assert names <= KNOWN | {"WORDMILL_CONSUMER_HEALTH"}


def test_the_probes_ask_what_the_server_answers() -> None:
    paths = {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    asked = {
        probe["httpGet"]["path"]
        for one in manifests(SCALED)
        if one["kind"] == "Deployment"
        for name, probe in one["spec"]["template"]["spec"]["containers"][0].items()
        if name.endswith("Probe") and "httpGet" in probe
    }
    assert asked == {"/health/live", "/health/ready"}
    assert asked <= paths


def test_everything_finds_its_own_kind_only() -> None:
    found = manifests(autoscaled("hpa"))
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in found
        if one["kind"] == "Deployment"
    }
    for one in found:
        if one["kind"] == "Service":
            wanted = one["spec"]["selector"]
            reached = [name for name, own in labels.items() if wanted.items() <= own.items()]
            assert reached == ["mill-wordmill"]
        if one["kind"] == "HorizontalPodAutoscaler":
            assert one["spec"]["scaleTargetRef"]["name"] in labels


def test_keda_counts_the_blocks_of_all_queues() -> None:
    found = manifests(autoscaled("keda"))
    (scaled,) = [one for one in found if one["kind"] == "ScaledObject"]
    (known,) = [one for one in found if one["kind"] == "TriggerAuthentication"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "rabbitmq"
    assert trigger["metadata"] == {
        "protocol": "http", "mode": "QueueLength", "value": "4", "useRegex": "true",
        "operation": "sum", "queueName": r"^wordmill\.blocks\..*",
    }  # fmt: skip
    assert re.match(trigger["metadata"]["queueName"], f"{BLOCKS}gpt.5")
    assert not re.match(trigger["metadata"]["queueName"], "wordmill.dead")
    assert trigger["authenticationRef"]["name"] == known["metadata"]["name"]
    assert known["spec"]["secretTargetRef"] == [
        {"parameter": "host", "name": "keys", "key": "RABBITMQ_MANAGEMENT_URL"}
    ]
    (consumer,) = [
        one
        for one in found
        if one["kind"] == "Deployment" and one["metadata"]["name"].endswith("consumer")
    ]
    assert scaled["spec"]["scaleTargetRef"]["name"] == consumer["metadata"]["name"]
    assert "replicas" not in consumer["spec"]  # it would undo at each upgrade what KEDA did


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "at '/existingSecret'"),
        ({"existingSecret": "k", "scaled": True}, "additional properties 'scaled' not allowed"),
        (
            {"existingSecret": "k", "settings": {"WORDMILL_DATABASE_URL": "x"}},
            "'WORDMILL_DATABASE_URL'",
        ),
        ({"existingSecret": "k", "settings": {"OPENAI_API_KEY": "x"}}, "'OPENAI_API_KEY'"),
        ({"existingSecret": "k", "ingress": {"enabled": True}}, "at '/ingress/host'"),
        ({"existingSecret": "k", "consumer": {"replicas": -1}}, "at '/consumer/replicas'"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    assert words in helm(values)["error"]


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    from importlib.metadata import version

    assert chart["version"] == chart["appVersion"] == version("wordmill")
