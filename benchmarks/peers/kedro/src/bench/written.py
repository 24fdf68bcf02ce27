"""A Kedro data set for a file that the node itself has written."""

from pathlib import Path

from kedro.io import AbstractDataset


class Written(AbstractDataset):
    """A file, passed between nodes by its path."""

    def __init__(self, filepath: str):
        self._path = Path(filepath)

    def load(self) -> Path:
        return self._path

    def save(self, data: Path) -> None:
        if not self._exists():
            raise FileNotFoundError(data)

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict:
        return {"filepath": str(self._path)}
