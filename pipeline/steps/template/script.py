"""List the largest files of an artifact, and log the list: put your own work in its place."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps


def contents(folder: Path, largest: int) -> dict[str, Any]:
    """How many files a folder has, and its largest ones with their bytes."""
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    return {"files": len(sizes), "largest": {name: sizes[name] for name in order[:largest]}}


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read the artifact, list its files, and log the list as an artifact."""
    listing = contents(run.use_artifact(args.input_artifact).download(), args.largest)
    path = run.folder / args.artifact_name
    path.write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    run.log_artifact(
        path,
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
    )
    run.log({"files": listing["files"]})


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--input_artifact", required=True, help="what is read, as name:version")
    parser.add_argument("--largest", type=int, default=5, help="how many files are listed")
    parser.add_argument("--artifact_name", default="SECTION.json", help="name of the list")
    parser.add_argument("--artifact_type", default="SECTION", help="its type")
    parser.add_argument(
        "--artifact_description", default="What STEP_NAME made", help="a sentence about it"
    )
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
