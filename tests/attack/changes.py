"""Changes to what a step may have read: those that matter run it again, and no other does.

2-ETL of a repository of its own is made to read in all the ways that there are. After each change
``main.explain`` says whether it would run; then the change is undone.
"""

import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.clones import Clone, git
from tests.support.runs import Finished

STEP, QUICK = "2-ETL", ("main.steps=[1,2]",)
READS = """
import csv, gzip, importlib, importlib.util, io, json, mmap, os, pkgutil, runpy, sqlite3, zipfile
import colorsys

import helper
import shared.one
from rules.deep import clean
from linked import module as linked_module
import built_here

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
spec = importlib.util.spec_from_file_location("plugin", ROOT / "plugins" / "plugin.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
importlib.import_module("shared.by_name")
runpy.run_path(str(HERE / "run_me.py"))
exec((HERE / "executed.txt").read_text())
for missing in ("not_there_yet", "shared.not_there_yet"):
    try:
        importlib.import_module(missing)
    except ImportError:
        pass
importlib.util.find_spec("asked_for")
list(pkgutil.iter_modules([str(ROOT / "plugins")]))
REGION = os.environ.get("REGION")
os.getenv("ZONE"), "SWITCH" in os.environ


def read_all():
    place = HERE / "lookup"
    json.loads((place / "rules.json").read_text())
    (HERE / ".hidden").read_bytes()
    open(os.path.join(str(place), "plain.txt")).read()
    io.open(place / "io.txt").read()
    list(csv.reader(open(place / "table.csv")))
    pd = importlib.import_module("pandas")
    pd.read_csv(place / "pandas.csv")
    gzip.open(place / "packed.gz").read()
    zipfile.ZipFile(place / "packed.zip").namelist()
    with open(place / "mapped.bin", "rb") as file:
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[:]
    folder = os.open(place, os.O_RDONLY)
    os.read(os.open("below.txt", os.O_RDONLY, dir_fd=folder), 9)
    os.close(folder)
    here = os.getcwd()
    os.chdir(place)
    open("relative.txt").read()
    os.chdir(here)
    (HERE / "link.txt").read_text()
    with sqlite3.connect(f"file:{place / 'store.db'}?mode=ro", uri=True) as store:
        store.execute("select * from t").fetchall()
    os.listdir(place / "listed")
    list((place / "globbed").glob("*.csv"))
    list(os.walk(place / "walked"))
    [entry.name for entry in os.scandir(place / "scanned")]
    (place / "flag").exists(), os.path.isdir(place / "more"), os.access(place / "key", os.R_OK)
    (place / "sized.txt").stat().st_size
    try:
        open(place / "optional.txt")
    except OSError:
        pass


"""
MODULES = (
    "helper.py", "shared/__init__.py", "shared/one.py", "shared/by_name.py", "plugins/plugin.py",
    "2-ETL/rules/__init__.py", "2-ETL/rules/deep/__init__.py", "2-ETL/rules/deep/clean.py",
    "2-ETL/run_me.py", "outside/linked/__init__.py", "outside/linked/module.py",
    "packages/built_here.py",
)  # fmt: skip
FILES = (
    "2-ETL/executed.txt", "2-ETL/.hidden", "2-ETL/lookup/rules.json", "2-ETL/lookup/plain.txt",
    "2-ETL/lookup/io.txt", "2-ETL/lookup/table.csv", "2-ETL/lookup/pandas.csv",
    "2-ETL/lookup/mapped.bin", "2-ETL/lookup/below.txt", "2-ETL/lookup/relative.txt",
    "outside/target.txt", "2-ETL/lookup/native.parquet", "2-ETL/MLproject",
)  # fmt: skip
LIBRARY = (
    "pipeline/__init__.py",
    "pipeline/science/data/cleaning.py",
    "pipeline/steps/tracing/trace.py",
)
GO = "def go(args: argparse.Namespace, run: steps.Run) -> None:\n"


