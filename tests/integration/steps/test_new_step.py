"""A step that is begun from the template, with the lines that are printed for it."""

import re
import runpy
from pathlib import Path

from tests.support.clones import Clone
from tests.support.paths import ROOT
from tests.support.runs import SMALL

STEPS = "main.steps=[1,2,3,4,6]"


def test_a_new_step_runs_cached_and_tracked_by_what_is_printed(tmp_path: Path):
    clone = Clone.make(tmp_path)
    tests = clone.root / "tests" / "unit"
    tests.mkdir(parents=True)
    (clone.root / "requirements.lock").write_bytes((ROOT / "requirements.lock").read_bytes())
    words = ("-m", "pipeline", "new-step", "6-Explain", "--after", "4-Training_model")
    done = clone.python(*words, cwd=clone.root)
    assert done.status == 0, done.err
    section = re.search(r"^explain:\n(  .*\n)+", done.out, re.MULTILINE)[0]
    (call,) = re.findall(r"^        run\(.*\n", done.out, re.MULTILINE)
    clone.edit("config.yaml", "\nhydra:", f"\n{section}\nhydra:")
    clone.edit("main.py", "        return trained", f"{call}        return trained")
    first = clone.run(STEPS, SMALL)
    assert first.status == 0, first.err
    assert first.states == ["ran"] * 5
    assert first.versions()["explain.json"] == "v0"
    assert first.summary["metrics"].keys() >= {"f1"}  # the model's, though its step is not the last
    (used,) = first.summary["steps"]["6-Explain"]["inputs"]
    assert (used["name"], used["version"]) == ("model", "v0")
    assert clone.run(STEPS, SMALL).states == ["cached"] * 5
    refused = clone.run(STEPS, "explain.artifact_nam=x")
    assert "there is no setting 'explain.artifact_nam' (did you mean 'explain.art" in refused.err
    test = runpy.run_path(str(tests / "test_6_explain.py"))
    (tmp_path / "files").mkdir()
    test["test_the_largest_files_are_listed"](tmp_path / "files")
