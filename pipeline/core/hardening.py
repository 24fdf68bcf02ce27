"""What each program of the pipeline does first: it keeps its files to its owner, and git quiet."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.core import settings, variables

PRIVATE = 0o077
# What a checkout's own configuration can name programs with, which git would run
GIT = (("core.fsmonitor", "false"), ("core.hooksPath", os.devnull))
FILTER = {"clean": "", "smudge": "", "process": "", "required": "false"}  # does nothing
LFS = ("lfs.extension.", "lfs.customtransfer.", "lfs.standalone")  # programs that Git LFS runs
CHECKOUT = ("local", "worktree")  # the scopes of a checkout's own configuration
COUNT, KEY, VALUE = "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"


def harden() -> None:
    """Let others read no file that this process and its children write, and git run no program.

    A tracker's folder of the user's own choice may be shared with others: then files are as the
    user's umask says, and the state folder alone is closed.
    """
    variables.set_variables(quiet_git(os.environ, no_filters(settings.ROOT, os.environ)))
    before = os.umask(PRIVATE)
    variables.set_defaults({settings.UMASK: f"{before:03o}"})
    if _is_shared():
        os.umask(users_umask())


def _is_shared() -> bool:
    """Whether a store of this process lies outside of the state folder."""
    state, file = settings.state_dir(), settings.sqlite_path(settings.tracking_uri())
    return settings.trackio_dir().absolute() != state / "trackio" or bool(
        file and file.absolute().parent != state
    )


def users_umask() -> int:
    """The umask of the user who started the program; -1, which changes nothing, if not hardened."""
    text = os.environ.get(settings.UMASK, "")
    return int(text, 8) & 0o777 if text and set(text) <= set("01234567") else -1


@contextlib.contextmanager
def for_the_user() -> Iterator[None]:
    """Write files that the user has asked for as any other program would."""
    wanted = users_umask()
    before = os.umask(wanted) if wanted >= 0 else -1
    try:
        yield
    finally:
        if before >= 0:
            os.umask(before)


def close_state() -> None:
    """Let nobody else into the state folder, unless it is one that holds more than state."""
    folder = settings.state_dir()
    if not folder.is_dir() or any(
        place.is_relative_to(folder.resolve()) for place in (settings.ROOT, Path.cwd())
    ):
        return
    status = folder.stat()
    open_to_others = status.st_mode & PRIVATE and not status.st_mode & stat.S_ISVTX
    if open_to_others and status.st_uid == os.getuid():
        folder.chmod(0o700)


def quiet_git(
    environment: Mapping[str, str], more: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """The variables by which every git below this process, whoever starts it, runs no program.

    Args:
        environment: the variables that are there.
        more: further options, such as :func:`no_filters`.
    """
    given = _git_options(environment)
    return _as_variables(given + [pair for pair in (*GIT, *more) if pair not in given])


def no_filters(folder: Path, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The options by which the filters of a checkout's own configuration do nothing.

    Whoever made the checkout has named those programs. Filters of the user's own configuration,
    where ``git lfs install`` puts Git LFS, run; but not Git LFS with programs of the checkout's.
    """
    words = ["git", "config", "--list", "--name-only", "--show-scope", "-z"]
    try:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=False)
    except OSError:
        return []  # no git, which then runs nothing
    told = done.stdout.decode("utf-8", "surrogateescape")
    scopes, names = told.split("\0")[::2], told.split("\0")[1::2]
    own = [name for scope, name in zip(scopes, names, strict=False) if scope in CHECKOUT]
    filters = {name[len("filter.") :].rpartition(".")[0] for name in own if name[:7] == "filter."}
    if any(name.startswith(LFS) for name in own):
        filters.add("lfs")
    names = sorted(filters - {""})
    return [(f"filter.{name}.{key}", value) for name in names for key, value in FILTER.items()]


def users_git(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without :func:`quiet_git`, for a git that is to run as its user would."""
    given = _git_options(environment)
    others = {k: v for k, v in environment.items() if k != COUNT and not k.startswith((KEY, VALUE))}
    return others | _as_variables([pair for pair in given if not _is_ours(pair)])


def _is_ours(pair: tuple[str, str]) -> bool:
    key, value = pair
    return pair in GIT or (key[:7] == "filter." and FILTER.get(key.rpartition(".")[2]) == value)


def _git_options(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    text = environment.get(COUNT, "")
    numbers = range(int(text)) if text.isdecimal() else ()
    return [(environment.get(f"{KEY}{n}", ""), environment.get(f"{VALUE}{n}", "")) for n in numbers]


def _as_variables(options: list[tuple[str, str]]) -> dict[str, str]:
    named = {COUNT: str(len(options))} if options else {}
    for number, (key, value) in enumerate(options):
        named |= {f"{KEY}{number}": key, f"{VALUE}{number}": value}
    return named