@dataclass
class Place:
    """A repository whose 2-ETL reads in many ways, and what lies beside it."""

    clone: Clone
    variables: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """A file of the repository, of the folder outside, or of the packages."""
        first = name.partition("/")[0]
        beside = first in ("outside", "packages")
        return (self.clone.root.parent if beside else self.clone.root) / name

    def write(self, name: str, text: str) -> None:
        """Write a file, and its folder."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, *words: str, **more: str | None) -> Finished:
        """Run the first two steps."""
        variables = {**self.variables, **more}
        unset = {name for name, value in variables.items() if value is None}
        return self.clone.run(
            *QUICK, *words, **{name: variables[name] for name in variables.keys() - unset}
        )

    def would_run(self, *words: str, **more: str | None) -> tuple[bool, str]:
        """Whether 2-ETL would run, and what is said of it."""
        done = self.run("main.explain=true", *words, **more)
        assert done.status == 0, done.err
        return f"{STEP}: would run" in done.out, done.out


def make(folder: Path) -> Place:
    """The repository, in which the step has run."""
    place = Place(Clone.make(folder))
    for name in MODULES:
        place.write(name, "value = 1\n")
    for name in FILES[:-1]:
        place.write(name, "a,b\n1,2\n" if name.endswith(".csv") else "10")
    root, lookup = place.clone.root, place.path("2-ETL/lookup")
    for name in ("listed", "globbed", "walked/more", "scanned"):
        place.write(f"2-ETL/lookup/{name}/a.csv", "1")
    place.write("2-ETL/lookup/sized.txt", "1")
    for name, data in (("packed.gz", GZIP), ("packed.zip", ZIP)):
        (lookup / name).write_bytes(data)
    with contextlib.closing(sqlite3.connect(lookup / "store.db")) as store:
        store.execute("create table t (a)")
        store.commit()
    (root / STEP / "linked").symlink_to(place.path("outside/linked"))
    (root / STEP / "link.txt").symlink_to(place.path("outside/target.txt"))
    project = place.path("2-ETL/MLproject")
    project.write_text(f"inputs: [lookup/*.parquet]\n{project.read_text()}")
    script = place.path("2-ETL/script.py")
    script.write_text(script.read_text().replace(GO, f"{READS}{GO}    read_all()\n", 1))
    packages = place.path("packages")
    dist(packages, "left", "1.0")
    dist(packages, "fixed", "1.0", local=True)
    dist(packages, "built", "1.0", editable=place.path("outside"))
    place.variables |= {"PYTHONPATH": str(packages), "REGION": "north"}
    git(root, "add", ".")
    git(root, "commit", "-qm", "reads")
    done = place.run()
    assert done.status == 0, done.err
    would, told = place.would_run()
    assert not would, told
    return place


GZIP = gzip.compress(b"10", mtime=0)
ZIP = b"PK\x05\x06" + bytes(18)


def dist(
    folder: Path, name: str, version: str, local: bool = False, editable: Path | None = None
) -> Path:
    """Lay a package out as installed."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    if local or editable:
        told: dict[str, object] = {"url": (editable or folder).as_uri(), "dir_info": {}}
        if editable:
            told["dir_info"] = {"editable": True}
        (info / "direct_url.json").write_text(json.dumps(told))
        (info / "RECORD").write_text("a.py,sha256=1,1\n")
    return info


@dataclass(frozen=True)
class Change:
    """A change: what it is, whether it matters, and how it is made.

    Attributes:
        make: makes it; gives the overrides and variables of the next run, if any.
    """

    name: str
    matters: bool
    make: Callable[[Place], Mapping[str, str | None] | None]


def edited(name: str, more: str, matters: bool) -> Change:
    """Something is added to a file."""

    def make(place: Place) -> None:
        path = place.path(name)
        path.write_bytes(path.read_bytes() + more.encode())

    return Change(f"{name} gets {more!r}", matters, make)


