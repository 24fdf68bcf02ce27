"""Clean a raw table, check it against its schema, and log it as a processed-data artifact."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
from pipeline.science.data import cleaning, defects, formats, headers, kinds, tables


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read the raw artifact, clean and check it, and log the result."""
    cleaning.check_rules(args.schema)
    args = argparse.Namespace(**tables.by_names(vars(args)))
    text_columns = cleaning.text_columns(args.schema)
    artifact = run.use_artifact(args.input_artifact)
    folder = artifact.download()
    table_path = folder if formats.is_parts(folder) else artifact.file()
    numbers = {"decimal": args.decimal, "thousands": args.thousands, "parse": args.parse}
    missing = [*args.usual_missing, *args.missing]
    unpacked = formats.unpack(table_path, run.folder / "unpacked", args.table)
    form = args.skip_lines, args.titles, args.sep, args.encoding
    source = formats.read(
        headers.with_titles(unpacked, run.folder / "titled", *form),
        missing=missing,
        usual_missing=args.usual_missing,
        text_columns=[*text_columns, *args.parse],
        as_text=args.decimal != "." or bool(args.thousands),
        sep=args.sep,
        encoding=args.encoding,
        part=args.table,
    )
    raw, repeated = defects.without_headers(source.table)
    ruled = [rule["column"] for rule in args.schema if "dtype" in rule]
    text_columns += [name for name in source.texts if name not in [*ruled, *args.parse]]
    for column in cleaning.lacking(args.fill, raw):
        run.warn(f"etl.fill names {column!r}, which the table lacks")
    table, dropped = cleaning.clean(
        raw,
        args.required,
        args.fill,
        text_columns,
        missing,
        duplicates=args.duplicates,
        numbers=numbers,
    )
    kinds.check_numbers(table, ruled, numbers)
    table = cleaning.validate(table, args.schema)
    doubts = [*defects.number_warnings(table), *defects.code_warnings(table, source.missing)]
    for line in [*repeated, *defects.text_warnings(table, args.fill.values()), *doubts]:
        run.note(line, warning=True)
    for line, warning in cleaning.dropped_rows(dropped, len(raw)):
        run.note(line, warning)
    notes = [*source.notes, *kinds.notes(table, ruled, source.missing)]
    for line in [*notes, *cleaning.equal_rows(table, dropped)]:
        run.note(line)
    counts = {"rows_before": len(raw), "rows_after": len(table), "columns": table.shape[1]}
    run.log_artifact(
        kinds.write(table, kinds.schema(table, args.schema), run.folder, args.artifact_name),
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
        metadata={**counts, "dropped": dropped},
    )
    run.log({**counts, **{f"dropped {reason}": rows for reason, rows in dropped.items()}})


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--input_artifact", required=True, help="raw data, as name:version")
    parser.add_argument("--artifact_name", required=True, help="name of the artifact to log")
    parser.add_argument("--artifact_type", required=True, help="its type: processed_data")
    parser.add_argument("--artifact_description", required=True, help="a sentence about it")
    parser.add_argument("--sep", type=steps.optional, default="", help="separator; default: comma")
    parser.add_argument("--encoding", type=steps.optional, default="", help="default: UTF-8")
    parser.add_argument("--skip_lines", type=int, default=0, help="lines above the titles")
    parser.add_argument("--titles", type=steps.json_list, default="[]", help="JSON list")
    parser.add_argument("--table", type=steps.optional, default="", help="sheet, or file in a zip")
    parser.add_argument("--missing", type=steps.json_list, default='[""]', help="JSON list")
    parser.add_argument("--usual_missing", type=steps.json_list, default='[""]', help="JSON list")
    parser.add_argument("--decimal", default=".", help="decimal sign: 12.5")
    parser.add_argument("--thousands", default="", help="thousands sign: 1,234; empty: none")
    parser.add_argument("--parse", type=steps.json_dict, default="{}", help="JSON: column to form")
    parser.add_argument("--duplicates", default="keep", help="keep or drop equal rows")
    parser.add_argument("--required", type=steps.json_names, default="", help="JSON list")
    parser.add_argument("--fill", type=steps.json_dict, default="{}", help="JSON: column to value")
    parser.add_argument("--schema", type=steps.json_list, default="[]", help="JSON list of rules")
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
