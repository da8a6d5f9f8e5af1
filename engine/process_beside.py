"""A process beside this one that runs a function of the engine and is spoken to by a socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection


def started_beside(
    module: str, *arguments: int, pass_fds: Sequence[int] = (), stderr: int | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that calls `main` of `module` with the descriptor of its end of a socket, then `arguments`; and our end.

    It reads and prints nothing; `pass_fds` are open in it too, `stderr` is as Popen takes it. Raises OSError where it cannot
    be started.
    """
    ours, theirs = socket.socketpair()
    call = f"main({', '.join(map(str, (theirs.fileno(), *arguments)))})"
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {module} import main; {call}"],  # not what our folder has by the same names
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=(theirs.fileno(), *pass_fds),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
        )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, Connection(ours.detach())
