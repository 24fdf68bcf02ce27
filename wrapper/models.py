"""Keeps the model that a decorated function returns, in the best form that MLflow has for it."""

import contextlib
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import mlflow

from pipeline.core.text import say
from pipeline.tracking.mlflow import store as mlflow_store

FLAVOURS = {"torch": "pytorch", "pyspark": "spark", "mlflow": "pyfunc"}  # by the class's package
FORM = "model.form"  # the tag that says in which form a run's model is kept
ASIDE = ("__main__", "pipeline", "wrapper")  # a script's classes go into a pickle anyway
PICKLE = "pickle/model.pkl"
README = """This run's model is neither of a flavour that MLflow knows nor an object with predict().
It is kept as Python's pickle, and promote, predict and serve do not take it. Loading a pickle runs
code: load it only if you trust whoever made it.

    import cloudpickle, mlflow
    path = mlflow.artifacts.download_artifacts(run_id=RUN, artifact_path="{path}")
    model = cloudpickle.load(open(path, "rb"))
"""


def log(model: Any, repository: Path) -> None:
    """Log a model to the active run: in its flavour, as a pyfunc, or else as a pickle.

    An object that no flavour is made for becomes a pyfunc if it has a method ``predict``. What
    can't even be pickled is not kept, with a warning; the run stays.

    Args:
        model: any object.
        repository: classes of modules below this folder are kept with the model.
    """
    found = flavour(model)
    with _kept_by_value(repository):
        if found is None and callable(getattr(model, "predict", None)):
            form = _try("pyfunc", lambda: _log_predictor(model))
        elif found is None:
            form = _try("pickle", lambda: _log_pickle(model))
        else:
            form = found.__name__.removeprefix("mlflow.")
            _log_flavour(found, model)
    mlflow.set_tag(FORM, form)


def flavour(model: Any) -> ModuleType | None:
    """MLflow's module for models of an object's class, or of a class that it comes from.

    Only flavours that MLflow itself offers count: a script may be called as one is.
    """
    for kind in type(model).__mro__:
        package = kind.__module__.partition(".")[0]
        found = vars(mlflow).get(FLAVOURS.get(package, package))
        with contextlib.suppress(ImportError):  # MLflow imports it when it is first asked
            if hasattr(found, "FLAVOR_NAME") and callable(getattr(found, "log_model", None)):
                return found
    return None


def _log_flavour(found: ModuleType, model: Any) -> None:
    """Log a model in its flavour; one of scikit-learn without pickle, unless it has own classes."""
    if found.__name__ == "mlflow.pyfunc":
        found.log_model(name="model", python_model=model)
    else:
        options = _sklearn_options(model) if found.__name__ == "mlflow.sklearn" else {}
        found.log_model(model, name="model", **options)


def _sklearn_options(model: Any) -> dict[str, Any]:
    """How MLflow is to write a model of scikit-learn.

    One that needs no other package says so; for the rest MLflow finds out, which takes seconds.
    """
    from skops import io

    from pipeline.science.model_files import TRUSTED_PACKAGES

    with contextlib.suppress(io.exceptions.UnsupportedTypeException, TypeError, AttributeError):
        types = io.get_untrusted_types(data=io.dumps(model))
        if all(name.startswith(TRUSTED_PACKAGES) for name in types):
            needs = mlflow_store.requirements("scikit-learn", "skops", "pandas")
            return {"skops_trusted_types": types, "pip_requirements": needs}
    return {"serialization_format": "cloudpickle"}


def _log_predictor(model: Any) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # it wants type hints

        class Predictor(mlflow.pyfunc.PythonModel):
            """Predicts by the model's own method."""

            def predict(
                self,
                context: Any,  # noqa: ARG002 - MLflow's signature
                model_input: Any,
                params: Any = None,  # noqa: ARG002 - MLflow's signature
            ) -> Any:
                return model.predict(model_input)

        mlflow.pyfunc.log_model(name="model", python_model=Predictor())


def _log_pickle(model: Any) -> None:
    data = cloudpickle.dumps(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PICKLE)
        path.parent.mkdir()
        path.write_bytes(data)
        path.with_name("README.txt").write_text(README.format(path=PICKLE))
        mlflow.log_artifacts(folder)


def _try(form: str, keep: Any) -> str:
    """Keep a model in a form that pickles it; the form, or ``none`` if it can't be pickled."""
    try:
        keep()
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        say(f"warning: the model is not kept: {error}", file=sys.stderr)
        return "none"
    return form


@contextlib.contextmanager
def _kept_by_value(repository: Path) -> Iterator[None]:
    """Have classes and functions of the repository's modules go into a pickle whole."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in ASIDE and _is_below(module, repository)
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_below(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return (
        file is not None
        and Path(file).is_relative_to(folder)
        and "site-packages" not in Path(file).parts
    )
