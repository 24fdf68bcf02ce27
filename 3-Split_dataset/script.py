"""Split a table into a training and a test part, and log both as split-data artifacts."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
from pipeline.core.errors import PipelineError
from pipeline.science import splitting
from pipeline.science.data import defects, kinds, tables


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read the table, split it, and log both parts with unchanged cells."""
    if args.train_artifact_name == args.test_artifact_name:
        raise PipelineError(
            f"both parts are named {args.test_artifact_name!r}", "give each its own artifact_name"
        )
    clean = run.use_artifact(args.input_artifact)
    table, schema = tables.read_cells(clean.file()), kinds.read(clean.file(), clean.schema())
    if clean.schema() is None:
        run.note(f"{clean.reference} has no schema.json: the types of its columns are inferred")
    for key in ("stratify", "group", "time"):
        if column := getattr(args, key):
            setattr(args, key, *defects.resolve_columns([column], table.columns))
    method = splitting.choose_method(args.method, args.stratify, args.group, args.time)
    columns = {"stratified": args.stratify, "group": args.group, "time": args.time}
    train, test = splitting.split(
        table,
        args.test_size,
        args.random_state,
        args.stratify if method == "stratified" else None,
        splitting.split_column("group", table, args.group) if method == "group" else None,
        splitting.split_times(table, args.time, schema) if method == "time" else None,
    )
    schema["split"] = {"method": method, "column": columns.get(method)}
    if method in ("random", "stratified"):
        for line in splitting.random_split_warnings(table, schema):
            run.note(line, warning=True)
    if shared := splitting.shared_rows(train, test):
        run.note(
            f"{shared} of {len(test)} test rows are equal to a training row, which flatters the "
            "metrics where they are copies (etl.duplicates=drop drops them)",
            warning=True,
        )
    settings = {name: getattr(args, name) for name in ("test_size", "random_state", "stratify")}
    settings |= {method: columns[method]} if method in ("group", "time") else {}
    for name, part in {args.train_artifact_name: train, args.test_artifact_name: test}.items():
        run.log_artifact(
            kinds.write(part, schema, run.folder, name),
            name=name,
            type=args.artifact_type,
            description=args.artifact_description,
            metadata={"rows": len(part), **settings},
        )
    run.log({"train_rows": len(train), "test_rows": len(test)})


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--input_artifact", required=True, help="clean data, as name:version")
    parser.add_argument("--train_artifact_name", required=True, help="name of the training part")
    parser.add_argument("--test_artifact_name", required=True, help="name of the test part")
    parser.add_argument("--artifact_type", required=True, help="their type: split_data")
    parser.add_argument("--artifact_description", required=True, help="a sentence about them")
    parser.add_argument("--test_size", type=float, required=True, help="share of the test part")
    parser.add_argument("--random_state", type=int, default=42, help="seed of the draw")
    parser.add_argument("--stratify", type=steps.optional, default="", help="column, or empty")
    parser.add_argument("--method", default="auto", help="random, stratified, group or time")
    parser.add_argument("--group", type=steps.optional, default="", help="column, or empty")
    parser.add_argument("--time", type=steps.optional, default="", help="column, or empty")
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
