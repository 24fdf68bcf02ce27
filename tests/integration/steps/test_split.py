"""3-Split_dataset as a program. How it draws: tests/unit/science/test_splitting.py."""

from argparse import Namespace

import pytest

from pipeline.core.errors import PipelineError
from tests.support.steps import Steps, load_step

STEP = "3-Split_dataset"


def test_no_cell_is_changed(place: Steps):
    """Whole numbers beside gaps, words that look like numbers, line breaks: all stay."""
    rows = [f'00{n % 10},{n if n % 2 else ""},"a\nb{n}",{n}.50,NA' for n in range(20)]
    place.put("code,gap,text,price,word\n" + "\n".join(rows) + "\n", "clean_data.csv")
    ended = place.step(STEP, stratify="word", test_size=0.4)
    assert ended.status == 0, ended.err
    said = "clean_data.csv:v0 has no schema.json: the types of its columns are inferred"
    assert ended.report["notes"] == [{"text": said, "warning": False}]
    kept = []
    for output in ended.report["outputs"]:
        text = place.file(output).read_text()
        assert text.startswith("code,gap,text,price,word\n")
        kept += [row for row in rows if f"{row}\n" in text]
        assert output["type"] == "split_data"
    assert sorted(kept) == sorted(rows)

    assert ended.versions() == {"train_data.csv": "v0", "test_data.csv": "v0"}
    assert ended.report["metrics"] == {"train_rows": 12, "test_rows": 8}
    drawn = {"test_size": 0.4, "random_state": 42, "stratify": "word"}
    drawn |= {"notes": ended.report["notes"]}
    assert place.artifacts()["train_data.csv:v0"] == {"rows": 12, **drawn}
    assert place.artifacts()["test_data.csv:v0"] == {"rows": 8, **drawn}

    place.refused(STEP, "split.test_size=1.5", test_size="1.5")


def test_both_parts_have_one_name():
    names = Namespace(train_artifact_name="part.csv", test_artifact_name="part.csv")
    with pytest.raises(PipelineError, match=r"both parts are named 'part\.csv'"):
        load_step(STEP).go(names, run=None)
