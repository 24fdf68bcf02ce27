"""Records what a step loads, opens, lists, looks for and tests below the repository.

Started before a step's script is imported, by the worker or by :mod:`pipeline.steps`. Python tells
an audit hook of each file that is opened and each folder that is listed; modules are seen by a
finder and loaded by :mod:`pipeline.steps.source`; ``os.stat`` and ``os.environ`` are wrapped, for
they tell no hook. Digests are of the bytes as they are read. What is below ``PYTHONPATH`` or an
editable installation counts like what is below the repository. Files that native code opens, and
other processes, are not seen: docs/cache.md.
"""

import contextlib
import os
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pipeline.core import dependencies, observations, settings
from pipeline.core.dependencies import Evidence
from pipeline.core.observations import Proof
from pipeline.core.settings import ROOT
from pipeline.provenance import origin
from pipeline.steps import hooks, source
from pipeline.steps.context import StepContext

# Parts of the library that say where things are kept, not what is computed: which variables they
# read and which paths they test does not count.
INFRASTRUCTURE = tuple(
    str(ROOT / "pipeline" / name) + os.sep for name in ("core", "provenance", "steps", "tracking")
)
SIZED = ("stat", "getsize")  # the others only ask what is there
OURS = ("pipeline.", "git.")  # the library, and what tells the commit of the code
PATH_HOOK = ".__path_hook__"  # setuptools puts entries into sys.path that are no folders
IMPORTS = {
    "importlib._bootstrap",
    "importlib._bootstrap_external",
    "_frozen_importlib_external",
    "importlib.metadata",
    "importlib_metadata",
}


