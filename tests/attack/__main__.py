"""``python -m tests.attack --seed 7``: attacks from outside; status 1 if one succeeds."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.attack import changes, crowd, kills
from tests.support.runs import Checkout


def changed(folder: Path) -> Iterator[str]:
    """Every change."""
    place = changes.make(folder)
    for change in changes.changes():
        yield changes.attempt(place, change)


def killed(folder: Path, draw: random.Random, count: int) -> Iterator[str]:
    """The kills at named points and at drawn moments, each on the state that the last one left."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    expected = kills.digests(Checkout(folder / "expected", shares_workers=False))
    longest = 10.0
    with (
        tempfile.TemporaryDirectory(prefix="ray") as short,
        kills.machine(folder / "servers", Path(short)) as machine,
    ):
        for number in range(count):
            kill = kills.NAMED[number] if number < len(kills.NAMED) else kills.drawn(draw)
            if kill.form == "ray":
                home = folder / f"ray-{number}"
                checkout = kills.OnRay(home, temporary=temporary, machine=machine, number=number)
            else:
                checkout = kills.Watched(folder / f"home-{number // 12}", temporary=temporary)
            wait = 0.0 if kill.point in kills.POINTS else draw.uniform(0.05, 1) * longest
            hit, wrong = kills.attempt(checkout, kill, draw, expected, wait)
            longest *= 1.1 if hit else 0.7
            yield "\n".join(wrong)


def main() -> int:
    """Attack, and say what succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="of crowds")
    args = parser.parse_args()
    draw, wrong = random.Random(args.seed), 0
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        parts = {
            "changes": changed(folder / "changes"),
            "kills": killed(folder / "kills", draw, args.kills),
            "crowds": (crowd.attempt(folder / f"crowd {n}", draw) for n in range(args.rounds)),
        }
        for part, outcomes in parts.items():
            count = 0
            for count, told in enumerate(outcomes, 1):
                wrong += bool(told)
                print(f"{part} {count}: {told or 'as it should be'}", flush=True)
    print(f"{wrong} of the attacks succeeded")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
