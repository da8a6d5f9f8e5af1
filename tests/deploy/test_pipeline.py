"""Images and the pipeline of GitHub Actions: pinned, unprivileged, and calling what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kernels.processor import LEVELS
from tests.deploy.manifests import DEPLOY, ROOT

IMAGES = [DEPLOY / "Dockerfile.cpu", DEPLOY / "Dockerfile.gpu"]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"


def image_problems(text: str) -> list[str]:
    """What is unsafe about a Dockerfile, or cannot work."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for word, rest in lines:
        found.setdefault(word, []).append(rest)
    problems = []
    if not re.fullmatch(r"BASE=\S+(:\d+\.\d+\.\d+\S*|@sha256:\w{64})", found.get("ARG", [""])[0]):
        problems.append("its base is not pinned")
    if len(found.get("FROM", [])) < 2:
        problems.append("what builds it is left in it")
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", found.get("USER", ["root"])[-1]):
        problems.append("it runs as root")
    if "/readyz" not in "".join(found.get("HEALTHCHECK", [])):
        problems.append("nothing asks whether it is ready")
    copied = [rest.split() for rest in found.get("COPY", []) if not rest.startswith("--from")]
    problems += [f"{name} is not there" for *names, _ in copied for name in names if not (ROOT / name).exists()]
    return problems


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.suffix[1:])
def test_images_are_pinned_small_and_unprivileged(path: Path) -> None:
    assert image_problems(path.read_text()) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("python:3.11.14-slim-bookworm", "python"),
        ("USER 1000:1000", "USER root"),
        ("/readyz", "/"),
        ("COPY serving serving", "COPY server server"),
    ],
)
def test_a_bad_image_is_found(good: str, bad: str) -> None:
    text = IMAGES[0].read_text()
    assert good in text
    assert image_problems(text.replace(good, bad))


def test_what_images_copy_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in IMAGES:
        for line in path.read_text().splitlines():
            if line.startswith("COPY") and "--from" not in line:
                assert set(line.split()[1:-1]) <= sent


def test_extras_of_images_are_declared() -> None:
    declared = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for path in IMAGES:
        for extras in re.findall(r"EXTRAS=([\w,-]+)", path.read_text()):
            assert set(extras.split(",")) <= set(declared)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.suffix[1:])
def test_images_compile_kernels_for_the_processors_that_they_choose_from(path: Path) -> None:
    text = path.read_text()
    (chosen,) = re.findall(r"VIREO_KERNEL_CPUS=(\S+)", text)
    assert chosen.split(",") == re.findall(r"vireo compile --cpu (\S+)", text) == list(LEVELS)


def test_the_pipeline_calls_what_exists() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    made = re.findall(r"^make (\w+)", "\n".join(runs), re.MULTILINE)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"check", "test"} <= set(made) <= set(targets)
    assert any("vireo bench fraud --quick" in each for each in runs)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        assert all(re.search(r"@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
        assert set(job.get("needs", [])) <= set(workflow["jobs"])
