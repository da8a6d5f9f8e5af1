"""vLLM as a language model: its engine in this process and the core of it in another, behind vLLM's own serving layer.

Prompts, sampling, tools, structured output, LoRA and pooling are vLLM's affair; here a call becomes a request of that layer, and
what it gives an answer. Written for vLLM 0.32, whose inner names change with each minor version.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from engine.errors import InvalidArgument, ModelLoadError, Unavailable, quoted
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.declaration import LanguageModelSpec, VllmSpec
from engine.generation.language_model import ModelCard
from engine.home import Home
from engine.limits import GENERATION_END_S_MAX

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_ENVIRONMENT: Final = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1"}
"""What vLLM is told unless the environment says otherwise: a process with threads cannot fork, and nothing calls home."""

_RETRY_AFTER: Final = (("retry-after", "1"),)
_BUSY: Final = (429, 503)
_CORE: Final = "EngineCore"
"""How the names of vLLM's processes begin in which models compute."""

_FILES: Final = "allowed-local-media-path"
"""The argument without which no message may name a file of the server. vLLM raises an error as if its own where one does."""


def load_vllm(name: str, spec: VllmSpec, folder: Path, home: Home, answer_s_max: float) -> VllmModel:
    """An engine that has answered once, within `answer_s_max` from when it was there. Called off the loop of `home`, on which it
    will live. Raises ModelLoadError."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ModelLoadError(
            f"vLLM is not installed ({error}); pip install 'vireo[llm]', or see docs/tutorials/language-models.md for CPUs"
        ) from error
    args = _parsed(name, spec, folder)
    try:
        model = VllmModel(name, spec, _engine(args), args)
    except Exception as error:
        raise ModelLoadError(f"vLLM does not start: {error}") from error
    try:
        home.run(model.start(), answer_s_max)
    except BaseException as error:
        home.run(model.aclose(), GENERATION_END_S_MAX)
        raise ModelLoadError(f"vLLM does not serve: {error}") from error
    return model


class Starting:
    """An engine that is about to start here, one at a time; made before `load_vllm` is called."""

    def __init__(self) -> None:
        self._before = frozenset(multiprocessing.active_children())

    def kill(self) -> None:
        """Its cores, and with them what waits for them: vLLM then gives up the start as failed, and frees what it holds."""
        for each in multiprocessing.active_children():
            if each not in self._before and each.name.startswith(_CORE):
                each.kill()


def _parsed(name: str, spec: VllmSpec, folder: Path) -> Namespace:
    """What vLLM's own parser makes of the spec."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def refuse(message: str) -> NoReturn:
        raise ModelLoadError(f"vllm.args: {message}")

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm.args"))
    parser.error = refuse
    inside = folder / Path(spec.model).expanduser()
    argv = ["--model", str(inside) if inside.exists() else spec.model, "--served-model-name", name, *_argv(spec)]
    if spec.adapters:
        named = _adapter_paths(spec, folder).items()
        argv += ["--enable-lora", "--lora-modules", *(f"{each}={path}" for each, path in named)]
    try:
        args: Namespace = parser.parse_args(argv)
        validate_parsed_serve_args(args)
    except (ValueError, TypeError) as error:
        refuse(str(error))
    return args


def _adapter_paths(spec: VllmSpec, folder: Path) -> dict[str, str]:
    return {each: str(folder / Path(path).expanduser()) for each, path in spec.adapters.items()}


def _argv(spec: VllmSpec) -> Iterator[str]:
    for key, value in spec.args.items():
        if isinstance(value, bool):
            yield f"--{key}" if value else f"--no-{key}"
        else:
            yield f"--{key}"
            yield from map(str, value if isinstance(value, tuple) else (value,))


def _engine(args: Namespace) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    given, usage = AsyncEngineArgs.from_cli_args(args), UsageContext.OPENAI_API_SERVER
    return AsyncLLM.from_vllm_config(
        given.create_engine_config(usage_context=usage),
        usage_context=usage,
        enable_log_requests=given.enable_log_requests,
        disable_log_stats=given.disable_log_stats,
    )


