"""Write ``data/iris.csv`` from scikit-learn's copy of the iris data set.

python tools/make_iris.py
"""

from pathlib import Path

from sklearn.datasets import load_iris

DATA = Path(__file__).resolve().parents[1] / "data"


def main() -> None:
    """Write 150 rows: four lengths in centimetres and the name of the species."""
    iris = load_iris(as_frame=True)
    table = iris.data.assign(species=iris.target_names[iris.target])
    table.to_csv(DATA / "iris.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
