"""The `vireo` command: serve, check, explain, batch, ingest, skew, export, optimize, experiment, compile, bench."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine import Engine, FailedPrecondition, InvalidArgument, Spec, SpecError, VireoError, endings, load_spec, quoted
from serving.batch.command import add_options, run_batch
from serving.experiment import add_experiment_options, run_experiment, run_export
from serving.ingest.command import add_ingest_options, run_ingest
from serving.optimize import add_optimize_options, run_optimize

if TYPE_CHECKING:
    from engine import GraphOutline
    from serving.embedded import EmbeddedHost
    from serving.transport import Transport

log = logging.getLogger("vireo.serving")

Command = Callable[[argparse.Namespace], int]

_ON_RAY = "ray"
"""In the place of an address to listen on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command: 0 when it did what it says, 1 when the spec or a model is at fault, 2 for wrong usage."""
    try:
        parser = _parser()
        parsed, rest = parser.parse_known_args(arguments)
        if rest and parsed.run is not _bench:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        parsed.rest = rest
        level = logging.INFO if parsed.run is _serve else logging.WARNING
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        run: Command = parsed.run
        return run(parsed)
    except VireoError as error:
        print(f"vireo: {error.message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """Raises FailedPrecondition where VIREO_KERNEL_CPUS is wrong."""
    from serving.compiling import add_compile_options

    parser = argparse.ArgumentParser(prog="vireo", description="One low-latency serving engine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = _app_command(commands, "serve", _serve, "serve what a spec says until SIGTERM")
    serve.add_argument(
        "--host",
        help="listen here instead of where the spec says; 'ray': be hosted by a Ray cluster, that of RAY_ADDRESS or one here",
    )
    serve.add_argument("--grpc-port", type=_port, help="0 takes a free port")
    serve.add_argument("--http-port", type=_port, help="0 takes a free port")
    _app_command(commands, "check", _check, "load everything a spec names, serve nothing, report what is wrong")
    explain = _app_command(commands, "explain", _explain, "say what was inferred and chosen, and why")
    explain.add_argument("--svg", type=Path, metavar="DIR", help="also draw each graph there, one SVG file a graph")
    explain.add_argument("--collection", metavar="NAME", help="a vector collection that --query asks")
    explain.add_argument(
        "--query", type=Path, metavar="FILE", help="a search as JSON: how it is answered, and how well"
    )
    explain.add_argument("--tenant", help="whose points --query is about")
    skew = _app_command(
        commands, "skew", _skew, "compare what a feature view served with what its log, or a table, says"
    )
    skew.add_argument("view", metavar="VIEW", help="a feature view with a 'sample'")
    skew.add_argument(
        "--table", metavar="PATH", help="a Parquet or Delta table of its events (default: the log itself)"
    )
    skew.add_argument("--arrival", metavar="COLUMN", help="the table's column that says when an event came")
    skew.add_argument("--settle-s", type=_seconds, default=1.0, help="leave out reads with events so near (default: 1)")
    add_options(
        _app_command(commands, "batch", _batch, "run a model or graph over files of rows; resumes what was begun")
    )
    text = "put documents (text, Markdown, HTML, PDF) into a vector collection; what has not changed stays as it is"
    add_ingest_options(_app_command(commands, "ingest", _ingest, text))
    text = "write what a log keeps as one Parquet or Arrow file"
    export = _app_command(commands, "export", run_export, text)
    export.add_argument("log", metavar="LOG", help="a log of the spec, such as one of exposures")
    export.add_argument("file", type=Path, metavar="FILE", help=f"ends with {endings()}")
    text = "write the ONNX models, and the graphs of them that can be ensembles, as a model repository for Triton"
    triton = _app_command(commands, "export-triton", _export_triton, text)
    triton.add_argument("out", type=Path, metavar="DIR", help="a folder that is not there yet, or is empty")
    triton.add_argument("--platform", choices=("onnxruntime", "tensorrt"), default="onnxruntime")
    text = "write a faster or smaller version of an ONNX model beside it, with what it gains and loses"
    add_optimize_options(_app_command(commands, "optimize", run_optimize, text))
    text = "tell the Ray cluster that this node ends, so that what runs on it comes up elsewhere first; return when it may end"
    drain = _app_command(commands, "drain-node", _drain_node, text)
    drain.add_argument("--within-s", type=_seconds, required=True, help="until the node is gone")
    drain.add_argument("--node-id", metavar="ID", help="as Ray names it (default: the node of this machine)")
    text = "say what each variant of a traffic split did to its users"
    experiment = commands.add_parser("experiment", help=text, description=text)
    add_experiment_options(experiment)
    experiment.set_defaults(run=run_experiment)
    text = "compile the kernels of this installation, so that no start on it has to; for images and new nodes"
    add_compile_options(commands.add_parser("compile", help=text, description=text))
    bench = commands.add_parser("bench", help="run the benchmarks (see 'vireo bench --help')", add_help=False)
    bench.set_defaults(run=_bench)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def _app_command(commands: argparse._SubParsersAction, name: str, run: Command, text: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("app", type=Path, metavar="APP.yaml", help="an application spec, or a model repository folder")
    command.set_defaults(run=run)
    return command


def _load(app: Path) -> Spec:
    """The spec in `app`, whose folder is where its functions' modules are looked for first."""
    spec = load_spec(app)
    sys.path.insert(0, str(spec.folder.resolve()))
    return spec


