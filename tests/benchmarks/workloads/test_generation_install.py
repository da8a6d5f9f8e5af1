"""vLLM is installed where it can be had; where it cannot, that is no failure, and one line says why."""

from pathlib import Path

import pytest

from benchmarks.workloads.generation.install import (
    FREE_BYTES_MIN,
    InstallError,
    NotHereError,
    failure,
    install,
    lacking,
)


def test_a_machine_is_asked_for_its_platform_and_its_disk() -> None:
    assert lacking("Linux", "x86_64", FREE_BYTES_MIN) is None
    assert lacking("Darwin", "arm64", FREE_BYTES_MIN) == (
        "vLLM for CPUs is pinned for Linux on x86-64, this is Darwin on arm64"
    )
    assert lacking("Linux", "x86_64", 5 << 29) == "it takes 8 GB of free disk, there are 2.5"


def test_what_no_index_has_is_not_to_be_had_and_what_is_installed_is_not_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a real pip, without a network
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setattr("benchmarks.workloads.generation.install.FREE_BYTES_MIN", 0)
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("no-such-package-of-ours==1\n")
    with pytest.raises(NotHereError, match=r"No matching distribution found for no-such-package-of-ours==1"):
        install(wanted, tmp_path)
    wanted.write_text("")
    install(wanted, tmp_path)
    wanted.write_text("no-such-package-of-ours==1\n")
    (tmp_path / ".llm").write_text(wanted.read_text())
    install(wanted, tmp_path)


def test_other_words_of_pip_are_a_failure(tmp_path: Path) -> None:
    assert isinstance(failure("ERROR: Invalid requirement: '==='"), InstallError)
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("===\n")
    with pytest.raises(InstallError, match="Invalid requirement"):
        install(wanted, tmp_path)