def same_size_and_time(name: str) -> Change:
    """A file changes within a second, to the same size."""

    def make(place: Place) -> None:
        path = place.path(name)
        before, text = path.stat(), path.read_bytes()
        path.write_bytes(text.replace(b"1", b"7") if b"1" in text else text[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return Change(f"{name} changes, at the same size and time", True, make)


def removed(name: str) -> Change:
    """A file goes."""
    return Change(f"{name} is removed", True, lambda place: place.path(name).unlink())


def added(name: str, matters: bool, text: str = "value = 1\n") -> Change:
    """A file comes."""
    return Change(f"{name} is added", matters, lambda place: place.write(name, text))


def touched(name: str) -> Change:
    """A file has another time."""
    return Change(f"{name} is touched", False, lambda place: os.utime(place.path(name), (1, 1)))


def variable(name: str, value: str | None, matters: bool) -> Change:
    """An environment variable is set, or not any more."""
    return Change(f"{name}={value}", matters, lambda place: {name: value})


def override(word: str, matters: bool) -> Change:
    """Another setting."""
    return Change(word, matters, lambda place: {"": word})


def replaced(name: str) -> Change:
    """A file becomes a link to another one."""

    def make(place: Place) -> None:
        path = place.path(name)
        path.unlink()
        place.write("outside/other.txt", "99")
        path.symlink_to(place.path("outside/other.txt"))

    return Change(f"{name} becomes a link", True, make)


def package(name: str, what: str, make: Callable[[Place], object]) -> Change:
    """Something about an installed package."""
    return Change(f"package {name} {what}", True, lambda place: make(place) and None)


def changes() -> list[Change]:
    """All of them, those that matter first."""
    lookup = "2-ETL/lookup"
    return [
        *(edited(name, "value = 2\n", True) for name in MODULES),
        *(same_size_and_time(name) for name in MODULES),
        *(edited(name, "# more\n", True) for name in FILES),
        *(same_size_and_time(name) for name in FILES[:-1]),
        *(edited(name, "\nmore = 1\n", True) for name in (*LIBRARY, "2-ETL/script.py")),
        *(removed(name) for name in ("helper.py", "2-ETL/.hidden", f"{lookup}/plain.txt")),
        *(replaced(name) for name in (f"{lookup}/io.txt", "2-ETL/executed.txt")),
        *(added(f"{lookup}/{name}/new.csv", True) for name in ("listed", "globbed", "walked/more")),
        *(removed(f"{lookup}/{name}/a.csv") for name in ("globbed", "scanned")),
        *(added(f"{lookup}/{name}", True) for name in ("flag", "more/x", "key", "optional.txt")),
        added(f"{lookup}/new.parquet", True),
        edited(f"{lookup}/sized.txt", "1", True),
        edited(f"{lookup}/packed.gz", "x", True),
        edited(f"{lookup}/packed.zip", "x", True),
        edited(f"{lookup}/store.db", "x", True),
        added("numpy.py", True),
        added("pandas/__init__.py", True),
        added("2-ETL/colorsys.py", True),
        added("not_there_yet.py", True),
        added("2-ETL/not_there_yet/__init__.py", True),
        added("shared/not_there_yet.py", True),
        added("2-ETL/asked_for.py", True),
        added("plugins/another.py", True),
        *(variable(name, "2", True) for name in ("REGION", "ZONE", "SWITCH", "TZ", "LC_ALL")),
        *(variable(name, "2", True) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")),
        variable("PYTHONHASHSEED", "2", True),
        variable("REGION", None, True),
        package("new", "is installed", lambda p: dist(p.path("packages"), "new", "1.0")),
        package("left", "is removed", lambda p: shutil.rmtree(
            p.path("packages/left-1.0.dist-info")) or True),
        package("left", "has another version", lambda p: p.path(
            "packages/left-1.0.dist-info").rename(p.path("packages/left-1.1.dist-info"))),
        package("fixed", "is built again at its version", lambda p: p.path(
            "packages/fixed-1.0.dist-info/RECORD").write_text("a.py,sha256=2,1\n")),
        override("etl.fill={type_2: nothing}", True),
        override("main.project_name=other", True),
        *(edited(name, "# why\n", False) for name in MODULES if "run_me" not in name),
        *(edited(name, "\n# why\n", False) for name in (*LIBRARY, "2-ETL/script.py")),
        *(touched(name) for name in ("helper.py", "2-ETL/script.py", f"{lookup}/plain.txt")),
        *(added(name, False) for name in (
            "notes.txt", "other.py", "2-ETL/notes.md", "2-ETL/unused.py", "pipeline/notes.txt",
            "pipeline/science/unused.py", "6-More/script.py", "shared/notes.txt", ".git/more",
            ".venv/lib/helper.py", "__pycache__/helper.cpython-311.pyc", "outside/notes.txt",
            "packages/notes.txt")),
        edited("3-Split_dataset/script.py", "\nmore = 1\n", False),
        edited("pipeline/orchestration/run.py", "\nmore = 1\n", False),
        edited("2-ETL/conda.yml", "# why\n", False),
        edited("config.yaml", "# why\n", False),
        *(variable(name, "2", False) for name in ("SHELL", "EDITOR", "USER", "COLUMNS", "UNREAD")),
        override("main.experiment_name=other", False),
        override("split.test_size=0.3", False),
        override("main.timeout=600", False),
        Change("a commit", False, lambda p: git(p.clone.root, "commit", "-q", "--allow-empty",
                                                "-m", "more") and None),
        Change("a mode", False, lambda p: p.path("helper.py").chmod(stat.S_IRUSR)),
    ]  # fmt: skip


@contextlib.contextmanager
def undone(place: Place) -> Iterator[None]:
    """Whatever is changed within the block is put back at its end."""
    folder = place.clone.root.parent
    names = ("repository", "outside", "packages")
    kept = folder / "kept"
    for name in names:
        shutil.copytree(folder / name, kept / name, symlinks=True)
    try:
        yield
    finally:
        for name in names:
            shutil.rmtree(folder / name)
            (kept / name).rename(folder / name)


def attempt(place: Place, change: Change) -> str:
    """Make a change, see what it does and undo it; what was wrong, or nothing."""
    with undone(place):
        given = dict(change.make(place) or {})
        word = given.pop("", None)
        would, told = place.would_run(*filter(None, [word]), **given)
    if would is change.matters:
        return ""
    return f"{change.name}: {'did not count' if change.matters else 'counted'}\n{told}"
