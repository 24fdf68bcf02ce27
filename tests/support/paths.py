"""Where the repository is, and its data."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
POKEMON = ROOT / "data" / "pokemon.csv"
