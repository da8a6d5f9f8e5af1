"""Questions on this project's own documents, answered from them by a small model, streamed and cited, over the OpenAI API.

`python -m benchmarks.workloads.generation --out FOLDER [--install] [--question TEXT ...]`, which `make demo-llm` runs; wants vLLM
(see docs/tutorials/language-models.md). With --install it is installed where it is not there, and where it cannot be had (another
platform, too little disk, no network) one line says so and the exit code is 0.
Exit code 1 where a citation names what was not retrieved or does not lie in its document.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from openai import OpenAI

from benchmarks.harness import ServerProcess, free_port
from benchmarks.machine import ROOT
from benchmarks.packages import laid_out
from benchmarks.workloads.generation.install import InstallError, NotHereError, install
from benchmarks.workloads.generation.model import missing, write_model
from benchmarks.workloads.generation.passages import Passage, passages_of
from benchmarks.workloads.retrieval.embedding import MODEL, PACKAGES, TOKENIZER

BATCH = 32
QUESTIONS = (
    "What happens to requests in flight when a new version of a model is loaded?",
    "What happens to a request whose deadline has passed?",
    "What does vireo check do?",
)


def build(out: Path, cache: Path) -> Path:
    """The application's folder, models in it; the spec's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_model(out / "smol")
    packages = laid_out(PACKAGES, cache / "packages")
    (out / "minilm").mkdir(exist_ok=True)
    shutil.copyfile(packages / MODEL, out / "minilm" / "model.onnx")
    shutil.copyfile(packages / TOKENIZER, out / "minilm" / "tokenizer.json")
    spec = yaml.safe_load(Path(__file__).with_name("grounded.yaml").read_text())
    spec["server"] = {"grpc_port": None, "http_port": free_port()}
    app = out / "app.yaml"
    app.write_text(yaml.safe_dump(spec, sort_keys=False))
    return app


def documents() -> list[Passage]:
    """Of the README and everything below docs."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [each for path in files for each in passages_of(path, str(path.relative_to(ROOT)))]


def fill(client: httpx.Client, passages: Sequence[Passage]) -> None:
    """Embeds the passages by the served encoder and upserts them."""
    for at in range(0, len(passages), BATCH):
        some = passages[at : at + BATCH]
        texts = [f"{each.title}. {each.text}" for each in some]
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
        infer = client.post("/v2/models/minilm/infer", json=body).raise_for_status().json()
        (embedding,) = [each for each in infer["outputs"] if each["name"] == "embedding"]
        width = embedding["shape"][1]
        points = [
            {
                "id": each.id,
                "vector": embedding["data"][row * width : (row + 1) * width],
                "payload": {"text": each.text, "document": each.document, "start": each.start, "end": each.end},
            }
            for row, each in enumerate(some)
        ]
        client.put("/v1/collections/documents/points", json={"points": points}).raise_for_status()


def ask(client: OpenAI, question: str) -> dict[str, Any]:
    """Prints the answer as it comes; what it rests on."""
    print(f"\n> {question}\n", flush=True)
    began, first = time.monotonic(), 0.0
    grounding: dict[str, Any] = {}
    stream = client.chat.completions.create(
        model="documents",
        messages=[{"role": "user", "content": question}],
        max_tokens=60,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        first = first or (time.monotonic() - began if text else 0.0)
        print(text or "", end="", flush=True)
        grounding = (chunk.model_extra or {}).get("grounding") or grounding
    print(f"\n\n  first text after {first:.2f} s, {time.monotonic() - began:.2f} s in all", flush=True)
    return grounding


def problems(grounding: dict[str, Any], passages: dict[str, Passage]) -> list[str]:
    """What does not hold of an answer's citations; prints them."""
    found = []
    shown = {each["id"]: each for each in grounding["passages"]}
    for cited in dict.fromkeys(each["passage"] for each in grounding["citations"]):
        passage = shown.get(cited)
        if passage is None:
            found.append(f"{cited} was cited and not shown")
            continue
        told = passages[cited]
        if (passage["text"], passage["start"], passage["end"]) != (told.text, told.start, told.end):
            found.append(f"{cited} is not what the document says there")
        print(f"  [{passage['number']}] {told.document}, {told.title}: {told.text[:90]}...")
    share = grounding["supported_share"]
    print(f"  {'no' if share is None else f'{share:.0%} of'} statements supported by what is cited")
    return found


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks.workloads.generation", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".cache/generation"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/retrieval"), help="where packages are laid out")
    parser.add_argument("--question", action="append", help="instead of the three that are asked else")
    parser.add_argument(
        "--install", action="store_true", help="vLLM first, where it is not there; nothing where it cannot be had"
    )
    arguments = parser.parse_args()
    if arguments.install:
        try:
            install()
        except NotHereError as why:
            print(f"The questions to a language model are left out: {why}")
            return 0
        except InstallError as error:
            print(error, file=sys.stderr)
            return 1
    if needed := missing():
        print(f"not installed: {', '.join(needed)}; see docs/tutorials/language-models.md", file=sys.stderr)
        return 2
    app = build(arguments.out, arguments.cache)
    port = yaml.safe_load(app.read_text())["server"]["http_port"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    print("starting: a language model takes its minute", flush=True)
    process = ServerProcess(
        [sys.executable, "-m", "serving.cli", "serve", str(app)],
        log=arguments.out / "serve.log",
        core=None,
        environment=environment | dict(os.environ),
    )
    with process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        process.wait_ready(lambda: _ready(client))
        passages = documents()
        fill(client, passages)
        print(f"{len(passages)} passages of {len({each.document for each in passages})} documents are searched")
        asking = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120)
        known = {each.id: each for each in passages}
        wrong = [problem for each in arguments.question or QUESTIONS for problem in problems(ask(asking, each), known)]
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())
