from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RowStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_STATUS_PRESENT: _ClassVar[RowStatus]
    ROW_STATUS_MISSING: _ClassVar[RowStatus]
    ROW_STATUS_STALE: _ClassVar[RowStatus]
    ROW_STATUS_LOST: _ClassVar[RowStatus]
ROW_STATUS_PRESENT: RowStatus
ROW_STATUS_MISSING: RowStatus
ROW_STATUS_STALE: RowStatus
ROW_STATUS_LOST: RowStatus

class PushRequest(_message.Message):
    __slots__ = ("log", "arrow", "rows", "wait_for", "wait_ms")
    LOG_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    log: str
    arrow: bytes
    rows: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    wait_for: _containers.RepeatedScalarFieldContainer[str]
    wait_ms: int
    def __init__(self, log: _Optional[str] = ..., arrow: _Optional[bytes] = ..., rows: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., wait_for: _Optional[_Iterable[str]] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("spans", "pending", "token")
    SPANS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    pending: _containers.RepeatedScalarFieldContainer[str]
    token: str
    def __init__(self, spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., pending: _Optional[_Iterable[str]] = ..., token: _Optional[str] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("partition", "first", "next")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    partition: int
    first: int
    next: int
    def __init__(self, partition: _Optional[int] = ..., first: _Optional[int] = ..., next: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("view", "int64_entities", "text_entities", "binary_entities", "as_of_us", "request", "features", "after")
    class RequestEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: RequestColumn
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[RequestColumn, _Mapping]] = ...) -> None: ...
    VIEW_FIELD_NUMBER: _ClassVar[int]
    INT64_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    TEXT_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    BINARY_ENTITIES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    view: str
    int64_entities: _containers.RepeatedScalarFieldContainer[int]
    text_entities: _containers.RepeatedScalarFieldContainer[str]
    binary_entities: _containers.RepeatedScalarFieldContainer[bytes]
    as_of_us: _containers.RepeatedScalarFieldContainer[int]
    request: _containers.MessageMap[str, RequestColumn]
    features: _containers.RepeatedScalarFieldContainer[str]
    after: str
    def __init__(self, view: _Optional[str] = ..., int64_entities: _Optional[_Iterable[int]] = ..., text_entities: _Optional[_Iterable[str]] = ..., binary_entities: _Optional[_Iterable[bytes]] = ..., as_of_us: _Optional[_Iterable[int]] = ..., request: _Optional[_Mapping[str, RequestColumn]] = ..., features: _Optional[_Iterable[str]] = ..., after: _Optional[str] = ...) -> None: ...

class RequestColumn(_message.Message):
    __slots__ = ("numbers", "texts")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, numbers: _Optional[_Iterable[float]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("features", "values", "nulls", "event_time_us", "statuses", "texts")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    nulls: _containers.RepeatedScalarFieldContainer[bool]
    event_time_us: _containers.RepeatedScalarFieldContainer[int]
    statuses: _containers.RepeatedScalarFieldContainer[RowStatus]
    texts: _containers.RepeatedCompositeFieldContainer[TextFeature]
    def __init__(self, features: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ..., nulls: _Optional[_Iterable[bool]] = ..., event_time_us: _Optional[_Iterable[int]] = ..., statuses: _Optional[_Iterable[_Union[RowStatus, str]]] = ..., texts: _Optional[_Iterable[_Union[TextFeature, _Mapping]]] = ...) -> None: ...

class TextFeature(_message.Message):
    __slots__ = ("column", "values")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    column: int
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, column: _Optional[int] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("id", "get", "push")
    ID_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    id: str
    get: GetRequest
    push: PushRequest
    def __init__(self, id: _Optional[str] = ..., get: _Optional[_Union[GetRequest, _Mapping]] = ..., push: _Optional[_Union[PushRequest, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("id", "get", "push", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    get: GetResponse
    push: PushResponse
    error: StreamError
    def __init__(self, id: _Optional[str] = ..., get: _Optional[_Union[GetResponse, _Mapping]] = ..., push: _Optional[_Union[PushResponse, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retryable: bool
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class ListViewsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListViewsResponse(_message.Message):
    __slots__ = ("views",)
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, views: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeViewRequest(_message.Message):
    __slots__ = ("view",)
    VIEW_FIELD_NUMBER: _ClassVar[int]
    view: str
    def __init__(self, view: _Optional[str] = ...) -> None: ...

class DescribeViewResponse(_message.Message):
    __slots__ = ("view", "source", "entity", "entity_type", "features", "request", "declaration", "statistics")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    DECLARATION_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    view: str
    source: str
    entity: str
    entity_type: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureColumn]
    request: _containers.RepeatedCompositeFieldContainer[RequestInput]
    declaration: _struct_pb2.Struct
    statistics: ViewStatistics
    def __init__(self, view: _Optional[str] = ..., source: _Optional[str] = ..., entity: _Optional[str] = ..., entity_type: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureColumn, _Mapping]]] = ..., request: _Optional[_Iterable[_Union[RequestInput, _Mapping]]] = ..., declaration: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., statistics: _Optional[_Union[ViewStatistics, _Mapping]] = ...) -> None: ...

class FeatureColumn(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: bool
    def __init__(self, name: _Optional[str] = ..., text: _Optional[bool] = ...) -> None: ...

class RequestInput(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: bool
    def __init__(self, name: _Optional[str] = ..., text: _Optional[bool] = ...) -> None: ...

class ViewStatistics(_message.Message):
    __slots__ = ("applied", "duplicates", "filtered", "dead", "late", "entities", "bytes", "offsets", "lag_rows", "watermark_us", "restored", "error", "table", "table_version", "table_rows", "covered")
    class OffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    FILTERED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    LAG_ROWS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_US_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TABLE_ROWS_FIELD_NUMBER: _ClassVar[int]
    COVERED_FIELD_NUMBER: _ClassVar[int]
    applied: int
    duplicates: int
    filtered: int
    dead: int
    late: int
    entities: int
    bytes: int
    offsets: _containers.ScalarMap[int, int]
    lag_rows: int
    watermark_us: int
    restored: bool
    error: str
    table: str
    table_version: int
    table_rows: int
    covered: int
    def __init__(self, applied: _Optional[int] = ..., duplicates: _Optional[int] = ..., filtered: _Optional[int] = ..., dead: _Optional[int] = ..., late: _Optional[int] = ..., entities: _Optional[int] = ..., bytes: _Optional[int] = ..., offsets: _Optional[_Mapping[int, int]] = ..., lag_rows: _Optional[int] = ..., watermark_us: _Optional[int] = ..., restored: _Optional[bool] = ..., error: _Optional[str] = ..., table: _Optional[str] = ..., table_version: _Optional[int] = ..., table_rows: _Optional[int] = ..., covered: _Optional[int] = ...) -> None: ...

class ListLogsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLogsResponse(_message.Message):
    __slots__ = ("logs",)
    LOGS_FIELD_NUMBER: _ClassVar[int]
    logs: _containers.RepeatedCompositeFieldContainer[LogDescription]
    def __init__(self, logs: _Optional[_Iterable[_Union[LogDescription, _Mapping]]] = ...) -> None: ...

class LogDescription(_message.Message):
    __slots__ = ("log", "columns", "arrow_schema")
    LOG_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ARROW_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    log: str
    columns: _containers.RepeatedCompositeFieldContainer[LogColumn]
    arrow_schema: bytes
    def __init__(self, log: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[LogColumn, _Mapping]]] = ..., arrow_schema: _Optional[bytes] = ...) -> None: ...

class LogColumn(_message.Message):
    __slots__ = ("name", "type", "nullable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NULLABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    nullable: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., nullable: _Optional[bool] = ...) -> None: ...
