"""deploy/aks as a parser of HCL reads it: whole, pinned, without secrets, and its pools are those that pods ask for."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import hcl2
import pytest
import yaml
from hcl2.utils import SerializationOptions
from lark import UnexpectedInput

from tests.deploy.manifests import DEPLOY, ROOT, SPOT, manifests, pods, secrets_in, untolerated

AKS = DEPLOY / "aks"
REFERENCE = re.compile(r"(?<![\w.\"])(var|local|data\.\w+|azurerm_\w+)\.(\w+)")
PLAIN = SerializationOptions(strip_string_quotes=True, explicit_blocks=False)

Blocks = dict[str, dict[str, Any]]


def read(text: str) -> dict[str, Any]:
    """What HCL says. Raises an exception of its parser's where it is none."""
    return hcl2.load(io.StringIO(text), serialization_options=PLAIN)


def source() -> str:
    """All files as the one module they are."""
    return "\n".join(path.read_text() for path in sorted(AKS.glob("*.tf")))


def declared(text: str) -> dict[str, Blocks]:
    """Attributes by kind (`var`, `local`, `data.TYPE` or a resource's type) and name."""
    found: dict[str, Blocks] = defaultdict(dict)
    module = read(text)
    for each in module.get("variable", []):
        found["var"] |= each
    for each in module.get("locals", []):
        found["local"] |= each
    for prefix, word in (("", "resource"), ("data.", "data")):
        for block in module.get(word, []):
            for kind, named in block.items():
                found[prefix + kind] |= named
    return found


def dangling(text: str, known: Mapping[str, Blocks]) -> set[str]:
    """References in `text` to what is not `known`."""
    code = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return {f"{kind}.{name}" for kind, name in REFERENCE.findall(code) if name not in known.get(kind, {})}


@pytest.fixture(scope="module")
def cluster() -> dict[str, Blocks]:
    """What is declared."""
    return declared(source())


def test_every_reference_leads_to_something(cluster: dict[str, Blocks]) -> None:
    assert dangling(source(), cluster) == set()


def test_a_reference_to_nothing_and_broken_text_are_found(cluster: dict[str, Blocks]) -> None:
    text = "a = azurerm_subnet.node.id\nb = var.nam\nc = azurerm_subnet.nodes.id\n"
    assert dangling(text, cluster) == {"azurerm_subnet.node", "var.nam"}
    with pytest.raises(UnexpectedInput):
        read('resource "a" "b" {\n  x = [1, 2\n}\n')


def test_the_provider_is_pinned() -> None:
    [settings] = read((AKS / "versions.tf").read_text())["terraform"]
    [providers] = settings["required_providers"]
    assert re.fullmatch(r"~> \d+\.\d+\.\d+", providers["azurerm"]["version"])


def test_everything_that_is_promised_is_there(cluster: dict[str, Blocks]) -> None:
    assert {
        "azurerm_kubernetes_cluster", "azurerm_kubernetes_cluster_node_pool", "azurerm_container_registry",
        "azurerm_eventhub_namespace", "azurerm_eventhub", "azurerm_storage_account", "azurerm_storage_container",
        "azurerm_key_vault", "azurerm_federated_identity_credential", "azurerm_log_analytics_workspace",
        "azurerm_application_insights",
    } <= set(cluster)  # fmt: skip


def test_nothing_is_open_to_everybody(cluster: dict[str, Blocks]) -> None:
    kubernetes = cluster["azurerm_kubernetes_cluster"]["this"]
    assert kubernetes["local_account_disabled"] is True
    assert kubernetes["oidc_issuer_enabled"] is True
    assert kubernetes["workload_identity_enabled"] is True
    storage = cluster["azurerm_storage_account"]["this"]
    assert storage["is_hns_enabled"] is True
    assert storage["shared_access_key_enabled"] is False
    assert storage["allow_nested_items_to_be_public"] is False
    assert cluster["azurerm_container_registry"]["this"]["admin_enabled"] is False
    vault = cluster["azurerm_key_vault"]["this"]
    assert vault["purge_protection_enabled"] is True
    assert {each["default_action"] for each in (storage["network_rules"][0], vault["network_acls"][0])} == {"Deny"}
    outputs = read((AKS / "outputs.tf").read_text())["output"]
    assert outputs
    for output in outputs:
        for name, each in output.items():
            assert each.get("sensitive") is True or "connection" not in str(each["value"]), name


