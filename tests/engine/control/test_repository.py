"""What a repository folder holds, and what it must not lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import ModelConfig, ModelLoadError, NotFound, SpecError, limits
from engine.control import repository as repository_module
from engine.control.repository import Repository


def _model(root: Path, name: str, *versions: str, file: str = "model.onnx") -> Path:
    folder = root / name
    for version in versions or ("1",):
        (folder / version).mkdir(parents=True)
        (folder / version / file).write_bytes(b"model")
    return folder


def _fake_config(text: str, form: str) -> ModelConfig:
    """Reads `name=<file name>` or fails."""
    if text.startswith("bad"):
        raise ModelLoadError(f"{form}:1: expected a value")
    return ModelConfig(file_name=text.strip())


def _repository(root: Path) -> Repository:
    return Repository(root, _fake_config)


def test_models_are_found_by_folder_with_their_versions(tmp_path: Path) -> None:
    _model(tmp_path, "b", "1", "12", "3")
    _model(tmp_path, "a")
    (tmp_path / "README.md").write_text("not a model")
    _model(tmp_path, ".hidden")
    found = _repository(tmp_path).scan()
    assert list(found) == ["a", "b"]
    assert sorted(found["b"].versions) == [1, 3, 12]
    assert found["b"].versions[12].path == (tmp_path / "b/12/model.onnx").resolve()
    assert found["a"].problem is None


@pytest.mark.parametrize("name", ["0", "01", "-1", "+1", "1.0", "x1", "1 ", "²", "١", "9" * 19, "latest"])  # noqa: RUF001
def test_folder_that_is_no_whole_number_above_zero_is_no_version(tmp_path: Path, name: str) -> None:
    _model(tmp_path, "a", name, "7")
    assert list(_repository(tmp_path).scan()["a"].versions) == [7]


def test_largest_version_is_found(tmp_path: Path) -> None:
    _model(tmp_path, "a", "9" * 18)
    assert list(_repository(tmp_path).scan()["a"].versions) == [int("9" * 18)]


def test_model_without_versions_is_there_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert _repository(tmp_path).scan()["empty"].problem == "no version folder with model.onnx in it"


def test_version_without_its_file_has_a_problem_and_costs_the_others_nothing(tmp_path: Path) -> None:
    folder = _model(tmp_path, "a", "1")
    (folder / "2").mkdir()
    (folder / "3").write_text("a file, not a folder")
    versions = _repository(tmp_path).scan()["a"].versions
    assert versions[1].problem is None
    assert versions[2].problem == "version 2 has no file model.onnx"
    assert versions[3].problem == "version 3 has no file model.onnx"


def test_missing_root_is_a_mistake_of_the_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not a folder"):
        Repository(tmp_path / "none", None)


def test_too_many_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.REPOSITORY_MODELS_MAX == 10_000
    monkeypatch.setattr(repository_module, "REPOSITORY_MODELS_MAX", 2)
    for name in "abc":
        _model(tmp_path, name)
    with pytest.raises(SpecError, match="3 models, at most 2"):
        _repository(tmp_path).scan()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/../a", "a/1", "/etc", ".hidden", "a\0b", "x" * 5000, "none"]
)
def test_name_that_is_no_folder_of_the_repository_is_not_found(tmp_path: Path, name: str) -> None:
    _model(tmp_path, "a")
    _model(tmp_path, ".hidden")
    with pytest.raises(NotFound, match="is not in the repository") as caught:
        _repository(tmp_path).find(name)
    assert len(caught.value.message) < 500


def test_fingerprint_changes_with_any_file_of_the_version_and_no_other(tmp_path: Path) -> None:
    folder = _model(tmp_path, "a", "1", "2")
    (folder / "1" / "weights").mkdir()
    (folder / "1" / "weights" / "w.bin").write_bytes(b"1")
    repository = _repository(tmp_path)
    before = repository.find("a").versions
    assert repository.find("a").versions == before
    (folder / "1" / "weights" / "w.bin").write_bytes(b"22")
    after = repository.find("a").versions
    assert after[1].fingerprint != before[1].fingerprint
    assert after[2] == before[2]


# Config.


def test_configuration_is_read_and_names_the_file(tmp_path: Path) -> None:
    folder = _model(tmp_path, "a", file="weights.onnx")
    (folder / "config.pbtxt").write_text("weights.onnx")
    found = _repository(tmp_path).find("a")
    assert found.config == ModelConfig(file_name="weights.onnx")
    assert found.config_fingerprint
    assert found.versions[1].path.name == "weights.onnx"


def test_broken_configuration_is_the_models_problem_alone(tmp_path: Path) -> None:
    (_model(tmp_path, "a") / "config.pbtxt").write_text("bad")
    _model(tmp_path, "b")
    found = _repository(tmp_path).scan()
    assert found["a"].problem == "pbtxt:1: expected a value"
    assert found["b"].problem is None


def test_configuration_without_a_reader_is_a_problem(tmp_path: Path) -> None:
    (_model(tmp_path, "a") / "config.pbtxt").write_text("")
    assert "without a reader" in str(Repository(tmp_path, None).find("a").problem)


def test_huge_configuration_is_not_read(tmp_path: Path) -> None:
    with (_model(tmp_path, "a") / "config.pbtxt").open("wb") as file:
        file.truncate(limits.CONFIG_BYTES_MAX + 1)
    assert "larger than" in str(_repository(tmp_path).find("a").problem)


def test_configuration_that_is_a_folder_is_a_problem(tmp_path: Path) -> None:
    (_model(tmp_path, "a") / "config.pbtxt").mkdir()
    assert _repository(tmp_path).find("a").problem


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "1/model.onnx", "a\0b"])
def test_configured_file_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    (_model(tmp_path, "a") / "config.pbtxt").write_text(name)
    (version,) = _repository(tmp_path).find("a").versions.values()
    assert version.problem


# Symlinks.


def test_model_folder_that_leads_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    outside, root = _model(tmp_path / "outside", "a"), tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(outside)
    assert _repository(root).scan()["a"].problem == "'a' leads out of its folder"


def test_version_or_file_that_leads_out_of_its_model_is_refused(tmp_path: Path) -> None:
    outside, folder = _model(tmp_path / "outside", "a"), _model(tmp_path / "root", "a", "1")
    (folder / "2").symlink_to(outside / "1")
    (folder / "3").mkdir()
    (folder / "3" / "model.onnx").symlink_to(outside / "1" / "model.onnx")
    (folder / "4").mkdir()
    (folder / "4" / "model.onnx").symlink_to("../1/model.onnx")
    versions = _repository(tmp_path / "root").find("a").versions
    assert versions[2].problem == versions[3].problem == "'model.onnx' leads out of its folder"
    assert versions[4].problem is None


def test_configuration_that_leads_out_of_its_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("top secret")
    (_model(tmp_path / "root", "a") / "config.pbtxt").symlink_to(tmp_path / "secret")
    assert _repository(tmp_path / "root").find("a").problem == "'config.pbtxt' leads out of its folder"


def test_symlinks_that_lead_to_themselves_break_only_what_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    folder = _model(tmp_path, "a", "1")
    (folder / "2").symlink_to("2")
    (folder / "3").mkdir()
    (folder / "3" / "model.onnx").symlink_to("model.onnx")
    _model(tmp_path, "b")
    found = _repository(tmp_path).scan()
    assert found["b"].problem is None
    assert found["a"].versions[1].problem is None
    assert found["a"].versions[2].problem
    assert found["a"].versions[3].problem


def test_dangling_symlinks_are_problems_and_not_crashes(tmp_path: Path) -> None:
    folder = _model(tmp_path, "a", "1")
    (folder / "1" / "weights.bin").symlink_to("nowhere")
    (folder / "2").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    found = _repository(tmp_path).scan()
    assert list(found) == ["a"]
    assert found["a"].versions[1].problem is None
    assert found["a"].versions[2].problem


@pytest.mark.parametrize("name", ["x" * 255, "größe", "a b", "a\nb", "'; drop"])
def test_any_name_the_file_system_allows_is_taken(tmp_path: Path, name: str) -> None:
    _model(tmp_path, name)
    assert _repository(tmp_path).find(name).problem is None


def test_name_that_is_not_utf_8_harms_nobody(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    _model(tmp_path, "a")
    assert _repository(tmp_path).scan()["a"].problem is None
