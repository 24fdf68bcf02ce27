"""The packages of an environment, and what else decides about its imports."""

import json
from pathlib import Path

from pipeline.core.settings import ROOT
from pipeline.provenance import origin


def test_packages_are_named_with_their_versions(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    for info in ("Left_pad-1.0.dist-info", "old-2.0-py3.11.egg-info", "both-3.0.dist-info"):
        (first / info).mkdir(parents=True)
    (second / "both-4.0.dist-info").mkdir(parents=True)
    found = origin.packages([first, second, tmp_path / "absent"])
    assert found == ["both==3.0", "left-pad==1.0", "old==2.0"]


def test_what_was_built_here_counts_by_its_files(tmp_path: Path):
    info = tmp_path / "built-1.0.dist-info"
    info.mkdir()
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///built", "dir_info": {}}))
    (info / "RECORD").write_text("a.py,sha256=1,1\n")
    before = origin.packages([tmp_path])
    (info / "RECORD").write_text("a.py,sha256=2,1\n")
    assert before[0].startswith("built==1.0  # installed files ")
    assert origin.packages([tmp_path]) != before


def test_folders_that_pth_files_add_count(tmp_path: Path):
    file = tmp_path / "more.pth"
    locks = []
    for text in ("", "/one\n", "/two\n", "/one\n/two\n"):
        file.write_text(text)
        locks.append(origin.packages([tmp_path]))
    assert locks[0] == []
    assert len({line for (line,) in locks[1:]}) == 3
    assert all(line.startswith("# .pth files==") for (line,) in locks[1:])


def test_a_pth_file_that_adds_none_or_this_checkout_does_not_count(tmp_path: Path):
    (tmp_path / "more.pth").write_text(f"# why\nimport os; os.sep\n\n{ROOT}\n{ROOT / 'src'}\n")
    assert origin.packages([tmp_path]) == []
