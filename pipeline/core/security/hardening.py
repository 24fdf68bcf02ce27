"""Hardens each program of the pipeline: private files, and no programs run by git."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.core import settings, variables

PRIVATE = 0o077
# Settings with which a checkout's configuration can name programs that git runs
GIT = (("core.fsmonitor", "false"), ("core.hooksPath", os.devnull))
FILTER = {"clean": "", "smudge": "", "process": "", "required": "false"}  # a filter without effect
LFS = ("lfs.extension.", "lfs.customtransfer.", "lfs.standalone")  # programs that Git LFS runs
CHECKOUT = ("local", "worktree")  # the scopes of a checkout's own configuration
COUNT, KEY, VALUE = "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"


def harden() -> None:
    """Make new files private to the user, and stop git from running programs.

    If a store lies outside of the state folder, it may be shared with others: then the user's
    umask stays, and only the state folder is private.
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
    """The umask of the user who started the program; -1 if the program is not hardened."""
    text = os.environ.get(settings.UMASK, "")
    return int(text, 8) & 0o777 if text and set(text) <= set("01234567") else -1


@contextlib.contextmanager
def for_the_user() -> Iterator[None]:
    """Write the files that the user asked for with the user's own umask."""
    umask = users_umask()
    before = os.umask(umask) if umask >= 0 else -1
    try:
        yield
    finally:
        if before >= 0:
            os.umask(before)


def close_state() -> None:
    """Close the state folder to other users, unless the checkout or current folder is in it."""
    folder = settings.state_dir()
    if not folder.is_dir() or any(
        place.is_relative_to(folder.resolve()) for place in (settings.ROOT, Path.cwd())
    ):
        return
    status = folder.stat()
    open_to_others = status.st_mode & PRIVATE and not status.st_mode & stat.S_ISVTX
    if open_to_others and status.st_uid == os.getuid():
        folder.chmod(0o700)


def is_own_folder(path: Path) -> bool:
    """Whether a path is a folder of this user, and not a link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def quiet_git(
    environment: Mapping[str, str], extra_options: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Environment variables that keep git, in all processes below, from running programs.

    Args:
        environment: the present environment variables.
        extra_options: further options, such as :func:`no_filters`.
    """
    options = _git_options(environment)
    return _as_variables(options + [pair for pair in (*GIT, *extra_options) if pair not in options])


def no_filters(folder: Path, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Git options that disable the filters of a checkout's own configuration.

    The author of the checkout chose those programs. Filters of the user's configuration still run,
    such as Git LFS, unless the checkout names programs for Git LFS.
    """
    command = ["git", "config", "--list", "--name-only", "--show-scope", "-z"]
    try:
        process = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, check=False
        )
    except OSError:
        return []  # git is not installed
    output = process.stdout.decode("utf-8", "surrogateescape")
    scopes, names = output.split("\0")[::2], output.split("\0")[1::2]
    own = [name for scope, name in zip(scopes, names, strict=False) if scope in CHECKOUT]
    filters = {name[len("filter.") :].rpartition(".")[0] for name in own if name[:7] == "filter."}
    if any(name.startswith(LFS) for name in own):
        filters.add("lfs")
    names = sorted(filters - {""})
    return [(f"filter.{name}.{key}", value) for name in names for key, value in FILTER.items()]


def users_git(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without :func:`quiet_git`, to run git as the user would."""
    options = _git_options(environment)
    other_variables = {
        k: v for k, v in environment.items() if k != COUNT and not k.startswith((KEY, VALUE))
    }
    return other_variables | _as_variables([pair for pair in options if not _is_ours(pair)])


def _is_ours(pair: tuple[str, str]) -> bool:
    key, value = pair
    return pair in GIT or (key[:7] == "filter." and FILTER.get(key.rpartition(".")[2]) == value)


def _git_options(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    text = environment.get(COUNT, "")
    numbers = range(int(text)) if text.isdecimal() else ()
    return [(environment.get(f"{KEY}{n}", ""), environment.get(f"{VALUE}{n}", "")) for n in numbers]


def _as_variables(options: list[tuple[str, str]]) -> dict[str, str]:
    result = {COUNT: str(len(options))} if options else {}
    for number, (key, value) in enumerate(options):
        result |= {f"{KEY}{number}": key, f"{VALUE}{number}": value}
    return result
