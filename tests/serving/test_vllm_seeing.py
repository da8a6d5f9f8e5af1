"""Images go through the front as they came, to a real vLLM and a model that sees; what it cannot see is refused."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from benchmarks.workloads.generation.model import write_model
from tests.serving.seeing import IMAGE_TOKENS, write_seeing
from tests.serving.servers import ServerHere, spec_for
from tests.serving.vllm_server import client_of, server_of, skip_unless_wanted

skip_unless_wanted()

SPEC = """
server: {grpc_port: 0, http_port: 0}
language_models:
  eye:
    vllm:
      model: eye
      args: {enforce-eager: true, max-model-len: 512, max-num-seqs: 4, dtype: float32, allowed-media-domains: images.example}
"""
WORDS: Final = {"type": "text", "text": "What is this?"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """One with the engine."""
    folder = tmp_path_factory.mktemp("seeing")
    write_seeing(folder / "eye", write_model(folder / "smol"), seed=3)
    made = server_of(spec_for(SPEC, folder, "native"))
    yield made
    made.stop()


@pytest.fixture
def client(server: ServerHere) -> Iterator[openai.OpenAI]:
    """The vendor's client."""
    with client_of(server) as made:
        yield made


def image(colour: str) -> dict[str, Any]:
    """The part of a message that shows one colour."""
    from PIL import Image  # comes with vLLM

    written = io.BytesIO()
    Image.new("RGB", (90, 40), colour).save(written, "PNG")
    return picture(f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}")


def picture(url: str) -> dict[str, Any]:
    """The part of a message that shows what lies at `url`."""
    return {"type": "image_url", "image_url": {"url": url}}


def asked(client: openai.OpenAI, *parts: dict[str, Any], **more: Any) -> Any:  # noqa: ANN401
    """The answer to one message of these parts."""
    messages: list[Any] = [{"role": "user", "content": list(parts)}]
    return client.chat.completions.create(model="eye", messages=messages, max_tokens=6, temperature=0, **more)


def likelihoods(answer: Any) -> list[float]:  # noqa: ANN401
    """Of the tokens that were likeliest in the place of the first."""
    return [each.logprob for each in answer.choices[0].logprobs.content[0].top_logprobs]


def test_an_image_is_part_of_the_prompt(client: openai.OpenAI) -> None:
    red, blue = image("red"), image("blue")
    more = {"logprobs": True, "top_logprobs": 5}
    blind, seen, again, other = (
        asked(client, *parts, **more) for parts in ([WORDS], [red, WORDS], [red, WORDS], [blue, WORDS])
    )
    assert [each.usage.prompt_tokens - blind.usage.prompt_tokens for each in (seen, other)] == [IMAGE_TOKENS] * 2
    assert likelihoods(again) == pytest.approx(likelihoods(seen), abs=1e-4)
    assert likelihoods(other) != pytest.approx(likelihoods(seen), abs=1e-4)
    assert seen.choices[0].message.content == again.choices[0].message.content


def test_an_answer_to_an_image_streams_as_it_comes_whole(client: openai.OpenAI) -> None:
    whole = asked(client, image("green"), WORDS).choices[0].message.content
    pieces = list(asked(client, image("green"), WORDS, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in pieces) == whole
    assert len(pieces) > 1


def test_the_newer_form_shows_images_too(client: openai.OpenAI) -> None:
    parts = [
        {"type": "input_image", "image_url": image("red")["image_url"]["url"], "detail": "auto"},
        {"type": "input_text", "text": WORDS["text"]},
    ]
    given: list[Any] = [{"role": "user", "content": parts}]
    answer = client.responses.create(model="eye", input=given, max_output_tokens=6, temperature=0)
    blind = client.responses.create(model="eye", input=WORDS["text"], max_output_tokens=6, temperature=0)
    assert answer.usage is not None
    assert blind.usage is not None
    assert answer.usage.input_tokens - blind.usage.input_tokens == IMAGE_TOKENS


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([picture("data:image/png;base64,aGVsbG8="), WORDS], "image"),
        ([picture("data:image/png;base64,?"), WORDS], ""),
        ([picture("file:///etc/hostname"), WORDS], "allowed-local-media-path"),
        ([picture("http://127.0.0.1:9/cat.png"), WORDS], "images.example"),
        ([{"type": "image_url"}, WORDS], ""),
        ([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}, WORDS], "audio"),
        ([image("red"), image("red"), WORDS], "1"),
    ],
)
def test_what_cannot_be_seen_is_refused_and_stalls_nobody(
    client: openai.OpenAI, parts: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        asked(client, *parts)
    assert said in raised.value.message
    told: Any = raised.value.body
    assert set(told) >= {"message", "type", "param", "code"}
    assert asked(client, WORDS).choices
