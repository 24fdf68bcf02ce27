"""The functions of STEP_NAME."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "STEP_NAME" / "script.py"
spec = importlib.util.spec_from_file_location("SECTION_script", SCRIPT)
step = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step)


def test_the_largest_files_are_listed(tmp_path: Path):
    for name, text in {"a.txt": "1", "b/c.txt": "123", "d.txt": "12"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    largest = {"b/c.txt": 3, "d.txt": 2}
    assert step.contents(tmp_path, largest=2) == {"files": 3, "largest": largest}
