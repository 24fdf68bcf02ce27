"""What is run from a state folder is this user's own."""

import hashlib
import marshal
import sys
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.security import seals
from pipeline.orchestration.execution import workers
from pipeline.steps.tracing import source


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "state"


def test_a_seal_is_broken_by_a_change_and_by_another_user(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sealed = seals.seal(b"some")
    assert seals.unseal(sealed) == b"some"
    key = tmp_path / "cache" / "mlflow-pipeline" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [*key.parent.iterdir()] == [key]
    for other in (b"", b"some", sealed[:-1], sealed + b"x", bytes(32) + b"some"):
        with pytest.raises(ValueError, match="by this user"):
            seals.unseal(other)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "theirs"))
    with pytest.raises(ValueError, match="by this user"):
        seals.unseal(sealed)


def test_a_key_that_is_cut_is_made_again_and_one_that_can_not_be_kept_is_the_process_s(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    key = tmp_path / "cut" / "mlflow-pipeline" / "key"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"half")
    for folder in (tmp_path / "cut", tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        assert seals.unseal(seals.seal(b"some")) == b"some"
    assert len(key.read_bytes()) == seals.SIZE


def test_bytecode_of_somebody_else_is_not_run(state: Path, tmp_path: Path):
    path, text = tmp_path / "rules.py", b"A = 1"
    code, told = source.load(path, text)
    assert source.load(path, text) == (code, told)
    (kept,) = (state / source.FOLDER).iterdir()
    theirs = compile("A = 2", path, "exec")
    for data in (marshal.dumps(("", theirs)), bytes(seals.SIZE) + marshal.dumps(("", theirs))):
        kept.write_bytes(data)
        loaded, again = source.load(path, text)
        assert (loaded.co_consts, again) == (code.co_consts, told)


def test_an_interpreter_that_somebody_else_names_is_not_run(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "conda.yml").write_text("name: one")
    workers.record_interpreter(tmp_path, Path(sys.executable))
    assert workers.interpreter(tmp_path, "uv") == sys.executable
    name = hashlib.sha256(b"name: one").hexdigest()
    (state / "environments" / f"{name}.python").write_text("/usr/bin/env")
    assert workers.interpreter(tmp_path, "uv") is None
    assert "counts as absent" in capsys.readouterr().err
