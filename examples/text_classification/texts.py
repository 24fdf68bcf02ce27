"""Write the data set to a file: 20newsgroups, or messages.json if that can't be downloaded.

python texts.py data/messages.json             # 20newsgroups, if scikit-learn can fetch it
python texts.py data/messages.json --shipped   # the small data set of this folder
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

SHIPPED = Path(__file__).with_name("messages.json")
GROUPS = ("rec.autos", "rec.sport.hockey", "sci.electronics", "sci.space")


def fetched() -> dict:
    """Four groups of 20newsgroups: the names, and the texts of both subsets."""
    from sklearn.datasets import fetch_20newsgroups

    content: dict = {}
    for subset in ("train", "test"):
        part = fetch_20newsgroups(subset=subset, categories=GROUPS, n_retries=1)
        content["target_names"] = list(part.target_names)
        content[subset] = {"data": part.data, "target": part.target.tolist()}
    return content


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--shipped", action="store_true", help="download nothing")
    args = parser.parse_args()
    args.target.parent.mkdir(parents=True, exist_ok=True)
    if not args.shipped:
        try:
            args.target.write_text(json.dumps(fetched()))
            return
        except OSError as error:
            print(
                f"20newsgroups can't be downloaded ({error}); using messages.json", file=sys.stderr
            )
    shutil.copyfile(SHIPPED, args.target)


if __name__ == "__main__":
    main()
