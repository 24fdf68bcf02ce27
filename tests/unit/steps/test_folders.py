"""Which steps main.steps means."""

import pytest

from pipeline.core.errors import PipelineError
from pipeline.steps.folders import chosen_steps


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["2-ELT"], ["'2-ELT'", "did you mean '2-ETL'"]),
        ([], ["main.steps is empty"]),
        ("", ["main.steps names ''"]),
    ],
)
def test_names_that_no_step_has(wanted: object, said: list[str]):
    with pytest.raises(PipelineError) as caught:
        chosen_steps(wanted)
    assert all(words in caught.value.what for words in said)
    assert "2-ETL, 3-Split_dataset" in caught.value.remedy
