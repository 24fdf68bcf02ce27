"""A sweep's page without a sweep."""

from omegaconf import OmegaConf

from pipeline.sweeps import page
from pipeline.sweeps.record import TrialRecord

CONFIG = OmegaConf.create(
    {
        "main": {"dataset": "houses", "experiment_name": "dev"},
        "model": {"name": "houses-price"},
        "search": {"refit": False},
    }
)
KEYS = {"model.params.depth": "depth", "model.params.kind": "kind", "etl.fill[x]": "fill[x]"}


def trial(number: int, value: float | None, error: str = "", **parameters: str) -> TrialRecord:
    """A trial that has ended."""
    state = "FAILED" if value is None else "FINISHED"
    return TrialRecord(number, state, "run", parameters, value, {}, 1.5 * number, error)


def twelve() -> list[TrialRecord]:
    """Eleven trials with a value, and one that failed."""
    kinds = ["a", "b", "שלום", "x" * 500]
    done = []
    for number in range(11):
        given = {"model.params.depth": f"{number}00000", "model.params.kind": kinds[number % 4]}
        done.append(trial(number, 0.5 + (number * 7 % 11) / 40, **given, **{"etl.fill[x]": "1"}))
    return [*done, trial(11, None, "<b>no</b> memory\nand more", **{"model.params.depth": "9"})]


def render(trials: list[TrialRecord], importances: dict[str, float] | None = None) -> str:
    """The page of some trials, compared by val_f1."""
    best = sorted((one for one in trials if one.value is not None), key=lambda one: -one.value)
    again = "python main.py model.params.depth=3" if best else ""
    result = page.Result(trials, best, KEYS, "val_f1", False, again, importances or {})
    return page.render(result, CONFIG, "20260101-000000-abcdef")
