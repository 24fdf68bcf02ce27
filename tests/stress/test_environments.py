"""Environments that are built for the steps."""

from pathlib import Path

from tests.support.runs import SMALL, Checkout


def test_a_project_of_its_own_environments(tmp_path: Path):
    """MLflow builds each step's environment with uv; the results are the same."""
    done = Checkout(tmp_path).run(SMALL, "main.env_manager=uv")
    assert done.status == 0, done.err
    assert done.states == ["ran"] * 4
    assert "building 4 environments with uv, side by side" in done.out
    environments = [path for path in (tmp_path / ".mlflow/envs").iterdir() if path.is_dir()]
    assert len(environments) == 4
    assert all(list(path.rglob("trackio/__pycache__/*.pyc")) for path in environments)
