"""Tuning: Optuna proposes trials, and is told what they came to.

Hydra has a sweeper for Optuna, which wants Optuna 2; that one's database storage does not work with
the SQLAlchemy that MLflow wants, and without it no sweep could go on after an interruption.
"""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline import settings, sweep_record
from pipeline.command_line import quoted
from pipeline.errors import PipelineError, did_you_mean
from pipeline.history import lower_is_better

Space = dict[str, BaseDistribution]
ESTIMATOR = "model.params."


def tune(
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    arguments: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Run trials until the study has ``n_trials`` finished ones.

    Args:
        arguments: the overrides of the command line; ranges and choices are searched.
        options: conf/hydra/sweeper/optuna.yaml.

    Raises:
        SystemExit: caused by a PipelineError: nothing to search, or the study can't be opened.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        space, fixed = search_space(config, loader, arguments, options["params"] or {})
        study = open_study(config, options)
        if options["study_name"] is None:
            _settle(study, config.hydra.job.env_set[settings.SWEEP_RUN])
        number = len(study.trials)
        missing = options["n_trials"] - len(study.get_trials(states=[TrialState.COMPLETE]))
        while missing > 0:
            size = min(missing, options["n_jobs"])
            _run_batch(study, launcher, [_ask(study, space) for _ in range(size)], fixed, number)
            number, missing = number + size, missing - size
    except PipelineError as error:
        raise SystemExit(1) from error  # past Hydra, which would tell it in its own way


def _run_batch(
    study: optuna.Study,
    launcher: Launcher,
    asked: Sequence[optuna.Trial],
    fixed: Sequence[str],
    number: int,
) -> None:
    """Run proposed trials at once, and tell the study what they came to."""
    batch = [
        [*fixed, *(f"{key}={quoted(value)}" for key, value in one.params.items())] for one in asked
    ]
    for one, returned in zip(asked, launcher.launch(batch, number), strict=True):
        _tell(study, one, returned.return_value)


def _tell(study: optuna.Study, asked: optuna.Trial | int, value: float | None) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    study.tell(asked, value, state=state)


def _settle(study: optuna.Study, run: str) -> None:
    """Tell a study of our own what became of trials that an interruption kept from it."""
    values = {one.number: one.value for one in sweep_record.trials_of(run)}
    for open_one in study.get_trials(states=[TrialState.RUNNING]):
        _tell(study, open_one.number, values.get(open_one.number))


def _ask(study: optuna.Study, space: Space) -> optuna.Trial:
    try:
        return study.ask(space)
    except ValueError as error:
        raise PipelineError(
            f"study {study.study_name!r} was begun with other ranges: {error}",
            "give the same ranges, or another hydra.sweeper.study_name",
        ) from error


def open_study(config: DictConfig, options: Mapping[str, Any]) -> optuna.Study:
    """The sweep's study, new or as an earlier start left it.

    Raises:
        PipelineError: its storage can't be opened.
    """
    name = options["study_name"] or config.hydra.job.env_set[settings.SWEEP]
    smaller = lower_is_better(config.model.metric or "")
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

    Ranges come from ``model.space``, from ``hydra.sweeper.params`` and from the command line, each
    going over the one before it.

    Raises:
        PipelineError: there is nothing to search, or a parameter that the estimator lacks.
    """
    parser = OverridesParser.create(config_loader=loader)
    typed = parser.parse_overrides(list(arguments))
    other_model = any(o.key_or_group == "model" and o.is_sweep_override() for o in typed)
    own = {} if other_model else {f"{ESTIMATOR}{k}": v for k, v in config.model.space.items()}
    given = parser.parse_overrides([f"{key}={value}" for key, value in {**own, **params}.items()])
    overrides = {override.get_key_element(): override for override in (*given, *typed)}
    space = {key: distribution(o) for key, o in overrides.items() if o.is_sweep_override()}
    if not space:
        raise PipelineError(
            "there is nothing to search",
            "give ranges in model.space, or here: model.params.max_depth='range(2, 10)'",
        )
    if not other_model:
        keys = (key.lstrip("+") for key in space)
        _check_parameters(config.model, [key for key in keys if key.startswith(ESTIMATOR)])
    fixed = [f"{k}={o.get_value_element_as_str()}" for k, o in overrides.items() if k not in space]
    return space, fixed


def _check_parameters(model: DictConfig, keys: Sequence[str]) -> None:
    """Refuse a parameter that the estimator lacks, before any trial is run."""
    module, _, name = model.estimator.rpartition(".")
    if module.partition(".")[0] not in model.allowed:
        return  # the training step says so
    try:
        estimator = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return  # this too
    known = list(inspect.signature(estimator).parameters)
    for key in (key.removeprefix(ESTIMATOR) for key in keys):
        if key.partition(".")[0] not in known:
            raise PipelineError(
                f"the search space names {ESTIMATOR}{key}, and {name} has no parameter {key!r}"
                f"{did_you_mean(key, known)}",
                f"its parameters are: {', '.join(known)}",
            )


def distribution(override: Override) -> BaseDistribution:
    """The range or the choice that an override spans, in Hydra's own words.

    ``range(1, 10, step=3)`` ends before 10, as it does in a grid; ``interval(0.1, 1)`` holds both
    its ends, and is searched in steps that grow where it is tagged ``log``.
    """
    value = override.value()
    if override.is_interval_sweep():
        log, (low, high) = "log" in value.tags, (value.start, value.end)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if override.is_range_sweep() and not value.shuffle:
        steps = [*override.sweep_iterator(transformer=Transformer.identity)]
        kind = IntDistribution if isinstance(steps[0], int) else FloatDistribution
        return kind(steps[0], steps[-1], step=abs(value.step))
    chosen = override.sweep_iterator(transformer=Transformer.identity)
    return CategoricalDistribution([getattr(one, "text", one) for one in chosen])
