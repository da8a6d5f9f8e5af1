"""What `vireo check` and `vireo explain` say of language models."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.cli import main

SPEC = "language_models: {parrot: {call: 'tests.language:Bigrams', timeout_ms: 500}%s}"


def test_check_counts_language_models_and_names_those_that_do_not_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(SPEC % "")
    assert main(["check", str(app)]) == 0
    assert "1 language model(s), 0 with a problem" in capsys.readouterr().out
    app.write_text(SPEC % ", lost: {call: 'tests.nowhere:x'}")
    assert main(["check", str(app)]) == 1
    told = capsys.readouterr()
    assert "2 language model(s), 1 with a problem" in told.out
    assert "lost: language model 'lost': cannot import 'tests.nowhere:x'" in told.err


def test_explain_tells_of_language_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(SPEC % ", lost: {call: 'tests.nowhere:x'}")
    assert main(["explain", str(app)]) == 0
    told = capsys.readouterr().out
    assert "parrot: language model, READY, call tests.language:Bigrams" in told
    assert "answers chat, completion calls of parrot" in told
    assert "at most 1024 calls under way, deadline after 500 ms" in told
    assert "lost: language model, FAILED, call tests.nowhere:x; language model 'lost': cannot import" in told
