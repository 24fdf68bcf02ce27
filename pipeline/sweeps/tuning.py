"""Tuning: Optuna proposes trials and gets their objectives.

Hydra's own sweeper requires Optuna 2, whose database storage does not work with the SQLAlchemy that
MLflow requires. Without that storage an interrupted sweep could not be resumed.
"""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config.entry import explain
from pipeline.config.overrides import quoted
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.metrics import lower_is_better
from pipeline.science import tasks
from pipeline.sweeps import record as sweep_record
from pipeline.sweeps.callback import Sweep, sweep_among

Space = dict[str, BaseDistribution]
Proposal = optuna.Trial | FrozenTrial
ESTIMATOR = "model.params."


def tune(
    config: DictConfig,
    context: HydraContext,
    launcher: Launcher,
    arguments: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Run trials until ``n_trials`` have finished or ``n_trials`` have failed.

    Args:
        config: the sweep's configuration.
        context: Hydra's configuration loader and callbacks.
        launcher: runs the trials.
        arguments: the overrides of the command line; ranges and choices are searched.
        options: the settings of conf/hydra/sweeper/optuna.yaml.

    Raises:
        SystemExit: There is nothing to search, or the study can't be opened; the cause is a
            PipelineError.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if config.main.explain:
            raise PipelineError(
                "main.explain can't list the trials of a tuned sweep: Optuna chooses each by the "
                "results of those before it",
                "explain a single run or a grid",
            )
        loader, sweep = context.config_loader, sweep_among(context.callbacks)
        space, fixed = search_space(config, loader, arguments, options["params"] or {})
        study = open_study(config, options, sweep.id)
        batches = Batches(study, config, loader, launcher, fixed, sweep)
        if options["study_name"] is None:
            batches.run(_settle(study, sweep.run, space))
        number, n_trials = len(study.trials), options["n_trials"]
        failures_left = n_trials  # else the sweep would never end if all trials fail
        while (missing := n_trials - _count(study, TrialState.COMPLETE)) > 0 and failures_left > 0:
            size = min(missing, options["n_jobs"])
            failures_left -= batches.run({number + i: _ask(study, space) for i in range(size)})
            number += size
        sweep.missing = max(missing, 0)
    except PipelineError as error:
        raise SystemExit(1) from error  # Hydra would print other errors in its own format


@dataclass(frozen=True)
class Batches:
    """Runs trials that a study proposed, and tells the study their objectives."""

    study: optuna.Study
    config: DictConfig
    loader: ConfigLoader
    launcher: Launcher
    fixed: Sequence[str]
    sweep: Sweep

    def run(self, proposals: Mapping[int, Proposal]) -> int:
        """Run proposals by trial number, adjacent numbers together; return how many failed."""
        overrides = {number: self._overrides(proposal) for number, proposal in proposals.items()}
        numbers = sorted(proposals)
        valid = [number for number in numbers if self._composes(number, overrides[number])]
        for number in proposals.keys() - set(valid):
            _tell(self.study, proposals[number].number, None)
        values: dict[int, float | None] = dict.fromkeys(proposals)
        for _, group in groupby(enumerate(valid), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in group]
            launched = self.launcher.launch([overrides[number] for number in numbers], numbers[0])
            for number, returned in zip(numbers, launched, strict=True):
                values[number] = returned.return_value
                _tell(self.study, proposals[number].number, values[number])
        return list(values.values()).count(None)

    def _overrides(self, proposal: Proposal) -> list[str]:
        proposed = (f"{key}={quoted(value)}" for key, value in proposal.params.items())
        return [*self.fixed, *proposed]

    def _composes(self, number: int, overrides: list[str]) -> bool:
        """Whether Hydra can compose a trial's configuration; if not, record it as failed."""
        try:
            self.loader.load_sweep_config(self.config, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            self.sweep.refuse(self.config, number, overrides, explain(error))
            return False
        return True


def _count(study: optuna.Study, state: TrialState) -> int:
    return len(study.get_trials(deepcopy=False, states=[state]))


def _tell(study: optuna.Study, number: int, value: float | None) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    study.tell(number, value, state=state)


def _settle(study: optuna.Study, run: str, space: Space) -> dict[int, FrozenTrial]:
    """Tell a study the objectives that an interruption of this sweep kept from it.

    Returns:
        The interrupted trials by number; they must run again.
    """
    values = {trial.number: trial.value for trial in sweep_record.trials_of(run) if trial.is_done}
    interrupted = {}
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if values.get(trial.number) is None and trial.params.keys() == space.keys():
            interrupted[trial.number] = trial
        else:  # finished, or interrupted before all parameters were proposed
            _tell(study, trial.number, values.get(trial.number))
    return interrupted


def _ask(study: optuna.Study, space: Space) -> optuna.Trial:
    try:
        return study.ask(space)
    except ValueError as error:
        raise PipelineError(
            f"study {study.study_name!r} was started with other ranges: {error}",
            "use the same ranges, or another hydra.sweeper.study_name",
        ) from error


def open_study(config: DictConfig, options: Mapping[str, Any], sweep: str) -> optuna.Study:
    """Create the sweep's study, or load that of an earlier start.

    Args:
        config: the sweep's configuration.
        options: the settings of conf/hydra/sweeper/optuna.yaml.
        sweep: the sweep's id.

    Raises:
        PipelineError: The storage can't be opened.
    """
    name = options["study_name"] or sweep
    minimized = lower_is_better(config.search.metric or "")
    try:
        storage = optuna.storages.get_storage(options["storage"])
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="minimize" if minimized else "maximize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError) as error:
        raise PipelineError(
            f"hydra.sweeper.storage can't be opened: {type(error).__name__}",
            "use a database URL of SQLAlchemy, such as sqlite:////folder/optuna.db, "
            "and install its driver",
        ) from error
    seed = options["sampler"].get("seed")
    # A resumed sampler with the same seed would propose the first trials again.
    seed_argument = {} if seed is None else {"seed": seed + len(study.trials)}
    study.sampler = instantiate(options["sampler"], **seed_argument)
    return study


def search_space(
    config: DictConfig,
    loader: ConfigLoader,
    arguments: Sequence[str],
    params: Mapping[str, str],
) -> tuple[Space, list[str]]:
    """The searched distributions by key, and the overrides that all trials share.

    Ranges come from ``search.space``, ``hydra.sweeper.params`` and the command line; later sources
    override earlier ones.

    Raises:
        PipelineError: There is nothing to search, or the estimator lacks a parameter.
    """
    parser = OverridesParser.create(config_loader=loader)
    command_line = parser.parse_overrides(list(arguments))
    models_vary = any(o.key_or_group == "model" and o.is_sweep_override() for o in command_line)
    ranges = {} if models_vary else {f"{ESTIMATOR}{k}": v for k, v in config.search.space.items()}
    ranges |= params
    configured = parser.parse_overrides([f"{key}={value}" for key, value in ranges.items()])
    overrides = {override.get_key_element(): override for override in (*configured, *command_line)}
    space = {
        key: distribution(key, override)
        for key, override in overrides.items()
        if override.is_sweep_override()
    }
    if not space:
        raise PipelineError(
            "there is nothing to search",
            "give ranges in search.space, or here: model.params.max_depth='range(2, 10)'",
        )
    if not models_vary:
        keys = (key.lstrip("+") for key in space)
        _check_parameters(config.model, [key for key in keys if key.startswith(ESTIMATOR)])
    return space, [o.input_line or "" for key, o in overrides.items() if key not in space]


def _check_parameters(model: DictConfig, keys: Sequence[str]) -> None:
    """Check that the estimator has the searched parameters, before any trial runs."""
    module, _, name = tasks.estimator_path(model.estimator, model.task).rpartition(".")
    if module.partition(".")[0] not in model.allowed:
        return  # the training step raises the error
    try:
        estimator = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return  # likewise
    accepted = inspect.signature(estimator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return  # the estimator accepts any parameter
    names = list(accepted)
    for key in (key.removeprefix(ESTIMATOR) for key in keys):
        if key.partition(".")[0] not in names:
            raise PipelineError(
                f"the search space names {ESTIMATOR}{key}, and {name} has no parameter {key!r}"
                f"{did_you_mean(key, names)}",
                f"its parameters are: {', '.join(names)}",
            )


def distribution(key: str, override: Override) -> BaseDistribution:
    """The Optuna distribution of a Hydra range, interval or choice.

    ``range(1, 10, step=3)`` excludes 10, as in a grid. ``interval(0.1, 1)`` includes both ends;
    with the tag ``log`` it is searched on a logarithmic scale.

    Raises:
        PipelineError: The range is empty, or the lower end of a ``log`` interval is not positive.
    """
    try:
        return _distribution(override)
    except ValueError as error:
        raise PipelineError(
            f"{key}={override.get_value_string()} can't be searched: {error}",
            "give the lower end first, and above 0 with the tag log: interval(0.01,10)",
        ) from error


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        log, low, high = "log" in value.tags, cast(float, value.start), cast(float, value.end)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        steps = [*override.sweep_iterator(transformer=Transformer.identity)]
        if not steps:
            raise ValueError("it is empty")
        kind: Any = IntDistribution if isinstance(steps[0], int) else FloatDistribution
        return kind(steps[0], steps[-1], step=abs(value.step))
    values = override.sweep_iterator(transformer=Transformer.identity)
    choices: list[Any] = [getattr(value, "text", value) for value in values]
    return CategoricalDistribution(choices)
