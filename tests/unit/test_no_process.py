"""Unit tests can't start a process, whichever way."""

import multiprocessing
import os
import subprocess
from collections.abc import Callable

import pytest

SPAWNED = multiprocessing.get_context("spawn").Process(target=print)


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"], check=True),
        lambda: os.system("true"),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        SPAWNED.start,
    ],
)
def test_a_test_that_starts_one_fails(start: Callable[[], object]):
    with pytest.raises(pytest.fail.Exception, match=r"a unit test starts no process.* would start"):
        start()
