"""The worker of the ``prefork`` backend: imports a step's script and runs it in forked children.

``python worker.py SCRIPT SOCKET [MODULE ...]`` runs in the step's environment. For each connection
to the socket a child runs the script's ``main()`` with the arguments, environment, folder and log
file of the job that it receives. docs/prefork.md explains the whole.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

if __name__ == "__main__":  # run by its path, so it needs the library on sys.path
    sys.path[:1] = [str(Path(sys.argv[1]).parent), str(Path(__file__).resolve().parents[2])]
from pipeline.core import variables
from pipeline.steps.tracing import trace

STALE = "stale"


def main(script: str, address: str, modules: Sequence[str]) -> None:
    """Import a script and serve its jobs until the process that started the worker has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the orchestrator handles Ctrl-C
    # registered first, so it runs after the script's exit functions
    atexit.register(remove, Path(address))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        gc.disable()  # imports leave no garbage
        module = load(Path(script))
        for name in modules:
            package, _, below = name.partition(".")
            # import a submodule only if its package is in use
            if not below or package in sys.modules:
                importlib.import_module(name)
        gc.freeze()  # or a collection in a child would copy all shared pages
        if can_fork():
            serve(module, server)


def remove(address: Path) -> None:
    """Remove a worker's socket, and the folder if this was its last file."""
    with contextlib.suppress(OSError):  # the starter may already have removed them
        address.unlink()
        address.parent.rmdir()


def load(script: Path) -> ModuleType:
    """Import a script from source, as the module ``script``."""
    os.chdir(script.parent)
    sys.path[:2] = [str(script.parent)]
    sys.argv = [script.name]
    module = sys.modules["script"] = ModuleType("script")
    module.__file__ = str(script)
    code = SourceFileLoader("script", str(script)).get_code("script")
    assert code  # the loader returns code or raises
    exec(code, vars(module))
    return module


def can_fork() -> bool:
    """Whether a fork is safe: there are no other threads, and W&B is not imported."""
    return threading.active_count() == 1 and "wandb" not in sys.modules


def serve(module: ModuleType, server: socket.socket) -> None:
    """Fork a child for each connection, until standard input ends with the starting process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            work(module, connection)
        connection.close()


def work(module: ModuleType, connection: socket.socket) -> NoReturn:
    """Run the job of a connection and exit; sends the process id and then the exit status.

    Sends ``STALE`` instead of the id if a file that the worker has imported has changed.
    """
    status = 1
    try:
        # else grandchildren would hide its end
        os.register_at_fork(after_in_child=connection.close)
        current = trace.is_current()
        connection.sendall(f"{os.getpid() if current else STALE}\n".encode())
        with connection.makefile() as lines:
            text = lines.readline()
        if text and current:
            become(json.loads(text))
            sys.modules["__main__"] = module  # W&B and multiprocessing read its __file__
            status = run(module.main)
            connection.sendall(f"{status}\n".encode())
    finally:
        os._exit(status)


def become(job: dict[str, Any]) -> None:
    """Set this process up for a job: output, environment, folder, arguments, signals, seeds."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    variables.replace_all(job["environment"])
    trace.begin()
    os.chdir(job["folder"])
    sys.argv = job["arguments"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.enable()
    # the worker's exit functions and finalizers would remove what the worker still needs
    atexit._clear()  # noqa: SLF001 - Python has no other way
    finalizers: Any = weakref.finalize
    finalizers._registry.clear()  # noqa: SLF001 - Python has no other way
    # so that the child's own finalizers run
    finalizers._registered_with_atexit = False  # noqa: SLF001 - Python has no other way
    if util := sys.modules.get("multiprocessing.util"):
        atexit.register(util._exit_function)  # noqa: SLF001 - Python has no other way
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "tempfile" in sys.modules:
        setattr(sys.modules["tempfile"], "tempdir", None)  # noqa: B010 - TMPDIR says where
    # libraries read the variable at import
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and "threadpoolctl" in sys.modules:
        sys.modules["threadpoolctl"].threadpool_limits(int(threads))


def run(function: Callable[[], None]) -> int:
    """Call a program's main function and its exit functions, and return its exit status."""
    status: Any = 0
    try:
        function()
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException as error:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threads: Any = threading
    threads._shutdown()  # noqa: SLF001 - as Python itself does at exit
    atexit._run_exitfuncs()  # noqa: SLF001 - as Python itself does at exit
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