class Trace:
    """The record of one process.

    Attributes:
        environment: the packages at the beginning.
    """

    def __init__(self) -> None:
        self.environment = origin.environment_lock()
        self._roots = _roots()
        self._code: dict[str, dict[str, str]] = {}
        self._files: dict[str, str] = {}
        self._folders: dict[str, list[str] | None] = {}
        self._searched: dict[str, set[str]] = {}
        self._kinds: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._looked_up: dict[str, str] = {}  # files that libraries have tested
        self._variables: set[str] = set()
        self._own: set[str] = set()  # paths that the step has made itself
        self._set: set[str] = set()  # variables that it has set
        self._parents: dict[str, str] = {}
        self._names: dict[str, str | None] = {}
        self._busy = threading.local()
        self.begin()

    def begin(self) -> None:
        """Go by the present environment variables: what is state, and what is temporary."""
        folders = [*observations.own_state(), tempfile.gettempdir()]
        folders += map(os.path.realpath, tuple(folders))
        root, ends = f"{ROOT}{os.sep}", (f"{path}{os.sep}" for path in folders)
        own = {path for path in ends if not root.startswith(path)}
        if database := settings.sqlite_path(settings.tracking_uri()):
            own |= {str(database), os.path.realpath(database)}  # and its journal
        self._ignored = tuple(own)
        self._names.clear()
        self._set.clear()

    def start(self) -> None:
        """Record from now on, and what is loaded already."""
        self._add_loaded()
        sys.meta_path.insert(0, hooks.Lookups(self._looked_for))
        hooks.load_by(self._loaded)
        for variables in (os.environ, os.environb):
            variables.__class__ = hooks.environment(self._read_variable, self._set.add)
        for name in ("stat", "lstat", "access"):
            hooks.wrap(name, self._tested)
        for name in ("lstat", "readlink"):
            hooks.wrap(name, self._followed)
        hooks.wrap("open", self._opened_below)
        sys.addaudithook(self._audit)

    # What happens

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook; it must not raise, or what is audited would fail."""
        if event not in self._EVENTS:
            return
        if event == "open" and getattr(self._busy, "folder", False):
            self._busy.folder = False
            return
        with self._alone() as alone:
            if alone:
                with contextlib.suppress(OSError, ValueError):
                    self._EVENTS[event](self, *arguments)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this is not within what we do ourselves."""
        before = getattr(self._busy, "here", False)
        self._busy.here = True
        try:
            yield not before
        finally:
            self._busy.here = before

    def _opened(self, path: Any, _mode: str | None, flags: int) -> None:
        name = self._name(path)
        if name is None or name in self._files or self._is_own(name) or name.endswith(PATH_HOOK):
            return
        found = observations.file(observations.path_of(name))
        if flags & (os.O_TRUNC | os.O_EXCL) or (flags & os.O_CREAT and not found):
            self._own.add(name)
        elif not hooks.shows_source(sys._getframe(1)):
            self._files[name] = found

    def _opened_below(self, path: Any, flags: int, *_: Any, dir_fd: int | None = None) -> None:
        """``os.open``; the audit hook is not told of ``dir_fd``, and leaves that case to this."""
        self._busy.folder = dir_fd is not None
        if dir_fd is not None:
            with self._alone(), contextlib.suppress(OSError, ValueError):
                self._opened(os.path.join(_described(dir_fd), os.fsdecode(path)), None, flags)  # noqa: PTH118

    def _connected(self, database: Any) -> None:
        if isinstance(database, str) and database.startswith("file:"):
            database = unquote(urlsplit(database).path)
        if database not in (":memory:", ""):
            self._opened(database, None, os.O_RDWR | os.O_CREAT)

    def _listed(self, path: Any = None) -> None:
        caller = hooks.module(hooks.caller(sys._getframe(1)))
        name = self._name("." if path is None else path)
        if name is None or caller in IMPORTS:
            return
        if caller == "pkgutil":
            self._searched.setdefault(name, set()).add(observations.ANY)
        elif name not in self._folders and not self._is_own(name):
            self._folders[name] = observations.names(observations.path_of(name))

    def _made(self, path: Any, *_: Any) -> None:
        if name := self._name(path):
            self._own.add(name)

    def _renamed(self, _: Any, target: Any, *__: Any) -> None:
        self._made(target)

    def _linked(self, path: Any, target: Any, *folders: int) -> None:
        if folders == (-1, -1):  # the file is read by another name
            self._opened(path, None, os.O_RDONLY)
            self._made(target)

    def _native(self, name: Any) -> None:
        if name is not None and "/" in os.fsdecode(name):  # others are the system's
            self._opened(name, None, os.O_RDONLY)

    def _library(self, _module: str, file: Any, *_: Any) -> None:
        if file is not None:  # a native module
            self._opened(file, None, os.O_RDONLY)

    def _looked_for(self, module: str, places: Any) -> None:
        with self._alone():
            for place in places:
                name = self._name(place or ".")
                if name is not None and not place.endswith(PATH_HOOK):
                    self._searched.setdefault(name, set()).add(module)

    def _loaded(self, path: str) -> CodeType | None:
        """The code of a module below the repository."""
        with self._alone():
            name = self._name(path)
            if name is None:
                return None
            data = observations.path_of(name).read_bytes()
            code, self._code[name] = source.load(Path(path), data)
            return code

    def _tested(
        self,
        path: Any,
        *_: Any,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
        **__: Any,
    ) -> None:
        sized = hooks.helper_function(sys._getframe(1)) in SIZED

        def record(name: str) -> None:
            self._kind(name, sized)
            if not follow_symlinks:
                self._link(name)

        self._asked(path, dir_fd, record)

    def _followed(self, path: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> None:
        self._asked(path, dir_fd, self._link)

    def _link(self, name: str) -> None:
        if name not in self._links and name != ".":
            self._links[name] = observations.link(observations.path_of(name))

    def _asked(self, path: Any, dir_fd: int | None, record: Callable[[str], None]) -> None:
        """Record the name of a path that the repository's code asks about."""
        with self._alone() as alone, contextlib.suppress(OSError, ValueError):
            if not alone:
                return
            asker = hooks.program_caller(sys._getframe(2))
            if dir_fd is not None:
                path = os.path.join(_described(dir_fd), os.fsdecode(path))  # noqa: PTH118
            name = self._name(path)
            if name is None or self._is_own(name):
                return
            if self._counts(asker):
                record(name)
            else:
                self._asked_by_library(name, hooks.module(asker))

    def _asked_by_library(self, name: str, module: str) -> None:
        """A library looks for a file that it may read: its settings, or a table in native code.

        Source counts when it is imported.
        """
        if module in IMPORTS or module.startswith(OURS) or name.endswith((".py", PATH_HOOK)):
            return
        if ":" in name:  # an address that may have been a path
            return
        path = observations.path_of(name)
        if name not in self._looked_up and (path.is_file() or not path.exists()):
            self._looked_up[name] = observations.file(path)  # neither a folder nor a pipe

    def _kind(self, name: str, sized: bool) -> None:
        known = self._kinds.get(name)
        if known is None or (sized and known == "file"):
            self._kinds[name] = observations.kind(observations.path_of(name), sized)

    def _read_variable(self, name: str) -> None:
        with self._alone() as alone:
            if (
                alone
                and name not in self._set
                and self._counts(hooks.program_caller(sys._getframe(1)))
            ):
                self._variables.add(name)

    def reads(self, name: str) -> None:
        """Record that the step goes by a variable, whoever reads it."""
        self._variables.add(name)

    # What counts

    def _counts(self, frame: FrameType) -> bool:
        """Whether code of the repository asks, other than what says where things are kept."""
        if frame.f_back is None and hooks.module(frame) in hooks.HELPERS:
            return True  # a thread has been given a function of the standard library
        file = frame.f_code.co_filename
        return self._name(file) is not None and not file.startswith(INFRASTRUCTURE)

    def _name(self, path: Any) -> str | None:
        """A path's name in the record; None for what does not count."""
        if isinstance(path, int):
            path = _described(path)
            if not path.startswith(os.sep):  # a pipe or a socket
                return None
        path = os.fsdecode(path)
        if not path.startswith(os.sep):  # the others are asked about again and again
            return self._name_of(path)
        if path not in self._names:
            self._names[path] = self._name_of(path)
        return self._names[path]

    def _name_of(self, path: str) -> str | None:
        path = os.path.abspath(path)  # noqa: PTH100
        if not f"{path}{os.sep}".startswith(self._roots):
            folder, _, last = path.rpartition(os.sep)
            if folder not in self._parents:
                self._parents[folder] = os.path.realpath(folder or os.sep)
            path = f"{self._parents[folder]}{os.sep}{last}"
            path = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
            if not f"{path}{os.sep}".startswith(self._roots):
                return None
        path = path.rstrip(os.sep)
        if f"{path}{os.sep}".startswith(self._ignored):
            return None
        if not observations.IGNORED.isdisjoint(path.split(os.sep)):  # noqa: PTH206
            return None
        return observations.name_of(path)

    def _is_own(self, name: str) -> bool:
        return name in self._own or any(str(parent) in self._own for parent in Path(name).parents)

    def _add_loaded(self) -> None:
        """Take up the modules that were imported before.

        Bytecode that is not of their source is removed, and this program begins anew.
        """
        stale = []
        for module in list(sys.modules.values()):
            spec = getattr(module, "__spec__", None)
            file = spec.origin if spec and spec.has_location else getattr(module, "__file__", None)
            if spec and spec.origin not in ("built-in", "frozen"):
                parent, _, last = spec.name.rpartition(".")
                paths = getattr(sys.modules.get(parent), "__path__", ()) if parent else sys.path
                self._looked_for(last, paths)
            if not file or not file.endswith(".py") or (name := self._name(file)) is None:
                continue
            data = Path(file).read_bytes()
            _, self._code[name] = source.load(Path(file), data)
            cached = getattr(spec, "cached", None)
            ran = hooks.running(file) or (spec and spec.loader.get_code(spec.name))
            if ran and observations.code_digest(ran) != self._code[name]["code"]:
                if cached and Path(cached).exists() and not hooks.running(file):
                    stale.append(Path(cached))
                else:
                    self._code[name] = {"bytes": "", "code": observations.code_digest(ran)}
        if stale:
            for path in stale:
                path.unlink(missing_ok=True)
            os.execv(sys.executable, sys.orig_argv)

    # What comes of it

    def _proof(self) -> Proof:
        """All observations so far."""
        searched = {
            name: {
                "names": " ".join(sorted(modules)),
                "found": observations.search(observations.path_of(name), modules),
            }
            for name, modules in self._searched.items()
        }
        folders = {name: observations.folder(found) for name, found in self._folders.items()}
        looked_up = {k: v for k, v in self._looked_up.items() if not self._is_own(k)}
        return {
            observations.CODE: dict(self._code),
            observations.FILE: {**looked_up, **self._files},
            observations.FOLDER: folders,
            observations.SEARCH: searched,
            observations.KIND: dict(self._kinds),
            observations.LINK: dict(self._links),
        }

    def is_current(self) -> bool:
        """Whether all that was observed is still the same."""
        with self._alone():
            changed = observations.changed(self._proof())
            return not changed and self.environment == origin.environment_lock()

    def evidence(self, context: StepContext) -> tuple[Evidence, list[str]]:
        """The evidence so far; and what changed while the step ran, which proves nothing."""
        with self._alone():
            proof, changed = self._checked()
        variables = dependencies.user_variables(os.environ, context.variables)
        values = dependencies.keyed_digests(variables, self._variables, context.key)
        lock = dependencies.lock_digest(self.environment)
        return Evidence(proof, lock, values, context.key), changed

    def _checked(self) -> tuple[Proof, list[str]]:
        proof = self._proof()
        changed = []
        for name, before in self._folders.items():
            now = observations.names(observations.path_of(name))
            made = {Path(own).name for own in self._own if str(Path(own).parent) == name}
            first, last = ({*(found or ())} for found in (before, now))
            if any(one.rstrip("/") not in made for one in first ^ last):
                changed.append(name)
            proof[observations.FOLDER][name] = observations.folder(now)
        for name, digest in self._files.items():
            if observations.file(observations.path_of(name)) != digest:
                changed.append(name)
        if self.environment != origin.environment_lock():
            changed.append("the environment")
        return proof, changed

    _EVENTS: ClassVar[dict[str, Callable[..., None]]] = {
        "open": _opened,
        "sqlite3.connect": _connected,
        "os.listdir": _listed,
        "os.scandir": _listed,
        "os.mkdir": _made,
        "os.link": _linked,
        "ctypes.dlopen": _native,
        "os.rename": _renamed,
        "import": _library,
    }


_current: Trace | None = None


def start() -> None:
    """Begin the record of this process."""
    global _current
    _current = Trace()
    _current.start()


def begin() -> None:
    """Go by the environment variables that are set now."""
    if _current:
        _current.begin()


def is_current() -> bool:
    """Whether all that this process has read is still the same."""
    return _current is None or _current.is_current()


def reads(name: str) -> None:
    """Record that an environment variable is read."""
    if _current:
        _current.reads(name)


def environment() -> list[str]:
    """The packages that this process may have loaded."""
    return _current.environment if _current else origin.environment_lock()


def evidence(context: StepContext) -> tuple[Evidence, list[str]] | None:
    """The evidence of this process, and what changed meanwhile; None if nobody records it."""
    return _current.evidence(context) if _current else None


def _roots() -> tuple[str, ...]:
    """The repository, and all else that Python imports from which is not installed."""
    installed = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    installed = {os.path.realpath(path) for path in installed} | installed
    others = [os.path.realpath(path) for path in sys.path if path]
    others += origin.editable(map(Path, sys.path))
    outside = [
        path
        for path in others
        if not path.startswith(tuple(installed)) and "site-packages" not in path
    ]
    return tuple({f"{path}{os.sep}" for path in (str(ROOT), *outside)})


def _described(descriptor: int) -> str:
    """The path of an open file."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
