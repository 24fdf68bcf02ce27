"""Write ``data/iris.csv`` from the copy of the iris data set that scikit-learn carries.

python tools/make_iris.py
"""

from pathlib import Path

from sklearn.datasets import load_iris

DATA = Path(__file__).resolve().parents[1] / "data"


def main() -> None:
    """150 rows: four lengths in centimetres and the species' name."""
    iris = load_iris(as_frame=True)
    table = iris.data.assign(species=iris.target_names[iris.target])
    table.to_csv(DATA / "iris.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
