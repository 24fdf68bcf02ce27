"""No unit test starts a process: one that tries fails, and is told the command."""

import _posixsubprocess
import contextlib
import platform
import sys
from collections.abc import Generator, Iterator
from typing import NoReturn

import pytest

STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")


class Guard:
    """An audit hook, which can't be removed: it lets everything pass unless it is up."""

    up = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.up and event in STARTS:
            self.refuse(event, *arguments)

    def refuse(self, *command: object) -> NoReturn:
        """Fail the test that is under way."""
        pytest.fail(
            f"a unit test starts no process, and this one would start {command[:3]}: "
            "call the function, or move the test to tests/integration"
        )

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Refuse every process meanwhile."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(self, "up", True)
            patched.setattr(_posixsubprocess, "fork_exec", self.refuse)  # of multiprocessing
            patched.setenv("OMP_NUM_THREADS", "1")  # or scikit-learn counts the cores by lscpu
            yield


GUARD = Guard()
sys.addaudithook(GUARD)
platform.processor()  # keeps what uname tells; MLflow asks when it is imported, maybe in a test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Fixtures of all scopes. What ends with the test may be another's, and is not watched."""
    with GUARD.raised():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """The test itself."""
    with GUARD.raised():
        return (yield)