def _serve(arguments: argparse.Namespace) -> int:
    import uvloop

    from serving.memory import use_one_arena

    use_one_arena()
    _allow_files()
    if arguments.host == _ON_RAY:
        from serving.ray_host.command import run_on_ray

        run_on_ray(arguments.app, _load, lambda spec: _as_asked(spec, arguments))
        return 0
    spec = _load(arguments.app)
    if not uvloop.run(_serve_until_signal(arguments.app, spec, _as_asked(spec, arguments))):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)  # a thread is inside a model's library, which need not survive Python's own end
    return 0


def _as_asked(spec: Spec, arguments: argparse.Namespace) -> Spec:
    """`spec`, its server where the command line says. Raises SpecError where nobody could connect."""
    given = {name: getattr(arguments, name) for name in ("host", "grpc_port", "http_port")}
    if given["host"] == _ON_RAY:
        del given["host"]
    server = replace(spec.server, **{name: value for name, value in given.items() if value is not None})
    if all(each is None for each in (server.grpc_port, server.http_port, server.flight_port, server.unix_socket)):
        raise SpecError("server: grpc_port, http_port and unix_socket are all null, so nobody could connect")
    return replace(spec, server=server)


def _allow_files() -> None:
    """As many open files as the system lets this process have: each mapped file of a collection is one."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve_until_signal(app: Path, written: Spec, spec: Spec) -> bool:
    """Whether everything had ended; False where a model was still being loaded. SIGHUP applies `app` as it is then.

    `spec` is what is `written` in it, with what the command line says otherwise.
    """
    from serving.embedded import EmbeddedHost
    from serving.explain import places

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    host = EmbeddedHost(spec)
    starting, stopping = asyncio.create_task(host.start()), asyncio.create_task(stop.wait())
    with _applying(host, app, written, starting):
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return await _stopped_while_starting(host, starting)
        starting.result()
        opened = replace(spec.server, grpc_port=host.grpc_port, http_port=host.http_port, flight_port=host.flight_port)
        print(f"vireo: serving {places(replace(spec, server=opened), host.transport)}", flush=True)
        await stopping
    return await host.stop()


@contextmanager
def _applying(host: EmbeddedHost, app: Path, written: Spec, started: asyncio.Task[None]) -> Iterator[None]:
    """While it is open, SIGHUP reads the spec again and applies it; one that is wrong is logged, and changes nothing."""
    loop, lock = asyncio.get_running_loop(), asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def apply() -> None:
        await asyncio.wait([started])
        async with lock:
            try:
                spec = load_spec(app)
                if spec.server != written.server:
                    log.warning("%s: the server section has changed: it is applied at the next start", app)
                await host.apply(spec)
            except VireoError as error:
                log.error("%s is not applied: %s", app, error.message)
                return
            for name, problem in host.engine.problems().items():
                log.error("%s: %s: %s", app, name, problem)
            log.info("%s is applied", app)

    def begin() -> None:
        task = loop.create_task(apply())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _stopped_while_starting(host: EmbeddedHost, starting: asyncio.Task[None]) -> bool:
    ended = await host.stop()
    with suppress(VireoError):
        await starting
    return ended


@contextmanager
def _started(app: Path) -> Iterator[tuple[Engine, Transport]]:
    """An engine over the spec, and the transport that would serve it."""
    from serving.auth import check_exposure, load_authenticator
    from serving.embedded import new_engine
    from serving.tls import load_tls
    from serving.transport import transport_of

    spec = _load(app)
    check_exposure(spec.server)
    load_authenticator(spec)
    load_tls(spec)
    transport = transport_of(spec.server)
    engine = new_engine(spec)
    engine.start()
    try:
        yield engine, transport
    finally:
        engine.close()


def _check(arguments: argparse.Namespace) -> int:
    with _started(arguments.app) as (engine, transport):
        failed = [each for each in engine.index() if each.state == "FAILED" or (each.version is None and each.reason)]
        for each in failed:
            version = "" if each.version is None else f" version {each.version}"
            print(f"{each.name}{version}: {each.reason}", file=sys.stderr)
        stores = [
            ("vector collection", engine.vectors.names(), engine.vectors.problems()),
            ("language model", engine.language_models.names(), engine.language_models.problems()),
        ]
        served = len(engine.statistics())
    counts = f"{served} model version(s) load, {len(failed)} do not"
    for what, names, problems in stores:
        for name, problem in problems.items():
            print(f"{name}: {problem}", file=sys.stderr)
        if names:
            counts += f"; {len(names)} {what}(s), {len(problems)} with a problem"
    well = not failed and not any(problems for _, _, problems in stores)
    print(f"{arguments.app}: {'ok' if well else 'not ok'}, {counts}; transport {transport.name}")
    return 0 if well else 1


def _explain(arguments: argparse.Namespace) -> int:
    from engine import outline
    from serving.explain import explain
    from serving.language_explanation import language_lines
    from serving.optimize import unserved_texts

    with _started(arguments.app) as (engine, transport):
        models = [engine.describe(name, version) for name, version, _ in engine.statistics()]
        plans = [engine.plan(each.name) for each in models if each.name in engine.spec.graphs]
        graphs = [outline(each) for each in plans if each is not None]
        collections = [engine.vectors.describe(name) for name in engine.vectors.names()]
        servers = engine.triton_statistics()
        print(explain(engine.spec, transport, models, engine.index(), graphs, collections, servers), end="")
        print("".join(f"\n{each}\n" for each in unserved_texts(engine.spec, models)), end="")
        for name in engine.language_models.names():
            print("\n" + "\n".join(language_lines(engine.language_models, engine.spec.language_models[name], name)))
        if arguments.query is not None:
            _explain_query(engine, arguments)
    if arguments.svg is not None:
        _draw(graphs, arguments.svg)
    return 0


def _export_triton(arguments: argparse.Namespace) -> int:
    from serving.triton_export import export_triton

    with _started(arguments.app) as (engine, _):
        print("\n".join(export_triton(engine, arguments.out, arguments.platform)))
    return 0


def _explain_query(engine: Engine, arguments: argparse.Namespace) -> None:
    from serving.vectors_explanation import query_lines
    from serving.vectors_json import SearchBody, parsed, query_in

    if arguments.collection is None:
        raise InvalidArgument("--query: --collection must say of which collection")
    collection = engine.vectors.collection(arguments.collection)
    try:
        body = arguments.query.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"--query: {arguments.query} cannot be read: {error.strerror}") from error
    query = query_in(parsed(body, SearchBody), collection.spec, arguments.tenant)
    print("\n" + "\n".join(query_lines(collection, query)))


def _draw(graphs: Sequence[GraphOutline], folder: Path) -> None:
    from serving.graph_svg import draw_svg, file_name

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in graphs:
            path = folder / file_name(each.name)
            path.write_text(draw_svg(each), encoding="utf-8")
            print(f"{path}: graph {quoted(each.name)}", file=sys.stderr)
    except OSError as error:
        raise FailedPrecondition(f"--svg: {error.filename or folder} cannot be written: {error.strerror}") from error


def _skew(arguments: argparse.Namespace) -> int:
    from engine import probe_skew
    from serving.skew import mismatches, skew_text

    probe = probe_skew(
        load_spec(arguments.app), arguments.view,
        table=arguments.table, arrival=arguments.arrival, settle_us=int(arguments.settle_s * 1e6),
    )  # fmt: skip
    print(skew_text(probe, arguments.settle_s), end="")
    return 1 if mismatches(probe) else 0


def _drain_node(arguments: argparse.Namespace) -> int:
    spec = _load(arguments.app)
    try:
        from serving.ray_host.drain import drain_node
    except ImportError as error:
        raise SpecError(f"drain-node: {error}; pip install 'vireo[ray]'") from error
    drain_node(spec, arguments.within_s, arguments.node_id)
    return 0


def _batch(arguments: argparse.Namespace) -> int:
    return run_batch(arguments, _load)


def _ingest(arguments: argparse.Namespace) -> int:
    return run_ingest(arguments, _load)


def _bench(arguments: argparse.Namespace) -> int:
    if not all(map(find_spec, ("benchmarks", "hdrh", "matplotlib"))):
        raise SpecError("the benchmarks are not installed; pip install 'vireo[cpu,bench]'")
    return subprocess.call([sys.executable, "-m", "benchmarks", *arguments.rest])


if __name__ == "__main__":
    sys.exit(main())
