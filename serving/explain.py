"""What was inferred and chosen, and why, as text for people. Pure: descriptions in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine import CollectionDescription, GraphOutline, IndexEntry, ModelDescription, ServerStatistics, Spec, TensorSpec
from serving.graph_explanation import graph_lines, split_lines
from serving.transport import Transport
from serving.vectors_explanation import collection_lines


def explain(
    spec: Spec,
    transport: Transport,
    models: Sequence[ModelDescription],
    index: Sequence[IndexEntry],
    graphs: Sequence[GraphOutline] = (),
    collections: Sequence[CollectionDescription] = (),
    servers: Sequence[ServerStatistics] = (),
) -> str:
    """The whole report for one application; `graphs` and `collections` are those that are served, `servers` those of models on
    Triton."""
    lines = [*_server(spec, transport), ""]
    described = {(each.name, each.version) for each in models}
    for model in models:
        if model.name not in spec.graphs and model.name not in spec.traffic:
            lines += [*_model(model), *(_server_line(each) for each in servers if each.model == model.name), ""]
    for name in spec.traffic:
        lines += [*split_lines(name, spec), ""]
    for graph in graphs:
        lines += [*graph_lines(graph), ""]
    for collection in collections:
        lines += [*collection_lines(collection), ""]
    lines += [_unserved(each) for each in index if (each.name, each.version) not in described]
    return "\n".join(lines).rstrip() + "\n"


def _server(spec: Spec, transport: Transport) -> Iterator[str]:
    server = spec.server
    yield f"server {server.name}: {places(spec, transport)}"
    yield f"  transport: {transport.name}" + (f", {transport.why_not}" if transport.why_not else "")
    guard = "bearer tokens" if server.auth else "no authentication"
    yield f"  access: {guard}{', TLS' if server.tls else ', clear text'}"
    if spec.repository:
        yield f"  repository: {spec.path(spec.repository.path)}, control {spec.repository.control}"
    for name, each in spec.placement.items():
        scaling = each.autoscaling
        count = f"{each.replicas}" if scaling is None else f"{scaling.replicas_min} to {scaling.replicas_max}"
        served = ", ".join(each.serves) or "the doors, and what is placed nowhere else"
        yield f"  on Ray, deployment {name}: {count} replica(s) of {each.cpus:g} core(s), {each.gpus:g} GPU(s): {served}"


def places(spec: Spec, transport: Transport) -> str:
    """Where clients find what, for people and scripts."""
    server = spec.server
    if server.grpc_port and server.grpc_port == server.http_port:
        ports = [("gRPC and HTTP", server.grpc_port)]
    else:
        ports = [
            (name, port) for name, port in (("gRPC", server.grpc_port), ("HTTP", server.http_port)) if port is not None
        ]
    if server.flight_port is not None:
        ports.append(("Arrow Flight", server.flight_port))
    found = [f"{name} on {server.host}:{port or 'any free port'}" for name, port in ports]
    if server.unix_socket is not None:
        found.append(f"{'gRPC and HTTP' if transport.native else 'gRPC'} on unix:{spec.path(server.unix_socket)}")
    return ", ".join(found)


def _model(model: ModelDescription) -> Iterator[str]:
    yield f"{model.name} version {model.version}: READY, {model.traits.platform}, from {model.source}"
    for side, specs in (("in ", model.signature.inputs), ("out", model.signature.outputs)):
        for each in specs:
            yield f"  {side} {_tensor(each)}"
    yield f"  batching: {_batching(model)}"
    yield f"    because {model.traits.batching}"
    options = model.options
    yield (
        f"  queue: at most {options.queue.requests_max} requests or {options.queue.bytes_max} bytes wait, "
        f"{options.instances} batch(es) at once"
    )
    if model.expected_us:
        times = ", ".join(f"{rows}: {each:.0f}" for rows, each in sorted(model.expected_us.items()))
        yield f"  expected compute time by rows, us: {times}"
        yield f"  runs on {_where(model)}"
    for note in (*model.traits.notes, *model.notes):
        yield f"  note: {note}"
    if model.config and model.config.ignored:
        yield f"  note: config.pbtxt sets {', '.join(model.config.ignored)}, which have no effect here"


def _server_line(server: ServerStatistics) -> str:
    counts = server.counts
    line = f"  on {server.server}: {'answers' if server.ready else server.problem}"
    if counts is None or not counts.requests:
        return line
    mean_us = {"queue": counts.queue_ns, "compute": counts.input_ns + counts.compute_ns + counts.output_ns}
    means = ", ".join(f"{stage} {total_ns / counts.requests / 1e3:.0f} us" for stage, total_ns in mean_us.items())
    batches = ", ".join(f"{rows} x {count}" for rows, count in sorted(counts.batches.items()))
    return (
        f"{line}; {counts.requests} requests, {counts.failed} failed, in {counts.executions} batches; on average {means}; "
        f"rows x batches: {batches or 'not told'}"
    )


def _tensor(spec: TensorSpec) -> str:
    sizes = ", ".join("any" if size < 0 else str(size) for size in spec.shape)
    return f"{spec.name}: {spec.datatype.name} [{sizes}]{' (optional)' if spec.optional else ''}"


def _batching(model: ModelDescription) -> str:
    if not model.batching:
        return "off, each request runs alone"
    bounds = model.options.batch
    return f"requests that wait run together, up to {bounds.rows_max} rows or {bounds.bytes_max} bytes; no timer"


def _where(model: ModelDescription) -> str:
    bound = model.options.inline_us_max
    short = [rows for rows, each in model.expected_us.items() if each <= bound]
    if not short:
        return "the worker's threads: every batch is expected to take longer than inline_us_max"
    return f"the transport's thread up to {max(short)} rows (expected within inline_us_max = {bound} us), beyond that a worker's"


def _unserved(entry: IndexEntry) -> str:
    version = "" if entry.version is None else f" version {entry.version}"
    return f"{entry.name}{version}: {entry.state}{', ' + entry.reason if entry.reason else ''}"
