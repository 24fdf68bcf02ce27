"""Derive ``data/pokemon.csv`` from the Pokédex tables of the MIT-licensed package poke-env.

The snapshot is a table of facts: 800 rows, generations 1 to 6, Mega formes included.
The file is already in the repository; this script documents its origin and rebuilds it::

    pip install --no-deps poke-env==0.16.1
    python tools/make_pokemon.py
"""

import csv
import hashlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "data"
POKEDEX = "data/static/pokedex/gen6pokedex.json"
POKEDEX_SHA256 = "2347748f5b17b7ec47c0781b64b696a8e259a168e522a88ce5437b51a6eafc91"
CSV_SHA256 = "02eabc49d3c70bc1e150891bdb9acb254910adfdfc12a6020c7b7117b2eca32f"

HEADER = ["#", "Name", "Type 1", "Type 2", "Total", "HP", "Attack", "Defense"]
HEADER += ["Sp. Atk", "Sp. Def", "Speed", "Generation", "Legendary"]
STATS = ["hp", "atk", "def", "spa", "spd", "spe"]
LAST_OF_GENERATION = [151, 251, 386, 493, 649, 721]

# Species whose base row is replaced by rows of its formes: (suffix of the name, key in the table).
FORMES = {
    "deoxys": [
        ("Normal Forme", "deoxys"),
        ("Attack Forme", "deoxysattack"),
        ("Defense Forme", "deoxysdefense"),
        ("Speed Forme", "deoxysspeed"),
    ],
    "wormadam": [
        ("Plant Cloak", "wormadam"),
        ("Sandy Cloak", "wormadamsandy"),
        ("Trash Cloak", "wormadamtrash"),
    ],
    "rotom": [
        ("", "rotom"),
        ("Heat Rotom", "rotomheat"),
        ("Wash Rotom", "rotomwash"),
        ("Frost Rotom", "rotomfrost"),
        ("Fan Rotom", "rotomfan"),
        ("Mow Rotom", "rotommow"),
    ],
    "giratina": [("Altered Forme", "giratina"), ("Origin Forme", "giratinaorigin")],
    "shaymin": [("Land Forme", "shaymin"), ("Sky Forme", "shayminsky")],
    "darmanitan": [("Standard Mode", "darmanitan"), ("Zen Mode", "darmanitanzen")],
    "kyurem": [
        ("", "kyurem"),
        ("Black Kyurem", "kyuremblack"),
        ("White Kyurem", "kyuremwhite"),
    ],
    "keldeo": [("Ordinary Forme", "keldeo"), ("Resolute Forme", "keldeoresolute")],
    "meloetta": [("Aria Forme", "meloetta"), ("Pirouette Forme", "meloettapirouette")],
    "meowstic": [("Male", "meowstic"), ("Female", "meowsticf")],
    "aegislash": [("Blade Forme", "aegislashblade"), ("Shield Forme", "aegislash")],
    "zygarde": [("50% Forme", "zygarde")],
    "hoopa": [("Hoopa Confined", "hoopa"), ("Hoopa Unbound", "hoopaunbound")],
}
for _species in ("tornadus", "thundurus", "landorus"):
    FORMES[_species] = [
        ("Incarnate Forme", _species),
        ("Therian Forme", f"{_species}therian"),
    ]
for _species in ("pumpkaboo", "gourgeist"):
    FORMES[_species] = [("Average Size", _species)] + [
        (f"{size} Size", f"{_species}{size.lower()}") for size in ("Small", "Large", "Super")
    ]

# Battle formes in the order in which they follow their base row, with the format of their names.
MEGAS = {
    "Mega": "Mega {}",
    "Mega-X": "Mega {} X",
    "Mega-Y": "Mega {} Y",
    "Primal": "Primal {}",
}
NAMES = {29: "Nidoran♀", 32: "Nidoran♂", 83: "Farfetch'd", 250: "Ho-oh", 669: "Flabébé"}
LEGENDARY_TAGS = {"Sub-Legendary", "Restricted Legendary", "Mythical"}
NOT_LEGENDARY = {151, 251, 488, 489, 490, 647, 648, 649}


def row(entry: dict, name: str, base: dict) -> list:
    """One row of the table: types and stats of ``entry``, number and tags of its species."""
    number, stats = base["num"], [entry["baseStats"][stat] for stat in STATS]
    second_type = entry["types"][1] if len(entry["types"]) > 1 else ""
    generation = 1 + sum(number > last for last in LAST_OF_GENERATION)
    tagged = bool(LEGENDARY_TAGS & set(base.get("tags", [])))
    legendary = tagged and number not in NOT_LEGENDARY
    types = [entry["types"][0], second_type]
    return [number, name, *types, sum(stats), *stats, generation, legendary]


def table(pokedex: dict[str, dict[str, Any]]) -> list[list]:
    """All 800 rows by number; each species is followed by its formes."""
    species = {
        key: entry
        for key, entry in pokedex.items()
        if 1 <= entry.get("num", 0) <= 721 and "baseSpecies" not in entry and "forme" not in entry
    }
    megas = [
        entry for entry in pokedex.values() if entry.get("forme") in MEGAS and "gen" not in entry
    ]
    rows = []
    for key, base in sorted(species.items(), key=lambda item: item[1]["num"]):
        name = NAMES.get(base["num"]) or base["name"]
        for suffix, forme in FORMES.get(key, [("", key)]):
            rows.append(row(pokedex[forme], name + suffix, base))
        own_megas = [mega for mega in megas if mega["baseSpecies"] == base["name"]]
        own_megas.sort(key=lambda mega: list(MEGAS).index(mega["forme"]))
        rows += [row(mega, name + MEGAS[mega["forme"]].format(name), base) for mega in own_megas]
    return rows


def main() -> None:
    """Write the snapshot from the installed poke-env; both checksums must match."""
    package = importlib.util.find_spec("poke_env")
    if package is None or package.origin is None:
        raise SystemExit("poke-env is not installed: pip install --no-deps poke-env==0.16.1")
    source = (Path(package.origin).parent / POKEDEX).read_bytes()
    if hashlib.sha256(source).hexdigest() != POKEDEX_SHA256:
        raise SystemExit(f"{POKEDEX} differs from poke-env 0.16.1's")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *table(json.loads(source))])
    data = text.getvalue().encode()
    if hashlib.sha256(data).hexdigest() != CSV_SHA256:
        raise SystemExit("the checksum of the derived table differs from CSV_SHA256")
    (DATA / "pokemon.csv").write_bytes(data)


if __name__ == "__main__":
    main()
