"""Kubernetes objects of deploy/: what the schemas say, what is safe, and that they agree with the spec, the server and Ray."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from engine import ServerSpec, load_spec
from serving.cli import _drain_node, _parser
from serving.ray_host.application import shutdown_s
from serving.ray_host.command import SETTINGS
from serving.ray_host.drain import told_s
from tests.deploy.manifests import (
    DEPLOY,
    ROOT,
    Manifest,
    manifests,
    of_kind,
    pod_problems,
    pods,
    schema_problems,
)

PODS = [(f"{each['metadata']['name']} {where}", pod) for each in manifests() for where, pod in pods(each)]
RAY_DRAIN_S = 30
"""So long Ray lets a node drain that is told to end."""
BY_NAME = {"ids": lambda each: each if isinstance(each, str) else ""}


def ray_service() -> Manifest:
    """The RayService, a copy to spoil."""
    [found] = copy.deepcopy(of_kind("RayService"))
    return found


def group(name: str) -> Manifest:
    """A worker group of it."""
    found: list[Manifest] = ray_service()["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return next(each for each in found if each["groupName"] == name)


def container(pod: Manifest) -> Manifest:
    """The first container of a pod."""
    first: Manifest = pod["spec"]["containers"][0]
    return first


def test_every_manifest_is_what_its_schema_says() -> None:
    found = manifests()
    assert {"RayService", "Service", "PodDisruptionBudget", "StatefulSet"} <= {each["kind"] for each in found}
    assert [problem for each in found for problem in schema_problems(each)] == []


def _misspelt(service: Manifest) -> None:
    service["spec"]["rayClusterConfig"]["enableInTreeAutoscalling"] = True


def _no_gateway(service: Manifest) -> None:
    del service["spec"]["upgradeStrategy"]["clusterUpgradeOptions"]


def _labels_in_parameters(service: Manifest) -> None:
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["rayStartParams"]["labels"] = "pool=cpu"


def _misspelt_probe(service: Manifest) -> None:
    container(service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"])["readynessProbe"] = {}


def _port_as_text(service: Manifest) -> None:
    container(service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"])["ports"][0]["containerPort"] = "6379"


@pytest.mark.parametrize("spoil", [_misspelt, _no_gateway, _labels_in_parameters, _misspelt_probe, _port_as_text])
def test_a_broken_ray_service_is_refused(spoil: Callable[[Manifest], None]) -> None:
    broken = ray_service()
    spoil(broken)
    assert schema_problems(broken)


def test_a_broken_object_of_kubernetes_is_refused() -> None:
    broken = copy.deepcopy(of_kind("PodDisruptionBudget")[0])
    broken["spec"]["maxUnavailabel"] = 1
    assert schema_problems(broken)


@pytest.mark.parametrize(("name", "pod"), PODS, **BY_NAME)  # type: ignore[arg-type]
def test_pods_are_safe_and_bounded(name: str, pod: Manifest) -> None:
    assert pod_problems(pod) == []


@pytest.mark.parametrize("spoilt", ["resources", "securityContext", "livenessProbe"])
def test_an_unsafe_pod_is_found(spoilt: str) -> None:
    pod = group("cpu")["template"]
    del container(pod)[spoilt]
    assert pod_problems(pod)


def test_a_pod_that_may_be_root_is_found() -> None:
    pod = group("cpu")["template"]
    pod["spec"]["securityContext"]["runAsUser"] = 0
    assert pod_problems(pod)


def test_serve_reads_its_configuration() -> None:
    config = yaml.safe_load(ray_service()["spec"]["serveConfigV2"])
    read = ServeDeploySchema.model_validate(config)
    assert read.proxy_location == "Disabled"
    assert [each.import_path for each in read.applications] == ["serving.ray_host:app"]
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate({**config, "proxy_location": "Nowhere"})


def test_the_spec_is_read_and_its_pods_mount_what_it_names() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    config = yaml.safe_load(ray_service()["spec"]["serveConfigV2"])
    application = config["applications"][0]["args"]["spec"]
    assert spec.server.auth is not None
    assert spec.server.auth.tokens_file is not None
    tokens = Path(spec.server.auth.tokens_file)
    for _, pod in pods(ray_service()):
        mounted = {each["mountPath"] for each in container(pod)["volumeMounts"]}
        assert {application, "/app/models", str(tokens.parent)} <= mounted
        volumes = {each["name"] for each in pod["spec"]["volumes"]}
        assert {each["name"] for each in container(pod)["volumeMounts"]} <= volumes


def test_each_deployment_finds_a_group_with_its_labels_cores_and_gpus() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    groups = ray_service()["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for name, placed in spec.placement.items():
        fitting = [each for each in groups if each["labels"].items() >= dict(placed.node_labels).items()]
        assert len(fitting) == 1, name
        limits = container(fitting[0]["template"])["resources"]["limits"]
        assert placed.cpus <= float(limits["cpu"])
        assert placed.gpus <= float(limits.get("nvidia.com/gpu", 0))
        assert placed.replicas_max <= fitting[0]["maxReplicas"]


def test_the_doors_are_in_one_group_one_replica_a_pod_and_the_service_finds_them() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    doors = group("cpu")
    assert spec.placement["ingress"].cpus > float(container(doors["template"])["resources"]["limits"]["cpu"]) / 2
    [service] = [each for each in of_kind("Service") if each["metadata"]["name"] == "vireo"]
    labels = [pod["metadata"]["labels"] for _, pod in pods(ray_service())]
    found = [each for each in labels if each.items() >= service["spec"]["selector"].items()]
    assert found == [doors["template"]["metadata"]["labels"]]


def test_ports_are_the_servers() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    defaults = ServerSpec()
    assert (spec.server.grpc_port, spec.server.http_port) == (defaults.grpc_port, defaults.http_port)
    ports = {each["name"]: each["containerPort"] for each in container(group("cpu")["template"])["ports"]}
    assert ports == {"serve": defaults.http_port, "grpc": defaults.grpc_port}
    [service] = [each for each in of_kind("Service") if each["metadata"]["name"] == "vireo"]
    assert {ports[each["targetPort"]]: each["port"] for each in service["spec"]["ports"]} == {
        defaults.grpc_port: defaults.grpc_port, defaults.http_port: defaults.http_port
    }  # fmt: skip
    for image in ("Dockerfile.cpu", "Dockerfile.gpu"):
        assert f"EXPOSE {defaults.http_port} {defaults.grpc_port}" in (DEPLOY / image).read_text()


SPOT_NOTICE_S = 30
"""So long before it takes a spot machine away Azure tells of it."""


def left_s(pod: Manifest) -> float:
    """Seconds of `vireo drain-node` in a pod's preStop hook, whose words are those that the command takes."""
    [program, *words] = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "vireo"
    parsed = _parser().parse_args(words)
    assert parsed.run is _drain_node
    assert str(parsed.app) in {each["mountPath"] for each in container(pod)["volumeMounts"]}
    within_s: float = parsed.within_s
    return within_s


