"""Records what a step loads, opens, lists, looks up and tests below the repository.

The worker or :mod:`pipeline.steps` starts the trace before a step's script is imported. Python's
audit hook reports opened files and listed folders. A finder reports imports, whose source is loaded
by :mod:`pipeline.steps.tracing.source`. ``os.stat`` and ``os.environ`` have no audit events, so
they are wrapped. Folders in ``PYTHONPATH`` and editable installations count like the repository.
Files that native code or other processes open are not recorded: docs/cache.md.
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

from pipeline.core import settings
from pipeline.core.settings import ROOT
from pipeline.core.tracing import dependencies, observations
from pipeline.core.tracing.dependencies import Evidence
from pipeline.core.tracing.observations import Proof
from pipeline.provenance import origin
from pipeline.steps.context import StepContext
from pipeline.steps.tracing import hooks, source

# Packages that decide where things are stored, not what is computed: the variables that they read
# and the paths that they test don't count.
INFRASTRUCTURE = tuple(
    str(ROOT / "pipeline" / name) + os.sep for name in ("core", "provenance", "steps", "tracking")
)
SIZED = ("stat", "getsize")  # functions that return a size; others only test for existence
OURS = ("pipeline.", "git.")  # the library, and GitPython, which reads the commit
PATH_HOOK = ".__path_hook__"  # setuptools adds entries to sys.path that are no folders
IMPORTS = {
    "importlib._bootstrap",
    "importlib._bootstrap_external",
    "_frozen_importlib_external",
    "importlib.metadata",
    "importlib_metadata",
}


class Trace:
    """The trace of one process.

    Attributes:
        environment: the lock of the packages at the start.
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
        self._looked_up: dict[str, str] = {}  # files that libraries have tested for
        self._variables: set[str] = set()
        self._own: set[str] = set()  # paths that the step itself has created
        self._set: set[str] = set()  # variables that the step has set
        self._parents: dict[str, str] = {}
        self._names: dict[str, str | None] = {}
        self._busy = threading.local()
        self.begin()

    def begin(self) -> None:
        """Read the state and temporary folders, which don't count, from the present environment."""
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
        """Record the modules that are loaded already, and everything from now on."""
        self._add_loaded()
        sys.meta_path.insert(0, hooks.Lookups(self._looked_for))
        hooks.load_by(self._loaded)
        for variables in (os.environ, os.environb):
            variables.__class__ = hooks.environment(self._read_variable, self._set.add)
        for name in ("stat", "lstat", "access"):
            hooks.wrap(name, self._path_tested)
        for name in ("lstat", "readlink"):
            hooks.wrap(name, self._followed)
        hooks.wrap("open", self._opened_below)
        sys.addaudithook(self._audit)

    # Events

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook; it must not raise, or the audited operation would fail."""
        if event not in self._EVENTS:
            return
        if event == "open" and getattr(self._busy, "folder", False):
            self._busy.folder = False
            return
        with self._program_event() as outermost:
            if outermost:
                with contextlib.suppress(OSError, ValueError):
                    self._EVENTS[event](self, *arguments)

    @contextlib.contextmanager
    def _program_event(self) -> Iterator[bool]:
        """Whether the event is the program's own, not caused by the trace itself."""
        before = getattr(self._busy, "recording", False)
        self._busy.recording = True
        try:
            yield not before
        finally:
            self._busy.recording = before

    def _opened(self, path: Any, _mode: str | None, flags: int) -> None:
        name = self._name(path)
        if name is None or name in self._files or self._is_own(name) or name.endswith(PATH_HOOK):
            return
        digest = observations.file(observations.path_of(name))
        if flags & (os.O_TRUNC | os.O_EXCL) or (flags & os.O_CREAT and not digest):
            self._own.add(name)
        elif not hooks.shows_source(sys._getframe(1)):
            self._files[name] = digest

    def _opened_below(self, path: Any, flags: int, *_: Any, dir_fd: int | None = None) -> None:
        """``os.open`` with ``dir_fd``, which the audit event does not contain."""
        self._busy.folder = dir_fd is not None
        if dir_fd is not None:
            with self._program_event(), contextlib.suppress(OSError, ValueError):
                self._opened(os.path.join(_descriptor_path(dir_fd), os.fsdecode(path)), None, flags)  # noqa: PTH118

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

    def _created(self, path: Any, *_: Any) -> None:
        if name := self._name(path):
            self._own.add(name)

    def _renamed(self, _: Any, target: Any, *__: Any) -> None:
        self._created(target)

    def _linked(self, path: Any, target: Any, *folders: int) -> None:
        if folders == (-1, -1):  # the file is read by another name
            self._opened(path, None, os.O_RDONLY)
            self._created(target)

    def _native(self, name: Any) -> None:
        if name is not None and "/" in os.fsdecode(name):  # others are system libraries
            self._opened(name, None, os.O_RDONLY)

    def _library(self, _module: str, file: Any, *_: Any) -> None:
        if file is not None:  # a native module
            self._opened(file, None, os.O_RDONLY)

    def _looked_for(self, module: str, places: Any) -> None:
        with self._program_event():
            for place in places:
                name = self._name(place or ".")
                if name is not None and not place.endswith(PATH_HOOK):
                    self._searched.setdefault(name, set()).add(module)

    def _loaded(self, path: str) -> CodeType | None:
        """The code of a module below the repository."""
        with self._program_event():
            name = self._name(path)
            if name is None:
                return None
            data = observations.path_of(name).read_bytes()
            code, self._code[name] = source.load(Path(path), data)
            return code

    def _path_tested(
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

        self._record_test(path, dir_fd, record)

    def _followed(self, path: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> None:
        self._record_test(path, dir_fd, self._link)

    def _link(self, name: str) -> None:
        if name not in self._links and name != ".":
            self._links[name] = observations.link(observations.path_of(name))

    def _record_test(self, path: Any, dir_fd: int | None, record: Callable[[str], None]) -> None:
        """Record a path that the repository's code tests."""
        with self._program_event() as outermost, contextlib.suppress(OSError, ValueError):
            if not outermost:
                return
            caller = hooks.program_caller(sys._getframe(2))
            if dir_fd is not None:
                path = os.path.join(_descriptor_path(dir_fd), os.fsdecode(path))  # noqa: PTH118
            name = self._name(path)
            if name is None or self._is_own(name):
                return
            if self._counts(caller):
                record(name)
            else:
                self._record_library_test(name, hooks.module(caller))

    def _record_library_test(self, name: str, module: str) -> None:
        """Record a file that a library tests and may read: its settings, or a data file.

        Source files count when they are imported.
        """
        if module in IMPORTS or module.startswith(OURS) or name.endswith((".py", PATH_HOOK)):
            return
        if ":" in name:  # an address, not a path
            return
        path = observations.path_of(name)
        if name not in self._looked_up and (path.is_file() or not path.exists()):
            self._looked_up[name] = observations.file(path)  # neither a folder nor a pipe

    def _kind(self, name: str, sized: bool) -> None:
        recorded = self._kinds.get(name)
        if recorded is None or (sized and recorded == "file"):
            self._kinds[name] = observations.kind(observations.path_of(name), sized)

    def _read_variable(self, name: str) -> None:
        with self._program_event() as outermost:
            if (
                outermost
                and name not in self._set
                and self._counts(hooks.program_caller(sys._getframe(1)))
            ):
                self._variables.add(name)

    def reads(self, name: str) -> None:
        """Record that the step depends on a variable."""
        self._variables.add(name)

    # Which paths count

    def _counts(self, frame: FrameType) -> bool:
        """Whether the frame is code of the repository, outside of its infrastructure."""
        if frame.f_back is None and hooks.module(frame) in hooks.HELPERS:
            return True  # a thread that runs a function of the standard library
        file = frame.f_code.co_filename
        return self._name(file) is not None and not file.startswith(INFRASTRUCTURE)

    def _name(self, path: Any) -> str | None:
        """The name of a path in observations; None if the path does not count."""
        if isinstance(path, int):
            path = _descriptor_path(path)
            if not path.startswith(os.sep):  # a pipe or a socket
                return None
        path = os.fsdecode(path)
        if not path.startswith(os.sep):  # absolute paths repeat, so their names are cached
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
        """Record the modules that were imported before the trace started.

        If bytecode does not match its source, it is removed and the program restarts.
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

    # Result

    def _proof(self) -> Proof:
        """All observations so far."""
        searched = {
            name: {
                "names": " ".join(sorted(modules)),
                "found": observations.search(observations.path_of(name), modules),
            }
            for name, modules in self._searched.items()
        }
        folders = {name: observations.folder(entries) for name, entries in self._folders.items()}
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
        """Whether nothing that was observed has changed."""
        with self._program_event():
            changed = observations.changed(self._proof())
            return not changed and self.environment == origin.environment_lock()

    def evidence(self, context: StepContext) -> tuple[Evidence, list[str]]:
        """The evidence so far, and what changed during the step, which prevents its reuse."""
        with self._program_event():
            proof, changed = self._final_proof()
        variables = dependencies.user_variables(os.environ, context.variables)
        values = dependencies.keyed_digests(variables, self._variables, context.key)
        lock = dependencies.lock_digest(self.environment)
        return Evidence(proof, lock, values, context.key), changed

    def _final_proof(self) -> tuple[Proof, list[str]]:
        proof = self._proof()
        changed = []
        for name, before in self._folders.items():
            now = observations.names(observations.path_of(name))
            created = {Path(own).name for own in self._own if str(Path(own).parent) == name}
            first, last = ({*(entries or ())} for entries in (before, now))
            if any(entry.rstrip("/") not in created for entry in first ^ last):
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
        "os.mkdir": _created,
        "os.link": _linked,
        "ctypes.dlopen": _native,
        "os.rename": _renamed,
        "import": _library,
    }


_current: Trace | None = None


def start() -> None:
    """Start the trace of this process."""
    global _current
    _current = Trace()
    _current.start()


def begin() -> None:
    """Update the trace to the present environment variables."""
    if _current:
        _current.begin()


def is_current() -> bool:
    """Whether nothing that this process has read has changed."""
    return _current is None or _current.is_current()


def reads(name: str) -> None:
    """Record that the step depends on an environment variable."""
    if _current:
        _current.reads(name)


def environment() -> list[str]:
    """The lock of this process's packages."""
    return _current.environment if _current else origin.environment_lock()


def evidence(context: StepContext) -> tuple[Evidence, list[str]] | None:
    """The evidence of this process, and the files that changed; None without a trace."""
    return _current.evidence(context) if _current else None


def _roots() -> tuple[str, ...]:
    """The repository, and other folders that Python imports from, except installed packages."""
    installed = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    installed = {os.path.realpath(path) for path in installed} | installed
    import_folders = [os.path.realpath(path) for path in sys.path if path]
    import_folders += origin.editable(map(Path, sys.path))
    outside = [
        path
        for path in import_folders
        if not path.startswith(tuple(installed)) and "site-packages" not in path
    ]
    return tuple({f"{path}{os.sep}" for path in (str(ROOT), *outside)})


def _descriptor_path(descriptor: int) -> str:
    """The path of an open file descriptor."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
