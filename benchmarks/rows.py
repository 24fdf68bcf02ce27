"""Makes a large data set by repeating rows with new numbers, names and stats."""

from pathlib import Path

import numpy as np
import pandas as pd

STATS = ["HP", "Attack", "Defense", "Sp. Atk", "Sp. Def", "Speed"]
LOWEST, HIGHEST = 1, 255  # of a stat, in the data set's schema
NUMBERS = 721
CHUNK = 1_000_000


def write(source: Path, rows: int, target: Path) -> None:
    """Repeat the rows of ``source`` up to ``rows`` in ``target``, unless ``target`` exists.

    Each repetition has another number and a unique name, and seeded noise on its stats.
    """
    if target.exists():
        return
    snapshot = pd.read_csv(source, keep_default_na=False)
    random = np.random.default_rng(42)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    for start in range(0, rows, CHUNK):
        indices = np.arange(start, min(start + CHUNK, rows))
        table = snapshot.iloc[indices % len(snapshot)].reset_index(drop=True)
        table["#"] = random.integers(1, NUMBERS, len(table), endpoint=True)
        table["Name"] = [f"{name} {i}" for name, i in zip(table["Name"], indices, strict=True)]
        noise = random.integers(-5, 5, (len(table), len(STATS)), endpoint=True)
        table[STATS] = np.clip(table[STATS] + noise, LOWEST, HIGHEST)
        table["Total"] = table[STATS].sum(axis=1)
        table.to_csv(partial, mode="a", header=not start, index=False, lineterminator="\n")
    partial.rename(target)
