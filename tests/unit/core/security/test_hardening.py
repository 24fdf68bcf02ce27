"""Files are their owner's, and git runs no program of a checkout's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.security import hardening

OWN = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_VALUE_0": "Ada",
    "HOME": "/home/ada",
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder that is not there yet; the umask and the variables are put back."""
    monkeypatch.chdir("/")
    for name in (settings.UMASK, "TRACKIO_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in hardening.quiet_git({}):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.setattr(hardening, "no_filters", lambda *_: [])  # asks git
    before = os.umask(0o022)
    yield tmp_path / "state"
    os.umask(before)
    for name in (settings.UMASK, *hardening.quiet_git({})):
        os.environ.pop(name, None)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_are_their_owners(place: Path, tmp_path: Path):
    for _ in range(2):  # a child does it again
        hardening.harden()
    place.mkdir()
    (place / "file").touch()
    assert (mode(place), mode(place / "file")) == (0o700, 0o600)
    with hardening.for_the_user():
        (tmp_path / "output.csv").touch()
    assert mode(tmp_path / "output.csv") == 0o644
    assert hardening.users_umask() == 0o022


@pytest.mark.parametrize("name", ["TRACKIO_DIR", "MLFLOW_TRACKING_URI"])
def test_a_store_that_others_may_share_is_as_the_user_wants_it(
    place: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, f"sqlite:///{tmp_path}/x.db" if "MLFLOW" in name else str(tmp_path))
    hardening.harden()
    (tmp_path / "shared").touch()
    assert mode(tmp_path / "shared") == 0o644


def test_an_earlier_state_folder_is_closed(place: Path, monkeypatch: pytest.MonkeyPatch):
    hardening.close_state()  # there is none
    place.mkdir(mode=0o755)
    hardening.close_state()
    assert mode(place) == 0o700
    for folder, above in ((place, 0o1777), (place / "project" / "state", 0o755)):
        place.chmod(above)
        (place / "project").mkdir(exist_ok=True)
        monkeypatch.chdir(place / "project" if above == 0o755 else "/")
        monkeypatch.setenv(settings.STATE_DIR, str(place))
        hardening.close_state()  # it holds more than state
        assert place.stat().st_mode & 0o7777 == above, folder


def test_gits_own_options_stay():
    quiet = OWN | hardening.quiet_git(OWN)
    assert quiet["GIT_CONFIG_COUNT"] == "3"
    assert quiet["GIT_CONFIG_KEY_0"] == "user.name"
    named = {quiet[f"GIT_CONFIG_KEY_{n}"]: quiet[f"GIT_CONFIG_VALUE_{n}"] for n in range(3)}
    assert named["core.fsmonitor"] == "false"
    assert named["core.hooksPath"] == os.devnull
    assert hardening.quiet_git(quiet) == {k: v for k, v in quiet.items() if k != "HOME"}
    assert hardening.users_git(quiet) == OWN
    more = [("filter.any.clean", ""), ("filter.any.required", "false")]
    filtered = OWN | hardening.quiet_git(OWN, more)
    assert filtered["GIT_CONFIG_COUNT"] == "5"
    assert hardening.users_git(filtered) == OWN
    assert hardening.users_git(OWN | {"GIT_CONFIG_COUNT": "x"}) == {"HOME": "/home/ada"}
