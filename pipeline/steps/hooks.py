"""Lets Python tell what a program does: its imports, path tests and variables.

Each function takes what is to be told. The frame that did something is found past this module and
:mod:`pipeline.steps.trace`, and, where the program is meant, past the standard library.
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

# Modules that are passed over to find who did something
OWN = {__name__, "pipeline.steps.trace", "contextlib"}
# Modules of the standard library through which others test paths and read variables
HELPERS = {
    "os", "posixpath", "genericpath", "pathlib", "glob", "shutil", "string", "collections",
    "collections.abc", "threading", "concurrent.futures.thread", "concurrent.futures._base",
    "multiprocessing.pool",
}  # fmt: skip
# Packages that read variables for those who call them
SETTINGS = {"antlr4", "click", "decouple", "dotenv", "environs", "omegaconf", "pydantic_settings"}


def caller(frame: FrameType) -> FrameType:
    """The frame that did what is being recorded."""
    while frame.f_back and module(frame) in OWN:
        frame = frame.f_back
    return frame


def program_caller(frame: FrameType) -> FrameType:
    """The frame that did it, through the standard library or not."""
    frame = caller(frame)
    while frame.f_back and (_helps(module(frame)) or frame.f_code.co_filename[0] == "<"):
        frame = frame.f_back
    return frame


def _helps(name: str) -> bool:
    return name in HELPERS or name.partition(".")[0] in SETTINGS


def helper_function(frame: FrameType) -> str:
    """The function of the standard library through which it was done; ``stat`` if none."""
    frame, name = caller(frame), "stat"
    while frame.f_back and module(frame) in HELPERS:
        frame, name = frame.f_back, frame.f_code.co_name
    return name


def module(frame: FrameType) -> str:
    """The name of the module that a frame runs."""
    return str(frame.f_globals.get("__name__", ""))


def shows_source(frame: FrameType | None) -> bool:
    """Whether a file is read to show lines of it, in a warning or a traceback."""
    names = set()
    while frame:
        names.add(module(frame))
        frame = frame.f_back
    return "linecache" in names and not names.isdisjoint({"traceback", "warnings"})


def running(file: str) -> CodeType | None:
    """The code of a module that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return frame.f_code
        frame = frame.f_back
    return None


class Lookups(importlib.abc.MetaPathFinder):
    """A finder that finds nothing, and tells what is looked for."""

    def __init__(self, told: Callable[[str, Any], None]):
        self._told = told

    def find_spec(
        self,
        fullname: str,
        path: Any,
        target: Any = None,  # noqa: ARG002 - given by the import system
    ) -> None:
        """Tell of a module, and where it is looked for."""
        if fullname not in sys.builtin_module_names:
            self._told(fullname.rpartition(".")[2], sys.path if path is None else path)


def load_by(loaded: Callable[[str], CodeType | None]) -> None:
    """Have source below the repository loaded by ``loaded``, whoever imports it."""
    usual = SourceFileLoader.get_code

    @functools.wraps(usual)
    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        return loaded(self.get_filename(fullname)) or usual(self, fullname)

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - an assignment to a method


def wrap(name: str, told: Callable[..., None]) -> None:
    """Have a function of :mod:`os` tell what it is asked for."""
    usual = getattr(os, name)

    @functools.wraps(usual)
    def asked(*arguments: Any, **options: Any) -> Any:
        told(*arguments, **options)
        return usual(*arguments, **options)

    for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks,
                      os.supports_effective_ids):  # fmt: skip
        if usual in supported:
            supported.add(asked)
    setattr(os, name, asked)


def environment(read: Callable[[str], None], wrote: Callable[[str], Any]) -> type:
    """The class of an ``os.environ`` that tells which variables are read and set."""
    copying = threading.local()

    class Environment(os._Environ[str]):  # noqa: SLF001 - os.environ's class has no other name
        def __getitem__(self, key: Any) -> Any:
            by = sys._getframe(1)
            whole = by.f_code.co_name in ("copy", "__or__", "__ror__", "__iter__", "__repr__")
            if not (whole and module(by) in HELPERS) and (
                (id(by), by.f_lasti) != getattr(copying, "place", None)
            ):
                read(os.fsdecode(key))
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            wrote(os.fsdecode(key))

        def __delitem__(self, key: Any) -> None:
            read(os.fsdecode(key))  # whether it is there
            super().__delitem__(key)
            wrote(os.fsdecode(key))

        def __iter__(self) -> Iterator[Any]:
            # dict(os.environ) asks for the names and then for each value, at one place
            by = program_caller(sys._getframe(1))
            copying.place = id(by), by.f_lasti
            return super().__iter__()

    return Environment
