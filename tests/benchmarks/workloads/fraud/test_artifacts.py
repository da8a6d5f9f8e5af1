"""The folder as a whole: the same for the same seed, complete, and without frames when a model is no good."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workloads.fraud import artifacts
from benchmarks.workloads.fraud.artifacts import make_artifacts
from benchmarks.workloads.fraud.model import QualityError
from benchmarks.workloads.fraud.sample import read_sample
from benchmarks.workloads.fraud.summary import read_summary
from tests.benchmarks.workloads.fraud.built import SIMULATION, Build


def with_transactions(build: Build, folder: Path) -> Path:
    shutil.copy(build.folder / SIMULATION.name, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_same_seed_gives_the_same_files_byte_for_byte(build: Build, tmp_path: Path) -> None:
    make_artifacts(with_transactions(build, tmp_path), SIMULATION, say=lambda line: None)
    assert contents(tmp_path) == contents(build.folder)


def test_folder_holds_two_versions_a_sample_and_the_summary(build: Build) -> None:
    found = set(contents(build.folder))
    models = {"models/fraud/1/model.onnx", "models/fraud/2/model.onnx"}
    assert found == {*models, "requests.frames", "sample.npz", "summary.json", SIMULATION.name}
    assert read_summary(build.folder) == build.summary


def test_sample_mixes_frauds_and_genuine_transactions_and_knows_their_scores(build: Build) -> None:
    sample = read_sample(build.folder)
    assert len(sample.rows) == len(sample.labels) == len(sample.amounts) == build.summary.sample_rows
    assert 0.2 < sample.labels.mean() < 0.8
    for version in (1, 2):
        scores = sample.scores_of(version)
        assert np.median(scores[sample.labels]) > np.median(scores[~sample.labels]) + 0.3
    with pytest.raises(ValueError, match="no scores of version 3"):
        sample.scores_of(3)


def test_no_frames_are_left_when_a_model_is_no_good(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise QualityError("no better")

    monkeypatch.setattr(artifacts, "check_quality", refuse)
    folder = with_transactions(build, tmp_path)
    (folder / "requests.frames").write_bytes(b"of an earlier build")
    with pytest.raises(QualityError):
        make_artifacts(folder, SIMULATION, say=lambda line: None)
    assert not (folder / "requests.frames").exists()
