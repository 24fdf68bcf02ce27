"""Makes the estimator that the configuration names, with nested estimators; calls no other code."""

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import BaseEstimator, is_classifier, is_regressor

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import tasks

# Functions that a parameter may name, whatever model.allowed is: numeric, without side effects
FUNCTIONS = frozenset(
    {
        *(f"numpy.{name}" for name in ("abs", "exp", "expm1", "log", "log1p", "log2", "log10")),
        *(f"numpy.{name}" for name in ("sqrt", "square", "cbrt", "sign")),
        "scipy.special.expit",
        "scipy.special.logit",
        "sklearn.feature_selection.chi2",
        "sklearn.feature_selection.f_classif",
        "sklearn.feature_selection.f_regression",
        "sklearn.feature_selection.mutual_info_classif",
        "sklearn.feature_selection.mutual_info_regression",
    }
)
# Parameters that are pairs of name and estimator
NAMED = ("estimators", "steps", "transformer_list")
# Parameters of LightGBM and XGBoost that name files or other machines
OUTSIDE = re.compile(
    r".*(file(name)?|path|dir)|config|machines?|machine_list|mlist|workers|nodes|fs|forced_splits"
    r"|(input|output)_model|model_(in|out|input|output)|data|valid|test|train|save_binary"
)
# Parameters whose keys are parameters of an inner estimator
GRIDS = ("param_grid", "param_distributions")
EXTRAS = {"lightgbm": "lightgbm", "xgboost": "xgboost-cpu"}  # modules of the extra `boosting`


def make_estimator(
    path: Any, params: Mapping[str, Any], allowed: Sequence[str], task: str = tasks.AUTO
) -> BaseEstimator:
    """The estimator that ``model.estimator`` names.

    A parameter may itself be an estimator, or one of :data:`FUNCTIONS`:
    ``{"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 3}``. An ensemble takes
    several by name: ``{"tree": {"_target_": ...}, "svm": {"_target_": ...}}``.
    A mapping of ``classification`` and ``regression`` is replaced by the value of the task.

    Args:
        path: dotted path of a class, such as ``sklearn.ensemble.RandomForestClassifier``.
        params: its parameters.
        allowed: the packages that may be imported.
        task: the task.

    Raises:
        PipelineError: the package is not allowed, the class does not exist, or a parameter is
            unknown or refused.
    """
    path = tasks.of_task(path, task)
    estimator = _make("model.estimator", path, tasks.of_task(dict(params), task), allowed)
    try:
        predicts = is_classifier(estimator) or is_regressor(estimator)
    except (AttributeError, TypeError, ValueError) as error:  # is_classifier asks inner objects
        raise PipelineError(
            f"model.estimator={path!r} can't be made: {error}",
            "an estimator inside another one is a mapping: {_target_: PATH, PARAMETER: VALUE}",
        ) from error
    if not predicts:
        raise PipelineError(
            f"model.estimator={path!r} predicts neither classes nor numbers",
            "choose a classifier or a regressor: model=random_forest",
        )
    return estimator


def _make(key: str, path: object, params: dict[str, Any], allowed: Sequence[str]) -> BaseEstimator:
    cls = _estimator_class(key, path, allowed)
    accepted = inspect.signature(cls).parameters
    names = [*accepted]
    takes_any = any(item.kind is item.VAR_KEYWORD for item in accepted.values())
    for param in params:
        if param not in names and not takes_any:
            raise PipelineError(
                f"model.params: {cls.__name__} has no parameter {param!r}"
                f"{did_you_mean(param, names)}",
                f"its parameters are: {', '.join(names)}",
            )
        if takes_any:
            _check_free(param, params[param])
    values = {name: _parameter(name, value, allowed) for name, value in params.items()}
    try:
        return cls(**values)
    except TypeError as error:  # abstract, or built from other estimators
        raise PipelineError(
            f"{key}={path!r} can't be made: {error}", "choose another class"
        ) from error


def _check_free(param: str, value: object) -> None:
    """Check a parameter of a class that accepts any keyword and passes it on.

    LightGBM joins all parameters into one line, ``name=value name=value``.

    Raises:
        PipelineError: the parameter names files or machines, or holds several parameters.
    """
    if OUTSIDE.fullmatch(param):
        raise PipelineError(
            f"model.params: {param}={value!r} would read or write files, or ask other machines",
            f"leave {param} out",
        )
    if not param.isidentifier() or "=" in str(value):
        raise PipelineError(
            f"model.params: {param}={value!r} holds more than one parameter",
            "name each parameter by itself, without a space or a =",
        )


def _estimator_class(key: str, path: object, allowed: Sequence[str]) -> type[BaseEstimator]:
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    package = module.partition(".")[0]
    if package not in allowed:
        raise PipelineError(
            f"{key}={path!r} is not from an allowed package",
            f"name a class of: {', '.join(allowed)} (model.allowed)",
        )
    try:
        estimator_class = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise PipelineError(
                f"{key}={path!r} needs the package {EXTRAS.get(package, package)}, which is not "
                "installed",
                "make extras, and main.env_manager=local; or name the package in conda.yml of "
                "4-Training_model and 5-Report",
            ) from error
        estimator_class = None
    except ImportError:
        estimator_class = None
    if not (isinstance(estimator_class, type) and issubclass(estimator_class, BaseEstimator)):
        raise PipelineError(f"{key}={path!r} is not an estimator", "check its module and name")
    return estimator_class


def _parameter(name: str, value: object, allowed: Sequence[str]) -> object:
    """A parameter's value, with ``_target_`` mappings replaced by estimators and functions.

    Raises:
        PipelineError: the estimator would read files, write a cache, or call other code.
    """
    base_name = name.rpartition("__")[2]  # without the names of outer estimators
    if value is not None and base_name == "memory":
        raise PipelineError(
            f"model.params: {name}={value!r} would write a cache to the disk", f"leave {name} out"
        )
    if base_name == "input" and value in ("file", "filename"):
        raise PipelineError(
            f"model.params: {name}={value!r} would read files", f"leave {name} out: content"
        )
    if callable(value) and not isinstance(value, BaseEstimator):
        raise PipelineError(
            f"model.params: {name}={value!r} is a callable", '{"_target_": PATH} names a function'
        )
    if isinstance(value, dict) and "_target_" in value:
        return _named(name, value, allowed)
    if isinstance(value, dict):
        if name in GRIDS:
            for key, item in value.items():
                _check_free(str(key).rpartition("__")[2], item)
        values = {str(key): _parameter(str(key), item, allowed) for key, item in value.items()}
        return [*values.items()] if name in NAMED else values
    if isinstance(value, list | tuple):
        return type(value)(_parameter(name, item, allowed) for item in value)
    return value


def _named(name: str, value: dict[object, Any], allowed: Sequence[str]) -> object:
    """The function or the estimator that a mapping with a ``_target_`` names."""
    params = {str(key): item for key, item in value.items() if key != "_target_"}
    target = value["_target_"]
    if isinstance(target, str) and target in FUNCTIONS:
        if params:
            message = f"model.params: {name}: the function {target} takes no parameters"
            raise PipelineError(message, f"leave out {', '.join(params)}")
        module, _, function = target.rpartition(".")
        return getattr(importlib.import_module(module), function)
    key = f"model.params: {name}: _target_"
    if isinstance(target, str) and target.partition(".")[0] in {"numpy", "scipy"}:
        message = f"{key}={target!r} is not an allowed function"
        raise PipelineError(message, f"the functions are: {', '.join(sorted(FUNCTIONS))}")
    return _make(key, target, params, allowed)