def test_the_federated_account_is_the_pods(cluster: dict[str, Blocks]) -> None:
    subject = cluster["azurerm_federated_identity_credential"]["vireo"]["subject"]
    [account] = [
        each for each in manifests() if each["kind"] == "ServiceAccount" and each["metadata"]["name"] == "vireo"
    ]
    namespace = yaml.safe_load((DEPLOY / "kuberay" / "kustomization.yaml").read_text())["namespace"]
    assert subject == f"system:serviceaccount:{namespace}:{account['metadata']['name']}"


def _pools(cluster: dict[str, Blocks]) -> dict[str, set[str]]:
    """Taints of each pool, by the label by which pods choose it."""
    kubernetes = cluster["azurerm_kubernetes_cluster"]["this"]
    found = {_label(kubernetes["default_node_pool"][0]): set[str]()}
    for pool in cluster["azurerm_kubernetes_cluster_node_pool"].values():
        taints = pool["node_taints"]
        found[_label(pool)] = {
            each for name, value in cluster["local"].items() if f"local.{name}" in taints for each in value
        } | ({SPOT} if SPOT in taints else set())
    return found


def _label(pool: dict[str, Any]) -> str:
    [value] = re.findall(r"vireo/pool\W+(\w+)", str(pool["node_labels"]))
    return str(value)


def test_pods_choose_pools_that_exist_and_tolerate_their_taints(cluster: dict[str, Blocks]) -> None:
    pools = _pools(cluster)
    assert pools == {"system": set(), "cpu": {"vireo/pool=cpu:NoSchedule"}, "gpu": {"sku=gpu:NoSchedule", SPOT}}
    placed = 0
    for where, pod in ((where, pod["spec"]) for each in manifests() for where, pod in pods(each)):
        if "nodeSelector" in pod:
            placed += 1
            assert untolerated(pools[pod["nodeSelector"]["vireo/pool"]], pod.get("tolerations", [])) == set(), where
    assert placed == 4


def test_a_taint_that_no_pod_tolerates_is_found() -> None:
    tolerations = [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    assert untolerated({"sku=gpu:NoSchedule", SPOT}, tolerations) == {SPOT}


def test_the_storage_that_pods_mount_is_made(cluster: dict[str, Blocks]) -> None:
    containers = str(cluster["azurerm_storage_container"]["this"]["for_each"])
    for volume in (each for each in manifests() if each["kind"] == "PersistentVolume"):
        assert f"{volume['spec']['csi']['volumeAttributes']['containerName']}" in containers


def _files() -> Iterator[tuple[str, str]]:
    for path in sorted([*DEPLOY.rglob("*"), *(ROOT / ".github").rglob("*")]):
        if path.is_file() and path.suffix != ".md":
            yield str(path.relative_to(ROOT)), path.read_text()


def test_no_secret_lies_in_the_clear_and_no_image_moves() -> None:
    files = dict(_files())
    assert len(files) > 20
    assert {name: found for name, text in files.items() if (found := secrets_in(text))} == {}
    assert [name for name, text in files.items() if ":latest" in text] == []


@pytest.mark.parametrize(
    "line", ["password: hunter2", '  client_secret = "abc123"', "AccountKey=abcdefgh", "-----BEGIN PRIVATE KEY-----"]
)
def test_a_secret_in_the_clear_is_found(line: str) -> None:
    assert secrets_in(line)
