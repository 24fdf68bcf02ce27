"""What a report needs of the data."""

import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.science.inspection import report_data

TABLE = pd.DataFrame({"a": [1.0, 2.0], "y": [0, 1]})


@pytest.mark.parametrize("target", ["y", ["a", "y"]])
def test_a_table_with_the_target_is_accepted(target):
    report_data.check_target(target, TABLE, "model:v0", "train_data.csv:v0")


@pytest.mark.parametrize("target", ["price", ["y", "price"], "", None])
def test_a_table_without_the_target_is_refused(target):
    with pytest.raises(PipelineError) as refused:
        report_data.check_target(target, TABLE, "model:v0", "train_data.csv:v0")
    assert str(refused.value).startswith(f"model:v0 predicts {target!r}, which train_data.csv:v0")
