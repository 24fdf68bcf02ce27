"""A sweep's page says what was best, what failed and why, and has no figure without data."""

import re

import pytest

from pipeline.sweeps import page
from tests.support.sweep_pages import render, trial, twelve


def test_the_best_trial_has_its_commands():
    text = render(twelve(), {"depth": 0.7, "kind": 0.3})
    assert "Trial 3: val_f1 <strong>0.750</strong>" in text
    assert "<pre>python main.py model.params.depth=3</pre>" in text
    assert "promote --name=houses-price" in text
    assert "11 finished, 1 without a result" in text
    assert "0 to 1000000 (12 values)" in text
    for figure in ("Convergence", "Importance of hyperparameters", "Parallel coordinates"):
        assert figure in text
    assert len(text) < 300_000


def test_a_failed_trial_is_named_with_its_reason():
    text = render(twelve())
    assert re.search(
        r"<th>11</th><td>failed</td><td class=\"words\">&lt;b&gt;no&lt;/b&gt; memory</td>", text
    )
    assert "Importance of hyperparameters" not in text


@pytest.mark.parametrize("values", [[], [None], [None, None], [0.5], [0.5, None]])
def test_no_figure_is_drawn_without_data(values: list[float | None]):
    text = render([trial(number, value) for number, value in enumerate(values)])
    assert "<svg" not in text
    assert ("No trial has finished" in text) is all(value is None for value in values)


def test_equal_values_have_an_axis():
    assert "<svg" in render([trial(0, 0.5), trial(1, 0.5)])


@pytest.mark.parametrize(("minimize", "best"), [(False, [2, 2, 3]), (True, [2, 1, 1])])
def test_the_best_so_far(minimize: bool, best: list[float]):
    told = page.progress([trial(2, 3), trial(0, 2), trial(1, 1)], minimize)
    assert [value for _, value in told["best"]] == best
