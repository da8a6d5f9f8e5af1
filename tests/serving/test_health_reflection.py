"""Health and reflection, by the stock clients of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.health_service import SERVICE as HEALTH
from tests.fakes import PATIENCE_S
from tests.serving.calls import AS_BYTES, SERVICE, refused
from tests.serving.models import FUNCTIONS, SERVER
from tests.serving.servers import ServerHere

Status = health_pb2.HealthCheckResponse


@pytest.fixture
def channel(server: ServerHere) -> Iterator[grpc.Channel]:
    """A plain channel."""
    with grpc.insecure_channel(server.address) as made:
        yield made


@pytest.fixture
def health(channel: grpc.Channel) -> Any:  # noqa: ANN401  a generated stub
    """The health client."""
    return health_pb2_grpc.HealthStub(channel)


# Health.


@pytest.mark.parametrize("name", ["", SERVICE])
def test_check_says_serving_of_the_whole_and_of_the_service(health: Any, name: str) -> None:  # noqa: ANN401
    assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == Status.SERVING


def test_check_of_an_unknown_service_is_not_found(health: Any) -> None:  # noqa: ANN401
    with refused("NOT_FOUND", "unknown service 'no.such.Service'"):
        health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))


def test_every_method_of_the_protocol_as_installed_is_offered(channel: grpc.Channel) -> None:
    known = {each.name for each in health_pb2.DESCRIPTOR.services_by_name["Health"].methods}
    assert known == {"Check", "Watch"}, "a new version of the package has a method that is not offered"
    with refused("UNIMPLEMENTED"):
        channel.unary_unary(f"/{HEALTH}/List", *AS_BYTES)(b"")


def test_watch_tells_at_once_and_of_an_unknown_service_too(health: Any) -> None:  # noqa: ANN401
    for name, status in (("", Status.SERVING), ("no.such.Service", Status.SERVICE_UNKNOWN)):
        call = health.Watch(health_pb2.HealthCheckRequest(service=name))
        assert next(call).status == status
        call.cancel()


def test_watch_without_a_question_is_refused(channel: grpc.Channel) -> None:
    call = channel.stream_stream(f"/{HEALTH}/Watch", *AS_BYTES)
    with refused("INVALID_ARGUMENT", "Watch needs a HealthCheckRequest"):
        list(call(iter([]), timeout=PATIENCE_S))


def test_watch_sees_the_server_stop(start: Callable[[str], ServerHere]) -> None:
    server = start(SERVER + FUNCTIONS)
    with grpc.insecure_channel(server.address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(call).status == Status.SERVING
        stopping = server.submit(server.host.stop())
        assert next(call).status == Status.NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(call)
        stopping.result(PATIENCE_S)


# Reflection.


def test_reflection_lists_every_service(channel: grpc.Channel) -> None:
    found = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {SERVICE, HEALTH, "grpc.reflection.v1alpha.ServerReflection"} <= found


def test_reflection_describes_the_methods_well_enough_to_call_them(channel: grpc.Channel) -> None:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    methods = pool.FindServiceByName(SERVICE).methods_by_name
    assert methods["ModelInfer"].input_type.fields_by_name["raw_input_contents"].number == 7
    assert methods["ModelStreamInfer"].output_type.full_name == "inference.ModelStreamInferResponse"
    assert (
        pool.FindServiceByName(HEALTH).methods_by_name["Watch"].output_type.full_name
        == "grpc.health.v1.HealthCheckResponse"
    )


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_under_both_its_names(channel: grpc.Channel, version: str) -> None:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest
    asked = [request(file_containing_symbol=SERVICE), request(file_containing_symbol="no.such.Thing"), request()]
    known, unknown, nothing = call(iter(asked), timeout=PATIENCE_S)
    assert known.file_descriptor_response.file_descriptor_proto
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
