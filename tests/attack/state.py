"""Edits of files in the state folder, as a full disk, a crash or somebody else makes them.

``python -m tests.attack.state FOLDER COUNT [SEED]`` makes so many in a place of :func:`make`, and
lets everything read the state folder after each.
"""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.cache.finished import Cache
from pipeline.core import databases, settings
from pipeline.core.files import content_digest
from pipeline.core.tracing.dependencies import read_lock
from pipeline.history import log as history_log
from pipeline.history import runs as history_runs
from pipeline.orchestration import dead_runs, maintenance, summary, terminal
from pipeline.orchestration.execution import processes, workers
from pipeline.steps.folders import step_folders
from tests.support.paths import ROOT
from tests.support.runs import Checkout

KINDS = ("cut", "empty", "garbage", "delete", "folder", "link", "folder link")
PRECIOUS = "precious"


def make(finished: Checkout, folder: Path) -> Checkout:
    """A place in which the pipeline has run, a copy of its state, and what is the user's."""
    checkout = finished.copy(folder / "home")
    shutil.copytree(checkout.state, folder / "kept")
    (folder / "outside").mkdir()
    for name in (PRECIOUS, "summary.json", "other.json"):
        (folder / "outside" / name).write_text('{"precious": true}')
    return checkout


@dataclass(frozen=True)
class Edit:
    """One file, and what happens to it.

    Attributes:
        file: its place among the state folder's files, counted around.
        kind: one of :data:`KINDS`.
        data: what garbage is written; where it is cut follows from it, too.
    """

    file: int
    kind: str
    data: bytes

    def make(self, state: Path, outside: Path) -> Path:
        """Make the edit; the file's path."""
        files = sorted(path for path in state.rglob("*") if path.is_file())
        path = files[self.file % len(files)]
        if self.kind == "cut":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * (sum(self.data) % 97) // 97])
        elif self.kind in ("empty", "garbage"):
            path.write_bytes(self.data if self.kind == "garbage" else b"")
        else:
            path.unlink()
            if self.kind == "folder":
                path.mkdir()
                (path / "mine.txt").write_text("mine")
            elif self.kind != "delete":
                path.symlink_to(outside / PRECIOUS if self.kind == "link" else outside)
        return path


def readers(state: Path) -> dict[str, Callable[[], object]]:
    """All that reads the state folder, by name."""
    console = terminal.PlainConsole(file=io.StringIO())

    def cached() -> None:
        cache = Cache(state, warn=lambda _: None)
        for step in step_folders():
            _ = [read_lock(record.result.environment or "") for record in cache._records(step)]
            _ = workers.interpreter(ROOT / step, "uv")

    def collected() -> None:
        maintenance.remove(state, maintenance.garbage(state, 0))

    return {
        "cache": cached,
        "verify": lambda: maintenance.verify(state),
        "log": lambda: history_log.log(console, history_log.entries(None, 20)),
        "show": lambda: history_log.show(console, history_runs.History().find("last")),
        "dead runs": lambda: [any(processes.killed_runs()), dead_runs.mark_dead()],
        "count": summary.next_number,
        "gc": collected,
    }


EDITS = st.builds(Edit, st.integers(0, 500), st.sampled_from(KINDS), st.binary(max_size=60))


def main(folder: Path, count: int, number: int | None = None) -> None:
    """Make edits one by one, and let everything read the state folder after each.

    The edits are the same for the same number.
    """

    @hypothesis_settings(
        max_examples=count,
        deadline=None,
        derandomize=number is None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(edit=EDITS)
    def edited(edit: Edit) -> None:
        restore(folder / "kept", settings.state_dir())
        problems = attempt(settings.state_dir(), folder / "outside", edit)
        assert not problems, problems

    (edited if number is None else seed(number)(edited))()
    print(f"{count} edits")


def attempt(state: Path, outside: Path, edit: Edit) -> list[str]:
    """Make an edit, and let everything read the state folder; what was wrong with that."""
    before, problems = content_digest(outside), []
    named = _named(state)
    path = edit.make(state, outside)
    label = f"{edit.kind} of {path.relative_to(state)}"
    for name, reader in readers(state).items():
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                told = reader()
        except Exception as error:
            if databases.as_pipeline_error(error) is None:
                problems.append(f"{label}: {name}: {type(error).__name__}: {error}")
            continue
        if name == "verify" and not told and path in named and not _same(path, named[path]):
            problems.append(f"{label}: verify found nothing")
    if content_digest(outside) != before:
        problems.append(f"{label}: something outside was changed")
    return problems


def _named(state: Path) -> dict[Path, str]:
    """The files that finished steps name, with their digests."""
    cache, found = Cache(state), {}
    for step in step_folders():
        for record in cache._records(step):
            for place, digest in record.result.mlflow_files.items():
                found[state / place] = digest
            for output in record.result.outputs:
                found |= {settings.trackio_dir() / k: v for k, v in output["stored"].items()}
    return found


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and content_digest(path) == digest


def restore(kept: Path, state: Path) -> None:
    """Put the state folder back as it was."""
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(kept, state, symlinks=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
