"""Which steps there are, and which of them a run is to bring to their results."""

from typing import Any

from pipeline import ROOT
from pipeline.errors import PipelineError, did_you_mean

NOT_IN_SWEEPS = ("5-Report",)  # unless main.steps names it: nobody reads a report per trial


def step_folders() -> list[str]:
    """The steps, in order: folders that begin with a number and hold an MLproject."""
    folders = [path.parent.name for path in ROOT.glob("[0-9]*-*/MLproject")]
    return sorted(folders, key=lambda name: int(name.partition("-")[0]))


def chosen_steps(wanted: Any, sweep: bool = False) -> list[str]:
    """The steps that ``main.steps`` picks, in order.

    Args:
        wanted: ``all``, or names, which may be a step's folder (``2-ETL``), its number (``2``),
            or the beginning of what follows it (``etl``, ``split``, ``train``).
        sweep: whether this is a trial of a sweep, for which ``all`` leaves the report out.

    Raises:
        PipelineError: a name that no step has, or that several have.
    """
    folders = step_folders()
    if wanted == "all":
        return [folder for folder in folders if not (sweep and folder in NOT_IN_SWEEPS)]
    names = [wanted] if isinstance(wanted, str | int) else list(wanted)
    chosen = set()
    for name in map(str, names):
        text = name.lower()
        found = [
            folder
            for folder in folders
            if text
            and (
                text in (folder.lower(), folder.partition("-")[0])
                or folder.partition("-")[2].lower().startswith(text)
            )
        ]
        if len(found) != 1:
            raise PipelineError(
                f"main.steps names {name!r}, which is no step{did_you_mean(name, folders)}",
                f"the steps are: {', '.join(folders)}",
            )
        chosen.add(found[0])
    if not chosen:
        raise PipelineError("main.steps is empty", f"the steps are: {', '.join(folders)}")
    return [folder for folder in folders if folder in chosen]
