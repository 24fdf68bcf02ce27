"""A package of somebody else's with an estimator, to be trained if ``model.allowed`` names it."""

import sys
from pathlib import Path

import pytest

SOURCE = """
from sklearn.tree import DecisionTreeClassifier

class Notes(dict):
    pass

class Tree(DecisionTreeClassifier):
    def __init__(self, max_depth=None, random_state=None, colour="", **more):
        super().__init__(max_depth=max_depth, random_state=random_state)
        self.colour = colour or more.get("color", "")

    def fit(self, X, y):
        self.notes_ = b"some bytes"
        return super().fit(X, y)
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the package ``strange`` there, for this process to import."""
    (folder / "strange").mkdir(parents=True)
    (folder / "strange" / "__init__.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "strange", raising=False)


def install(folder: Path) -> None:
    """Let it be known as a distribution."""
    told = folder / "strange_trees-1.5.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-trees\nVersion: 1.5\n")
    (told / "top_level.txt").write_text("strange\n")
