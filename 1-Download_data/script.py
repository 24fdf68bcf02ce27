"""Download a data set and log it, unchanged, as a raw-data artifact."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
from pipeline.core.files import content_digest
from pipeline.core.security import secrets
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.sources import errors, fetching

DEFAULT_URL = (
    "https://gist.githubusercontent.com/armgilles/194bcff35001e7eb53a2a8b441e8b2c6"
    "/raw/92200bc0a673d5ce2110aaad4544ed6c4010f687/pokemon.csv"
)
SNAPSHOT = ROOT / "data" / "pokemon.csv"  # the same data, for a machine without a network


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Download, check and log the data set."""
    target = run.folder / args.artifact_name
    source = "address"
    try:
        limits = args.max_bytes, args.timeout, args.retries
        version = fetching.fetch(args.file_url, target, *limits, args.query)
    except errors.Unreachable as error:
        if args.file_url != DEFAULT_URL:
            raise
        say(error.what, file=sys.stderr)
        run.warn(
            f"the default data set's address can't be reached; using {SNAPSHOT.name} "
            "from the repository (embedded snapshot)"
        )
        target.write_bytes(SNAPSHOT.read_bytes())
        source = "embedded snapshot"
        version = {"standin": source}
    fetching.check(target, args.file_url, args.sha256)
    size = sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
    metadata = {"file_url": args.file_url, "source": source, "bytes": size}
    if query := version.pop("asked", None):
        time = datetime.now(UTC).isoformat(timespec="seconds")
        metadata |= {"source": "query", "query": query, "asked_at": time}
        version["query"] = secrets.hide(args.query)
    version |= {"digest": content_digest(target), "bytes": size}
    run.used_source(args.file_url, sha256=args.sha256, **version)
    run.log_artifact(
        target,
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
        metadata=metadata,
    )
    run.log({"bytes": size})


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--file_url", required=True, help="address of the data set")
    parser.add_argument("--artifact_name", required=True, help="name of the artifact to log")
    parser.add_argument("--artifact_type", required=True, help="its type, such as raw_data")
    parser.add_argument("--artifact_description", required=True, help="a sentence about it")
    parser.add_argument("--query", type=steps.optional, default="", help="SQL for a database")
    parser.add_argument("--sha256", type=steps.optional, default="", help="required checksum")
    parser.add_argument("--max_bytes", type=int, default=10**9, help="largest size accepted")
    parser.add_argument("--timeout", type=float, default=30, help="seconds to wait for data")
    parser.add_argument("--retries", type=int, default=3, help="retries after a failure")
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
