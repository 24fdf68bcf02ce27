"""Makes the estimator that the configuration names, nested ones too; no other code is called."""

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import BaseEstimator, is_classifier, is_regressor

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import tasks

# What a parameter may call, whatever model.allowed says: functions of numbers, without effects
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
NAMED = ("estimators", "steps", "transformer_list")  # parameters that are pairs of name and one
# Parameters of LightGBM and XGBoost that name files or other machines
OUTSIDE = re.compile(
    r".*(file(name)?|path|dir)|config|machines?|machine_list|mlist|workers|nodes|fs|forced_splits"
    r"|(input|output)_model|model_(in|out|input|output)|data|valid|test|train|save_binary"
)
GRIDS = ("param_grid", "param_distributions")  # parameters whose keys are another's parameters
EXTRAS = {"lightgbm": "lightgbm", "xgboost": "xgboost-cpu"}  # modules of the extra `boosting`


def make_estimator(
    path: Any, params: Mapping[str, Any], allowed: Sequence[str], task: str = tasks.AUTO
) -> BaseEstimator:
    """The estimator that ``model.estimator`` names.

    A parameter may be an estimator, too, or one of :data:`FUNCTIONS`:
    ``{"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 3}``; and several by name,
    ``{"tree": {"_target_": ...}, "svm": {"_target_": ...}}``, for those that combine estimators.
    A mapping of ``classification`` and ``regression`` stands for the value of the task.

    Args:
        path: dotted path of a class, such as ``sklearn.ensemble.RandomForestClassifier``.
        params: its parameters.
        allowed: the packages it may come from; no other code is imported.
        task: the kind of task.

    Raises:
        PipelineError: another package, no such class, or a parameter it does not have or that
            is refused.
    """
    path = tasks.of_task(path, task)
    estimator = _make("model.estimator", path, tasks.of_task(dict(params), task), allowed)
    try:
        predicts = is_classifier(estimator) or is_regressor(estimator)
    except (AttributeError, TypeError, ValueError) as error:  # asks what it is built from
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
    found = _estimator_class(key, path, allowed)
    accepted = inspect.signature(found).parameters
    known, takes_any = [*accepted], any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    for param in params:
        if param not in known and not takes_any:
            raise PipelineError(
                f"model.params: {found.__name__} has no parameter {param!r}"
                f"{did_you_mean(param, known)}",
                f"its parameters are: {', '.join(known)}",
            )
        if takes_any:
            _check_free(param, params[param])
    values = {name: _parameter(name, value, allowed) for name, value in params.items()}
    try:
        return found(**values)
    except TypeError as error:  # abstract, or built from other estimators
        raise PipelineError(
            f"{key}={path!r} can't be made: {error}", "choose another class"
        ) from error


def _check_free(param: str, value: object) -> None:
    """Refuse a parameter of a class that hands on whatever it is given.

    LightGBM writes them all into one line, ``name=value name=value``.
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
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise PipelineError(
                f"{key}={path!r} needs the package {EXTRAS.get(package, package)}, which is not "
                "installed",
                "make extras, and main.env_manager=local; or name the package in conda.yml of "
                "4-Training_model and 5-Report",
            ) from error
        found = None
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise PipelineError(f"{key}={path!r} is not an estimator", "check its module and name")
    return found


def _parameter(name: str, value: object, allowed: Sequence[str]) -> object:
    """A parameter's value, with the estimators and functions that it names.

    Raises:
        PipelineError: the estimator would read files, write a cache, or call something else.
    """
    last = name.rpartition("__")[2]  # of one inside another
    if value is not None and last == "memory":
        raise PipelineError(
            f"model.params: {name}={value!r} would write a cache to the disk", f"leave {name} out"
        )
    if last == "input" and value in ("file", "filename"):
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
            for key, inner in value.items():
                _check_free(str(key).rpartition("__")[2], inner)
        made = {str(key): _parameter(str(key), inner, allowed) for key, inner in value.items()}
        return [*made.items()] if name in NAMED else made
    if isinstance(value, list | tuple):
        return type(value)(_parameter(name, inner, allowed) for inner in value)
    return value


def _named(name: str, value: dict[object, Any], allowed: Sequence[str]) -> object:
    """What a mapping with a ``_target_`` stands for: a function, or an estimator."""
    params = {str(key): inner for key, inner in value.items() if key != "_target_"}
    target = value["_target_"]
    if isinstance(target, str) and target in FUNCTIONS:
        if params:
            said = f"model.params: {name}: the function {target} takes no parameters"
            raise PipelineError(said, f"leave out {', '.join(params)}")
        module, _, function = target.rpartition(".")
        return getattr(importlib.import_module(module), function)
    key = f"model.params: {name}: _target_"
    if isinstance(target, str) and target.partition(".")[0] in {"numpy", "scipy"}:
        said = f"{key}={target!r} is no function that may be named"
        raise PipelineError(said, f"the functions are: {', '.join(sorted(FUNCTIONS))}")
    return _make(key, target, params, allowed)