@dataclass(frozen=True, slots=True)
class _Surface:
    """One kind of call: how a body is read, and who answers it. The latter takes what was read, and an HTTP request or None."""

    read: Callable[[Mapping[str, Any]], Any]
    answer: Callable[[Any, None], Awaitable[Any]]


class VllmModel:
    """A `LanguageModel` that is `Adaptable`: adapters come and go while it answers."""

    def __init__(self, name: str, spec: VllmSpec, llm: AsyncLLM, args: Namespace) -> None:
        self._name, self._spec, self._llm, self._args = name, spec, llm, args
        self._created_s = int(time.time())
        self._surfaces: dict[GenerationKind, _Surface] = {}
        self._models: Any = None
        self._by_priority = llm.vllm_config.scheduler_config.policy == "priority"

    async def start(self) -> None:
        """Makes vLLM's serving layer, on the loop it will live on, and answers one call of it."""
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state

        state, tasks = SimpleNamespace(), await self._llm.get_supported_tasks()
        await init_app_state(self._llm, state, self._args, tasks)
        self._models = state.openai_serving_models
        self._surfaces = dict(_surfaces(state))
        await self._warm_up()

    async def _warm_up(self) -> None:
        """The first request for log probabilities compiles for seconds: nobody should wait for that."""
        if GenerationKind.COMPLETION in self._surfaces:
            kind, body = GenerationKind.COMPLETION, {"prompt": "warm up", "max_tokens": 2, "logprobs": 1}
        elif GenerationKind.EMBEDDING in self._surfaces:
            kind, body = GenerationKind.EMBEDDING, {"input": "warm up"}
        else:
            return
        answer = await self.answer(GenerationCall(kind, self._name, {"model": self._name, **body}))
        if answer.status >= 400:
            raise ModelLoadError(f"its first answer is an error: {answer.body!r}")

    @property
    def kinds(self) -> frozenset[GenerationKind]:
        """See `LanguageModel`."""
        return frozenset(self._surfaces)

    def cards(self) -> Sequence[ModelCard]:
        """See `LanguageModel`."""
        tokens: int = self._llm.model_config.max_model_len
        adapters = list(self._models.lora_requests) if self._models is not None else []
        return [
            ModelCard(self._name, self._created_s, "vllm", None, tokens),
            *(ModelCard(each, self._created_s, "vllm", self._name, tokens) for each in adapters),
        ]

    def problem(self) -> str | None:
        """See `LanguageModel`."""
        return f"vLLM's engine core died: {self._llm.dead_error}" if self._llm.errored else None

    async def adapt(self, spec: LanguageModelSpec, folder: Path) -> bool:
        """See `Adaptable`: where nothing but adapters, deadline and bound are new, and LoRA was enabled at the start. An adapter
        that changed must have a new path: vLLM keeps prefixes computed with what lay at the old one."""
        enabled = self._llm.vllm_config.lora_config is not None
        if spec.vllm is None or not enabled or replace(spec.vllm, adapters=self._spec.adapters) != self._spec:
            return False
        wanted = _adapter_paths(spec.vllm, folder)
        loaded = {name: request.lora_path for name, request in self._models.lora_requests.items()}
        for name in [each for each, path in loaded.items() if wanted.get(each) != path]:
            await self._unload_adapter(name)
        new = [(name, path) for name, path in wanted.items() if loaded.get(name) != path]
        told = [await self._load_adapter(name, path) for name, path in new]  # one that does not fit keeps no other out
        if problems := [each for each in told if each is not None]:
            raise ModelLoadError("; ".join(problems))
        self._spec = spec.vllm
        return True

    async def _load_adapter(self, name: str, path: str) -> str | None:
        """Why it cannot be loaded; None where it is."""
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        told = await self._models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=path))
        return f"vllm.adapters.{name}: {told.error.message}" if isinstance(told, ErrorResponse) else None

    async def _unload_adapter(self, name: str) -> None:
        """Calls under way with it go on."""
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        from pydantic import ValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        surface = self._surfaces[call.kind]
        try:
            given = await surface.answer(surface.read(self._body(call)), None)
        except ValidationError as error:
            raise InvalidArgument(_told(error.errors())) from error
        except EngineDeadError as error:
            raise Unavailable(f"language model {quoted(self._name)}: {error}", retry_after_s=1.0) from error
        except Exception as error:
            return _refused(error)
        return _answered(given, call.kind)

    def _body(self, call: GenerationCall) -> dict[str, Any]:
        body = dict(call.body)
        if call.id and call.kind in _GENERATING:
            body.setdefault("request_id", call.id)
        if self._by_priority:
            body.setdefault("priority", call.priority)
        return body

    async def aclose(self) -> None:
        """See `LanguageModel`."""
        import asyncio

        try:
            await asyncio.to_thread(self._llm.shutdown, GENERATION_END_S_MAX / 2)
        finally:
            self._llm.shutdown = _nothing  # its __del__ calls it, perhaps when Python has ended


