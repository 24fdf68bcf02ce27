"""Figures are drawn whatever the classes and columns are called."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting import figures
from pipeline.science.evaluation import Predictions

ODD = ["under_$50_or_over_$100", "$\\frac{", "_hidden$^$"]


@pytest.mark.parametrize("classes", [ODD, ODD[:2]])
def test_dollar_signs_are_no_formula(tmp_path: Path, classes: list[str]):
    truth = np.array(classes * 4)
    scores = np.full((len(truth), len(classes)), 1 / len(classes))
    answers = Predictions(truth, truth[::-1], classes, scores)
    drawn = figures.draw(answers, pd.Series([2.0, 1.0], ["a_$5_$", ODD[0]], name="$x$ $"), tmp_path)
    assert set(drawn) >= {"confusion_matrix", "roc_curve", "feature_importance"}
    assert all(path.stat().st_size for path in drawn.values())
