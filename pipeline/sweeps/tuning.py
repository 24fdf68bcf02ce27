"""Tuning: Optuna proposes trials, and is told what they came to.

Hydra has a sweeper for Optuna, which wants Optuna 2; that one's database storage does not work with
the SQLAlchemy that MLflow wants, and without it no sweep could go on after an interruption.
"""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
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
Asked = optuna.Trial | FrozenTrial
ESTIMATOR = "model.params."


def tune(
    config: DictConfig,
    context: HydraContext,
    launcher: Launcher,
    arguments: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Run trials until the study has ``n_trials`` finished ones, or as many have failed.

    Args:
        config: the sweep's configuration.
        context: Hydra's loader of configurations, and its callbacks.
        launcher: runs the trials.
        arguments: the overrides of the command line; ranges and choices are searched.
        options: conf/hydra/sweeper/optuna.yaml.

    Raises:
        SystemExit: caused by a PipelineError: nothing to search, or the study can't be opened.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if config.main.explain:
            raise PipelineError(
                "main.explain can't say what a tuned sweep would run: Optuna goes by its results",
                "explain one run, or a grid",
            )
        loader, sweep = context.config_loader, sweep_among(context.callbacks)
        space, fixed = search_space(config, loader, arguments, options["params"] or {})
        study = open_study(config, options, sweep.id)
        batches = Batches(study, config, loader, launcher, fixed, sweep)
        if options["study_name"] is None:
            batches.run(_settle(study, sweep.run, space))
        number, wanted = len(study.trials), options["n_trials"]
        spare = wanted  # failures that others make up for; else it never ended where all fail
        while (missing := wanted - _count(study, TrialState.COMPLETE)) > 0 and spare > 0:
            size = min(missing, options["n_jobs"])
            spare -= batches.run({number + i: _ask(study, space) for i in range(size)})
            number += size
        sweep.missing = max(missing, 0)
    except PipelineError as error:
        raise SystemExit(1) from error  # past Hydra, which would tell it in its own way


@dataclass(frozen=True)
class Batches:
    """Runs trials that a study has proposed, and tells it what they came to."""

    study: optuna.Study
    config: DictConfig
    loader: ConfigLoader
    launcher: Launcher
    fixed: Sequence[str]
    sweep: Sweep

    def run(self, asked: Mapping[int, Asked]) -> int:
        """Run trials by their numbers in the sweep, adjacent ones at once; how many failed."""
        words = {number: self._words(one) for number, one in asked.items()}
        sound = [number for number in sorted(asked) if self._composes(number, words[number])]
        for number in asked.keys() - set(sound):
            _tell(self.study, asked[number].number, None)
        values: dict[int, float | None] = dict.fromkeys(asked)
        for _, group in groupby(enumerate(sound), lambda at: at[1] - at[0]):
            numbers = [number for _, number in group]
            launched = self.launcher.launch([words[number] for number in numbers], numbers[0])
            for number, returned in zip(numbers, launched, strict=True):
                values[number] = returned.return_value
                _tell(self.study, asked[number].number, values[number])
        return list(values.values()).count(None)

    def _words(self, asked: Asked) -> list[str]:
        given = (f"{key}={quoted(value)}" for key, value in asked.params.items())
        return [*self.fixed, *given]

    def _composes(self, number: int, words: list[str]) -> bool:
        """Whether a trial has a configuration; one without has failed, and ends no other."""
        try:
            self.loader.load_sweep_config(self.config, words)
        except (HydraException, OmegaConfBaseException) as error:
            self.sweep.refuse(self.config, number, words, explain(error))
            return False
        return True


def _count(study: optuna.Study, state: TrialState) -> int:
    return len(study.get_trials(deepcopy=False, states=[state]))


def _tell(study: optuna.Study, number: int, value: float | None) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    study.tell(number, value, state=state)


def _settle(study: optuna.Study, run: str, space: Space) -> dict[int, FrozenTrial]:
    """Tell a study of our own what became of trials that an interruption kept from it.

    Returns:
        Those that it cut off, by number: they are to be run again.
    """
    values = {one.number: one.value for one in sweep_record.trials_of(run) if one.is_done}
    cut_off = {}
    for one in study.get_trials(states=[TrialState.RUNNING]):
        if values.get(one.number) is None and one.params.keys() == space.keys():
            cut_off[one.number] = one
        else:  # finished, or cut off while it was proposed
            _tell(study, one.number, values.get(one.number))
    return cut_off


def _ask(study: optuna.Study, space: Space) -> optuna.Trial:
    try:
        return study.ask(space)
    except ValueError as error:
        raise PipelineError(
            f"study {study.study_name!r} was begun with other ranges: {error}",
            "give the same ranges, or another hydra.sweeper.study_name",
        ) from error


def open_study(config: DictConfig, options: Mapping[str, Any], sweep: str) -> optuna.Study:
    """The sweep's study, new or as an earlier start left it.

    Args:
        config: the sweep's configuration.
        options: conf/hydra/sweeper/optuna.yaml.
        sweep: the sweep's id.

    Raises:
        PipelineError: its storage can't be opened.
    """
    name = options["study_name"] or sweep
    smaller = lower_is_better(config.search.metric or "")
    try:
        storage = optuna.storages.get_storage(options["storage"])
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="minimize" if smaller else "maximize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError) as error:
        raise PipelineError(
            f"hydra.sweeper.storage can't be opened: {type(error).__name__}",
            "give a database address of SQLAlchemy's, such as sqlite:////folder/optuna.db, "
            "and install its driver",
        ) from error
    make = options["sampler"]
    seed = make.keywords.get("seed")
    # One that began at the same seed again would propose the first trials again.
    more = {} if seed is None else {"seed": seed + len(study.trials)}
    study.sampler = make(**more)
    return study


def search_space(
    config: DictConfig,
    loader: ConfigLoader,
    arguments: Sequence[str],
    params: Mapping[str, str],
) -> tuple[Space, list[str]]:
    """What is searched, by key, and the overrides that all trials have.

    Ranges come from ``search.space``, from ``hydra.sweeper.params`` and from the command line, each
    going over the one before it.

    Raises:
        PipelineError: there is nothing to search, or a parameter that the estimator lacks.
    """
    parser = OverridesParser.create(config_loader=loader)
    typed = parser.parse_overrides(list(arguments))
    other_model = any(o.key_or_group == "model" and o.is_sweep_override() for o in typed)
    own = {} if other_model else {f"{ESTIMATOR}{k}": v for k, v in config.search.space.items()}
    given = parser.parse_overrides([f"{key}={value}" for key, value in {**own, **params}.items()])
    overrides = {override.get_key_element(): override for override in (*given, *typed)}
    space = {k: distribution(k, o) for k, o in overrides.items() if o.is_sweep_override()}
    if not space:
        raise PipelineError(
            "there is nothing to search",
            "give ranges in search.space, or here: model.params.max_depth='range(2, 10)'",
        )
    if not other_model:
        keys = (key.lstrip("+") for key in space)
        _check_parameters(config.model, [key for key in keys if key.startswith(ESTIMATOR)])
    return space, [override.input_line for key, override in overrides.items() if key not in space]


def _check_parameters(model: DictConfig, keys: Sequence[str]) -> None:
    """Refuse a parameter that the estimator lacks, before any trial is run."""
    module, _, name = tasks.estimator_path(model.estimator, model.task).rpartition(".")
    if module.partition(".")[0] not in model.allowed:
        return  # the training step says so
    try:
        estimator = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return  # this too
    accepted = inspect.signature(estimator).parameters
    if any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
        return  # it takes any
    known = list(accepted)
    for key in (key.removeprefix(ESTIMATOR) for key in keys):
        if key.partition(".")[0] not in known:
            raise PipelineError(
                f"the search space names {ESTIMATOR}{key}, and {name} has no parameter {key!r}"
                f"{did_you_mean(key, known)}",
                f"its parameters are: {', '.join(known)}",
            )


def distribution(key: str, override: Override) -> BaseDistribution:
    """The range or the choice that an override spans, in Hydra's own words.

    ``range(1, 10, step=3)`` ends before 10, as it does in a grid; ``interval(0.1, 1)`` holds both
    its ends, and is searched in steps that grow where it is tagged ``log``.

    Raises:
        PipelineError: there is nothing in it, or no logarithm of its lower end.
    """
    try:
        return _spanned(override)
    except ValueError as error:
        raise PipelineError(
            f"{key}={override.get_value_string()} can't be searched: {error}",
            "give the lower end first, and above 0 where it is tagged log: interval(0.01,10)",
        ) from error


def _spanned(override: Override) -> BaseDistribution:
    value = override.value()
    if override.is_interval_sweep():
        log, (low, high) = "log" in value.tags, (value.start, value.end)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if override.is_range_sweep() and not value.shuffle:
        steps = [*override.sweep_iterator(transformer=Transformer.identity)]
        if not steps:
            raise ValueError("it is empty")
        kind = IntDistribution if isinstance(steps[0], int) else FloatDistribution
        return kind(steps[0], steps[-1], step=abs(value.step))
    chosen = override.sweep_iterator(transformer=Transformer.identity)
    return CategoricalDistribution([getattr(one, "text", one) for one in chosen])