def _nothing(timeout: float | None = None) -> None: ...


_GENERATING: Final = frozenset((GenerationKind.CHAT, GenerationKind.COMPLETION, GenerationKind.RESPONSES))


def _surfaces(state: SimpleNamespace) -> Iterator[tuple[GenerationKind, _Surface]]:
    """What the model that was loaded can do."""
    from pydantic import TypeAdapter
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.pooling.embed.protocol import EmbeddingRequest
    from vllm.entrypoints.pooling.scoring.protocol import RerankRequest, ScoreRequest
    from vllm.entrypoints.serve.tokenize.protocol import TokenizeRequest

    table = (
        (GenerationKind.CHAT, ChatCompletionRequest, "openai_serving_chat", "create_chat_completion"),
        (GenerationKind.COMPLETION, CompletionRequest, "openai_serving_completion", "create_completion"),
        (GenerationKind.RESPONSES, ResponsesRequest, "openai_serving_responses", "create_responses"),
        (GenerationKind.EMBEDDING, EmbeddingRequest, "serving_embedding", "__call__"),
        (GenerationKind.RERANK, RerankRequest, "serving_scores", "__call__"),
        (GenerationKind.SCORE, ScoreRequest, "serving_scores", "__call__"),
        (GenerationKind.TOKENIZE, TokenizeRequest, "serving_tokenization", "create_tokenize"),
    )
    for kind, request, part, method in table:
        serving = getattr(state, part, None)
        if serving is not None:
            yield kind, _Surface(TypeAdapter(request).validate_python, getattr(serving, method))


def _answered(given: Any, kind: GenerationKind) -> GenerationAnswer:  # noqa: ANN401  whatever vLLM's serving layer gives
    from pydantic import BaseModel
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse

    if isinstance(given, ErrorResponse):
        return _error(given)
    if isinstance(given, BaseModel):
        return GenerationAnswer(given.model_dump_json(by_alias=kind is GenerationKind.RESPONSES).encode())
    if getattr(given, "media_type", None) == "application/json" and hasattr(given, "body"):
        return GenerationAnswer(bytes(given.body), given.status_code)
    if isinstance(given, AsyncGenerator):
        return GenerationAnswer(_events(given))
    raise InvalidArgument("encoding_format: expected 'float' or 'base64'")


def _refused(error: Exception) -> GenerationAnswer:
    """The answer in which vLLM tells an error of its own. What is none of a caller's is raised again."""
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

    told = create_error_response(error)
    if told.error.code == 500:
        if _FILES in str(error):
            why = f"a message names a file of the server, which are not read without vllm.args.{_FILES}"
            raise InvalidArgument(why) from error
        raise error
    return _error(told)


def _error(told: Any) -> GenerationAnswer:  # noqa: ANN401  vLLM's ErrorResponse
    status: int = told.error.code
    return GenerationAnswer(told.model_dump_json().encode(), status, _RETRY_AFTER if status in _BUSY else ())


async def _events(given: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    """As server-sent events: those of the older surfaces are text already, those of the newer are values with a name."""
    try:
        async for each in given:
            if isinstance(each, str):
                yield each.encode()
            else:
                yield f"event: {each.type}\ndata: {each.model_dump_json(by_alias=True)}\n\n".encode()
    finally:
        await given.aclose()


def _told(problems: Sequence[Any]) -> str:
    """The first of pydantic's problems."""
    first = problems[0]
    return f"{'.'.join(map(str, first['loc'])) or 'request body'}: {first['msg']}"
