from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GENERATION_KIND_UNSPECIFIED: _ClassVar[GenerationKind]
    GENERATION_KIND_CHAT: _ClassVar[GenerationKind]
    GENERATION_KIND_COMPLETION: _ClassVar[GenerationKind]
    GENERATION_KIND_RESPONSES: _ClassVar[GenerationKind]
    GENERATION_KIND_EMBEDDING: _ClassVar[GenerationKind]
    GENERATION_KIND_RERANK: _ClassVar[GenerationKind]
    GENERATION_KIND_SCORE: _ClassVar[GenerationKind]
    GENERATION_KIND_TOKENIZE: _ClassVar[GenerationKind]
GENERATION_KIND_UNSPECIFIED: GenerationKind
GENERATION_KIND_CHAT: GenerationKind
GENERATION_KIND_COMPLETION: GenerationKind
GENERATION_KIND_RESPONSES: GenerationKind
GENERATION_KIND_EMBEDDING: GenerationKind
GENERATION_KIND_RERANK: GenerationKind
GENERATION_KIND_SCORE: GenerationKind
GENERATION_KIND_TOKENIZE: GenerationKind

class GenerateRequest(_message.Message):
    __slots__ = ("kind", "body")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    kind: GenerationKind
    body: bytes
    def __init__(self, kind: _Optional[_Union[GenerationKind, str]] = ..., body: _Optional[bytes] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("body", "status")
    BODY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    status: int
    def __init__(self, body: _Optional[bytes] = ..., status: _Optional[int] = ...) -> None: ...

class GenerateEvent(_message.Message):
    __slots__ = ("event", "data")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    event: str
    data: bytes
    def __init__(self, event: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[LanguageModel]
    def __init__(self, models: _Optional[_Iterable[_Union[LanguageModel, _Mapping]]] = ...) -> None: ...

class LanguageModel(_message.Message):
    __slots__ = ("id", "parent", "context_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    parent: str
    context_tokens: int
    def __init__(self, id: _Optional[str] = ..., parent: _Optional[str] = ..., context_tokens: _Optional[int] = ...) -> None: ...
