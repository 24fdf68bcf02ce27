"""``python -m tests.support.interrupted_server FOLDER OPTIONS``: a server with an early Ctrl-C.

It is the product's server; SIGINT comes when it listens and does not answer yet, at a place where
Python drops whatever is raised, as it does in an import.
"""

import os
import runpy
import signal
import weakref

import uvicorn


class _Dropped:
    """Something with a callback at its end."""


def _interrupt(_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


class _Server(uvicorn.Server):
    def run(self, sockets: list | None = None) -> None:
        dropped = _Dropped()
        reference = weakref.ref(dropped, _interrupt)
        del dropped
        assert reference() is None
        super().run(sockets)


if __name__ == "__main__":
    uvicorn.Server = _Server
    runpy.run_module("pipeline.models.serving.server", run_name="__main__")