def test_a_pod_tells_ray_before_it_leaves_and_outlives_its_drain() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    for each in ("cpu", "gpu"):
        pod = group(each)["template"]
        assert spec.server.drain_s < left_s(pod) < pod["spec"]["terminationGracePeriodSeconds"] - RAY_DRAIN_S
        assert left_s(pod) < SPOT_NOTICE_S
    head = ray_service()["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    assert "lifecycle" not in container(head), "where the head goes its cluster goes"


def test_replicas_of_a_pod_that_leaves_have_time_until_others_are_warmed() -> None:
    spec = load_spec(DEPLOY / "kuberay" / "app.yaml")
    within_s = left_s(group("cpu")["template"])
    ended_s = told_s(within_s, shutdown_s(spec)) - shutdown_s(spec)  # when Serve ends them though no others are there
    assert 0 < ended_s <= within_s - 10


def test_the_head_takes_no_work_and_ray_is_set_as_the_command_sets_it() -> None:
    head = ray_service()["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    for _, pod in pods(ray_service()):
        assert {each["name"]: each["value"] for each in container(pod)["env"]} == dict(SETTINGS)


def test_the_head_obeys_only_who_has_its_token() -> None:
    assert ray_service()["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}


def test_ray_is_the_version_that_is_installed_in_the_images() -> None:
    version = ray_service()["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray=={version}\n" in (ROOT / "constraints.txt").read_text()


def test_budgets_select_pods_that_exist() -> None:
    labels = [pod["metadata"]["labels"] for _, pod in PODS]
    for each in of_kind("PodDisruptionBudget"):
        wanted: dict[str, Any] = each["spec"]["selector"]["matchLabels"]
        assert any(found.items() >= wanted.items() for found in labels), each["metadata"]["name"]


def test_what_kustomize_names_exists() -> None:
    pages = of_kind("Kustomization")
    assert len(pages) >= 2
    for path in DEPLOY.glob("*/kustomization.yaml"):
        page = yaml.safe_load(path.read_text())
        named = [*page["resources"], *page.get("configurations", [])]
        for each in page.get("configMapGenerator", []):
            named += [name.rpartition("=")[2] for name in [*each.get("files", []), *each.get("envs", [])]]
        assert [name for name in named if not (path.parent / name).is_file()] == []


def test_every_image_has_a_tag_that_stays() -> None:
    tags: dict[str, str] = {}
    for path in DEPLOY.glob("*/kustomization.yaml"):
        tags |= {each["name"]: each["newTag"] for each in yaml.safe_load(path.read_text()).get("images", [])}
    for name, pod in PODS:
        image = container(pod)["image"]
        tag = tags.get(image) or image.partition("@")[2] or image.rpartition(":")[2]
        assert re.fullmatch(r"sha256:\w{64}|v?\d+\.\d+.*", tag), f"{name}: {image}"
