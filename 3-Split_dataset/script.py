"""Split a table into a training and a test part, and log both as split-data artifacts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import startup

startup.begin(__name__)  # before the imports that take long


import pandas as pd
from sklearn.model_selection import train_test_split

from pipeline import step
from pipeline.errors import PipelineError, did_you_mean
from pipeline.tables import read_cells, write_table


def split(
    table: pd.DataFrame, test_size: float, random_state: int, stratify: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part a table's rows in two, each part in the table's own order.

    Args:
        table: the whole.
        test_size: the test part's share of the rows, between 0 and 1.
        random_state: seed of the draw.
        stratify: a column whose classes keep their shares in both parts, or None.

    Returns:
        The training and the test part; no row is in both, and together they are the whole.

    Raises:
        PipelineError: a share that leaves a part empty, or a column that can't be kept in
            proportion.
    """
    if not 0 < test_size < 1:
        raise PipelineError(f"split.test_size={test_size} is not between 0 and 1", "use 0.2, say")
    try:
        train, test = train_test_split(
            pd.RangeIndex(len(table)),
            test_size=test_size,
            random_state=random_state,
            stratify=None if stratify is None else classes(table, stratify),
        )
    except ValueError as error:  # a part too small for its classes, or empty
        raise PipelineError(
            f"split.test_size={test_size} of {len(table)} rows can't be drawn: {error}",
            "use a share that leaves each part at least one row of each class",
        ) from error
    return table.iloc[train.sort_values()], table.iloc[test.sort_values()]


def classes(table: pd.DataFrame, stratify: str) -> pd.Series:
    """Each row's class, as a number.

    Raises:
        PipelineError: there is no such column, or it can't be split in proportion.
    """
    if stratify not in table:
        raise PipelineError(
            f"split.stratify names {stratify!r}, which the table lacks"
            f"{did_you_mean(stratify, table.columns)}",
            f"use one of {', '.join(table.columns)}, or split.stratify=null",
        )
    numbers, labels = pd.factorize(table[stratify], sort=True, use_na_sentinel=False)
    numbers = pd.Series(numbers)
    single = [str(labels[number]) for number, n in numbers.value_counts().items() if n == 1]
    if single:
        raise PipelineError(
            f"split.stratify={stratify!r}: {len(single)} of {len(labels)} classes have a single "
            f"member, which can't be in both parts: {', '.join(map(repr, single[:5]))}",
            "use split.stratify=null, or a column whose classes all have two rows or more",
        )
    return numbers


def go(args, run: step.StepRun) -> None:
    """Read the table, split it, and log the two parts; no cell is changed on the way."""
    if args.train_artifact_name == args.test_artifact_name:
        raise PipelineError(
            f"both parts are named {args.test_artifact_name!r}", "give each its own artifact_name"
        )
    table = read_cells(run.use(args.input_artifact).file)
    train, test = split(table, args.test_size, args.random_state, args.stratify)
    parts = {args.train_artifact_name: train, args.test_artifact_name: test}
    for name, part in parts.items():
        run.log_artifact(
            write_table(part, run.folder / name),
            name=name,
            type=args.artifact_type,
            description=args.artifact_description,
            metadata={
                "rows": len(part),
                "test_size": args.test_size,
                "random_state": args.random_state,
                "stratify": args.stratify,
            },
        )
    run.log_metrics({"train_rows": len(train), "test_rows": len(test)})


def arguments():
    """The step's parameters; MLproject has the same ones."""
    parser = step.parser(__doc__)
    parser.add_argument("--input_artifact", required=True, help="clean data, as name:version")
    parser.add_argument("--train_artifact_name", required=True, help="name of the training part")
    parser.add_argument("--test_artifact_name", required=True, help="name of the test part")
    parser.add_argument("--artifact_type", required=True, help="their type: split_data")
    parser.add_argument("--artifact_description", required=True, help="a sentence about them")
    parser.add_argument("--test_size", type=float, required=True, help="share of the test part")
    parser.add_argument("--random_state", type=int, default=42, help="seed of the draw")
    parser.add_argument("--stratify", type=step.optional, default="", help="column, or empty")
    return parser


if __name__ == "__main__":
    step.main(__file__, arguments(), go)
