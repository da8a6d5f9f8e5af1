"""What lies in deploy/, read as its tools read it, and what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.33"
"""The version that deploy/aks asks for."""
THEIRS = {"RayService", "SecretProviderClass", "Kustomization"}
"""Kinds that Kubernetes itself does not know."""
SPOT = "kubernetes.azure.com/scalesetpriority=spot:NoSchedule"
"""The taint that AKS gives to nodes of spot pools."""

Manifest = dict[str, Any]
_SECRET = re.compile(
    r"""-----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    |(password|secret|token|(account|access|instrumentation)_?key|connection_?string)["']?\s*[:=]\s*["']?
    (?!true|false|null|read|write|secret\b|var\.|local\.|azurerm_)[\w+=-]{6,}""",
    re.IGNORECASE | re.VERBOSE,
)
_RAY_SERVICE = Draft202012Validator(json.loads(Path(__file__).with_name("ray_service_schema.json").read_text()))


def manifests() -> list[Manifest]:
    """Every Kubernetes object of deploy/, as it is written."""
    found = [
        each
        for path in sorted([*DEPLOY.glob("kuberay/*.yaml"), *DEPLOY.glob("triton/*.yaml"), *DEPLOY.glob("monitoring/*.yaml")])
        for each in yaml.safe_load_all(path.read_text())
    ]  # fmt: skip
    return [each for each in found if isinstance(each, dict) and "apiVersion" in each]


def of_kind(kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [each for each in manifests() if each["kind"] == kind]


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """(where, template) of each pod that `manifest` makes."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "RayService":
        cluster = spec["rayClusterConfig"]
        yield "head", cluster["headGroupSpec"]["template"]
        yield from ((each["groupName"], each["template"]) for each in cluster["workerGroupSpecs"])
    elif "template" in spec:
        yield manifest["metadata"]["name"], spec["template"]


def schema_problems(manifest: Manifest) -> list[str]:
    """What Kubernetes or KubeRay would refuse."""
    if manifest["kind"] == "RayService":
        found = [f"{each.json_path}: {each.message}" for each in _RAY_SERVICE.iter_errors(manifest)]
        if found:
            return found
        templates = ({"apiVersion": "v1", "kind": "Pod", **template} for _, template in pods(manifest))
        return [problem for each in templates for problem in schema_problems(each)]
    if manifest["kind"] in THEIRS:
        return []
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [str(error)]
    return []


def pod_problems(template: Manifest) -> list[str]:
    """What is unsafe or unbounded about a pod."""
    spec = template["spec"]
    context = spec.get("securityContext", {})
    problems = []
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        problems.append("may run as root")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        problems.append("no seccomp profile")
    for each in [*spec["containers"], *spec.get("initContainers", [])]:
        problems += [f"{each['name']}: {problem}" for problem in _container_problems(each)]
    return problems


def _container_problems(container: Manifest) -> list[str]:
    problems = []
    limits = container.get("resources", {}).get("limits", {})
    if not {"cpu", "memory"} <= set(limits):
        problems.append("no limits of cpu and memory")
    if container.get("resources", {}).get("requests") != limits:
        problems.append("requests differ from limits: it may be evicted first")
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
        problems.append("may gain privileges")
    if not {"readinessProbe", "livenessProbe"} <= set(container):
        problems.append("lacks a probe")
    return problems


def untolerated(taints: set[str], tolerations: Sequence[Mapping[str, str]]) -> set[str]:
    """Those of `taints`, key=value:effect each, because of which a pod would not be placed."""
    tolerated = {f"{each['key']}={each['value']}:{each['effect']}" for each in tolerations}
    return taints - tolerated


def secrets_in(text: str) -> list[str]:
    """What a file gives away: private keys, and literals given to keys named for secrets."""
    return [found.group(0) for found in _SECRET.finditer(text)]
