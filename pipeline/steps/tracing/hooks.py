"""Hooks into Python that report a program's imports, path tests and environment variables.

Each hook takes the function to call. Frames of this module and of
:mod:`pipeline.steps.tracing.trace` are skipped to find the caller, and those of helper modules to
find the program's own code.
"""

import functools
import importlib.abc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FrameType
from typing import Any

# Modules whose frames are skipped to find the caller
OWN = {__name__, "pipeline.steps.tracing.trace", "contextlib"}
# Modules of the standard library that test paths and read variables for their callers
HELPERS = {
    "os", "posixpath", "genericpath", "pathlib", "pathlib._abc", "pathlib._local", "pathlib._os",
    "glob", "shutil", "string", "collections", "collections.abc", "threading",
    "concurrent.futures.thread", "concurrent.futures._base", "multiprocessing.pool",
}  # fmt: skip
# Packages that read variables for their callers
SETTINGS = {"antlr4", "click", "decouple", "dotenv", "environs", "omegaconf", "pydantic_settings"}


def caller(frame: FrameType) -> FrameType:
    """The frame that caused the recorded event."""
    while frame.f_back and module(frame) in OWN:
        frame = frame.f_back
    return frame


def program_caller(frame: FrameType) -> FrameType:
    """The frame of program code that caused the event, past helper modules."""
    frame = caller(frame)
    while frame.f_back and (_helps(module(frame)) or frame.f_code.co_filename[0] == "<"):
        frame = frame.f_back
    return frame


def _helps(name: str) -> bool:
    return name in HELPERS or name.partition(".")[0] in SETTINGS


def helper_function(frame: FrameType) -> str:
    """The helper function through which the event was caused; ``stat`` if none."""
    frame, name = caller(frame), "stat"
    while frame.f_back and module(frame) in HELPERS:
        frame, name = frame.f_back, frame.f_code.co_name
    return name


def module(frame: FrameType) -> str:
    """The name of a frame's module."""
    return str(frame.f_globals.get("__name__", ""))


def shows_source(frame: FrameType | None) -> bool:
    """Whether a file is read to show its lines in a warning or a traceback."""
    names = set()
    while frame:
        names.add(module(frame))
        frame = frame.f_back
    return "linecache" in names and not names.isdisjoint({"traceback", "warnings"})


def running(file: str) -> CodeType | None:
    """The code of a module that is being executed, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return frame.f_code
        frame = frame.f_back
    return None


class Lookups(importlib.abc.MetaPathFinder):
    """A finder that finds nothing and reports the modules that are looked up."""

    def __init__(self, report: Callable[[str, Any], None]):
        self._report = report

    def find_spec(
        self,
        fullname: str,
        path: Any,
        target: Any = None,  # noqa: ARG002 - given by the import system
    ) -> None:
        """Report a module and the places where Python looks for it."""
        if fullname not in sys.builtin_module_names:
            self._report(fullname.rpartition(".")[2], sys.path if path is None else path)


def load_by(load: Callable[[str], CodeType | None]) -> None:
    """Let ``load`` return the code of source files; None leaves a file to Python."""
    original = SourceFileLoader.get_code

    @functools.wraps(original)
    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        return load(self.get_filename(fullname)) or original(self, fullname)

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - an assignment to a method


def wrap(name: str, report: Callable[..., None]) -> None:
    """Let a function of :mod:`os` report its arguments."""
    original = getattr(os, name)

    @functools.wraps(original)
    def reporting(*arguments: Any, **options: Any) -> Any:
        report(*arguments, **options)
        return original(*arguments, **options)

    for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks,
                      os.supports_effective_ids):  # fmt: skip
        if original in supported:
            supported.add(reporting)
    setattr(os, name, reporting)


def environment(on_read: Callable[[str], None], on_write: Callable[[str], Any]) -> type:
    """A class for ``os.environ`` that reports which variables are read and set."""
    copying = threading.local()

    class Environment(os._Environ[str]):  # noqa: SLF001 - os.environ's class has no other name
        def __getitem__(self, key: Any) -> Any:
            frame = sys._getframe(1)
            bulk = frame.f_code.co_name in ("copy", "__or__", "__ror__", "__iter__", "__repr__")
            if not (bulk and module(frame) in HELPERS) and (
                (id(frame), frame.f_lasti) != getattr(copying, "place", None)
            ):
                on_read(os.fsdecode(key))
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            on_write(os.fsdecode(key))

        def __delitem__(self, key: Any) -> None:
            on_read(os.fsdecode(key))  # a deletion depends on whether the variable is set
            super().__delitem__(key)
            on_write(os.fsdecode(key))

        def __iter__(self) -> Iterator[Any]:
            # dict(os.environ) reads the names and then each value, from one instruction
            frame = program_caller(sys._getframe(1))
            copying.place = id(frame), frame.f_lasti
            return super().__iter__()

    return Environment
