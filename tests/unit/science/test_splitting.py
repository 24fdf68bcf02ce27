"""Splitting a table: two parts that share no row, are the whole together, and keep proportions."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.science import splitting
from pipeline.science.data import kinds
from tests.support.paths import POKEMON

split = splitting.split

sizes = st.floats(0.3, 0.7)
seeds = st.integers(0, 2**32 - 1)
labels = st.sampled_from(["a", "b", None]) | st.booleans()


def refusal(*arguments) -> str:
    """What a split that has to fail says."""
    with pytest.raises(PipelineError) as caught:
        split(*arguments)
    assert caught.value.remedy
    return str(caught.value)


def assert_partition(table: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """No shared row, together the whole, each part in the whole's own order and not empty."""
    assert not set(train.index) & set(test.index)
    assert pd.concat([train, test]).sort_index().equals(table)
    assert train.index.is_monotonic_increasing
    assert test.index.is_monotonic_increasing
    assert len(train)
    assert len(test)


@given(st.integers(12, 60), st.floats(0.1, 0.9), seeds)
def test_a_split_is_a_partition(rows: int, test_size: float, seed: int) -> None:
    table = pd.DataFrame({"x": range(rows), "same": 1})
    train, test = split(table, test_size, seed, None)
    assert_partition(table, train, test)
    assert abs(len(test) - test_size * rows) < 1


@given(st.lists(labels, min_size=1, max_size=25), sizes, seeds)
def test_classes_keep_their_shares_within_one_row(classes, test_size: float, seed: int) -> None:
    table = pd.DataFrame({"class": pd.Series(classes * 4, dtype=object)})
    train, test = split(table, test_size, seed, "class")
    assert_partition(table, train, test)
    whole = table["class"].value_counts(dropna=False)
    for part in (train, test):
        counts = part["class"].value_counts(dropna=False).reindex(whole.index, fill_value=0)
        assert ((counts - whole * len(part) / len(table)).abs() <= 1).all()


@given(seeds)
def test_the_seed_decides(seed: int) -> None:
    table = pd.DataFrame({"x": range(50), "class": ["a", "b"] * 25})
    for column in (None, "class"):
        first, again = (split(table, 0.3, seed, column)[1] for _ in range(2))
        assert first.equals(again)
        assert not first.equals(split(table, 0.3, (seed + 1) % 2**32, column)[1])


def test_pokemon() -> None:
    table = pd.read_csv(POKEMON)
    train, test = split(table, 0.2, 42, "Legendary")
    assert_partition(table, train, test)
    assert len(test) == 160
    assert test["Legendary"].sum() == 13


@pytest.mark.parametrize("test_size", [0, 1, -0.2, 1.5, float("nan"), float("inf")])
def test_sizes_outside_of_0_and_1(test_size: float) -> None:
    told = refusal(pd.DataFrame({"x": range(9)}), test_size, 1, None)
    assert f"split.test_size={test_size} is not between 0 and 1" in told


def test_columns_that_cannot_be_kept_in_proportion() -> None:
    table = pd.DataFrame({"kind": ["a", "a", "a", "b"], "id": range(4)})
    told = refusal(table, 0.5, 1, "kind")
    assert "1 of 2 classes have a single member" in told
    assert "'b'" in told
    assert "split.stratify=null" in told
    assert "4 of 4 classes" in refusal(table, 0.5, 1, "id")
    told = refusal(table, 0.5, 1, "kindd")
    assert "'kindd'" in told
    assert "did you mean 'kind'?" in told
    assert "kind, id" in told
    gap = pd.DataFrame({"kind": ["a", "a", "b", "b", None]})
    assert "1 of 3 classes" in refusal(gap, 0.5, 1, "kind")


@pytest.mark.parametrize(
    ("rows", "test_size", "stratify"), [(1, 0.5, None), (10, 0.1, "kind"), (10, 0.95, "kind")]
)
def test_parts_too_small(rows: int, test_size: float, stratify: str | None) -> None:
    table = pd.DataFrame({"kind": ["a", "b"] * 5}).head(rows)
    assert f"split.test_size={test_size} of {rows} rows" in refusal(table, test_size, 1, stratify)


def test_equal_rows_in_both_parts_are_counted() -> None:
    train = pd.DataFrame({"a": ["1", "2"], "b": ["x", "y"]})
    test = pd.DataFrame({"a": ["1", "1", "2"], "b": ["x", "x", "x"]})
    assert splitting.shared_rows(train, test) == 2


DAYS = pd.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d")


def test_a_group_is_in_one_part_only() -> None:
    table = pd.DataFrame({"customer": [f"c{n % 12}" for n in range(120)], "x": range(120)})
    train, test = split(table, 0.25, 1, None, group=table["customer"])
    assert_partition(table, train, test)
    assert not set(train["customer"]) & set(test["customer"])
    assert test["customer"].nunique() == 3


def test_the_test_part_is_what_comes_last() -> None:
    table = pd.DataFrame({"day": DAYS, "x": range(40)}).sample(frac=1, random_state=0)
    table = table.reset_index(drop=True)
    schema = {"columns": [{"column": "day", "format": "ISO8601"}]}
    train, test = split(table, 0.25, 1, None, time=splitting.split_times(table, "day", schema))
    assert_partition(table, train, test)
    assert len(test) == 10
    assert train["day"].max() < test["day"].min()
    steps = pd.Series([1, 1, 1, 2, 2, 2], name="step")  # rows of one moment stay together
    assert [len(part) for part in splitting.last_share(steps, 0.2)] == [3, 3]


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (("auto", None, None, None), "random"),
        (("auto", "y", None, None), "stratified"),
        (("auto", None, "c", None), "group"),
        (("auto", None, None, "t"), "time"),
        (("random", "y", None, None), "random"),
        (("group", "y", "c", None), "group"),
    ],
)
def test_the_method_is_set_or_follows_from_a_column(given: tuple, chosen: str) -> None:
    assert splitting.choose_method(*given) == chosen


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("groups", None, "c", None), "split.method='groups' (did you mean 'group'?)"),
        (("time", None, "c", None), "split.method=time needs a column"),
        (("auto", None, "c", "t"), "split has columns for several methods: group, time"),
    ],
)
def test_methods_that_cannot_be(given: tuple, said: str) -> None:
    with pytest.raises(PipelineError) as refused:
        splitting.choose_method(*given)
    assert said in str(refused.value)


def test_times_that_are_none() -> None:
    table = pd.DataFrame({"day": ["a", "b"], "n": ["1", ""]})
    schema = {"columns": []}
    with pytest.raises(PipelineError, match=r"split\.time='day' holds 'a', which is neither"):
        splitting.split_times(table, "day", schema)
    with pytest.raises(PipelineError, match=r"split\.time names 'dya'"):
        splitting.split_times(table, "dya", schema)
    with pytest.raises(PipelineError, match="1 rows without a time"):
        splitting.last_share(splitting.split_times(table, "n", schema), 0.5)
    with pytest.raises(PipelineError, match="the same in all rows"):
        splitting.last_share(pd.Series([1, 1], name="n"), 0.5)


def test_what_speaks_against_a_random_draw() -> None:
    table = pd.DataFrame({
        "day": [*DAYS] * 2, "customer_id": [f"c{n % 10}" for n in range(80)],
        "order_id": range(80), "type_1": ["a", "b"] * 40,
    })  # fmt: skip
    first, second = splitting.random_split_warnings(table, kinds.schema(table))
    assert first.startswith("day is a date")
    assert "split.method=time split.time=day" in first
    assert second.startswith("customer_id has 10 values in 80 rows")
    assert "split.method=group split.group=customer_id" in second
