"""Logs the model of a decorated function in the best form that MLflow has for it."""

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
from mlflow.pyfunc.model import PythonModel

from pipeline.core.text import say
from pipeline.tracking.mlflow import store as mlflow_store

FLAVOURS = {"torch": "pytorch", "pyspark": "spark", "mlflow": "pyfunc"}  # by the class's package
FORM = "model.form"  # tag with the form of a run's model
SKIPPED = ("__main__", "pipeline", "wrapper")  # cloudpickle pickles __main__ by value anyway
PICKLE = "pickle/model.pkl"
README = """This run's model has no MLflow flavour and no method predict(). It is stored as a
pickle, which promote, predict and serve do not accept. Loading a pickle runs code: load it only if
you trust its author.

    import cloudpickle, mlflow
    path = mlflow.artifacts.download_artifacts(run_id=RUN, artifact_path="{path}")
    model = cloudpickle.load(open(path, "rb"))
"""


def log(model: Any, repository: Path) -> None:
    """Log a model to the active run: in its MLflow flavour, as a pyfunc or as a pickle.

    An object without a flavour becomes a pyfunc if it has a method ``predict``. A model that can't
    be pickled is not logged, with a warning.

    Args:
        model: any object.
        repository: classes of modules in this folder are stored with the model.
    """
    module = flavour(model)
    with _pickled_by_value(repository):
        if module is None and callable(getattr(model, "predict", None)):
            form = _try("pyfunc", lambda: _log_predictor(model))
        elif module is None:
            form = _try("pickle", lambda: _log_pickle(model))
        else:
            form = module.__name__.removeprefix("mlflow.")
            _log_flavour(module, model)
    mlflow.set_tag(FORM, form)


def flavour(model: Any) -> ModuleType | None:
    """MLflow's module for an object's class or one of its base classes, or None.

    Only attributes of ``mlflow`` count, because a script may have the name of a flavour.
    """
    for class_ in type(model).__mro__:
        package = class_.__module__.partition(".")[0]
        module = vars(mlflow).get(FLAVOURS.get(package, package))
        with contextlib.suppress(ImportError):  # MLflow imports a flavour on first access
            if hasattr(module, "FLAVOR_NAME") and callable(getattr(module, "log_model", None)):
                return module
    return None


def _log_flavour(module: ModuleType, model: Any) -> None:
    """Log a model in its flavour; scikit-learn models without pickle, if they allow it."""
    if module.__name__ == "mlflow.pyfunc":
        module.log_model(name="model", python_model=model)
    else:
        options = _sklearn_options(model) if module.__name__ == "mlflow.sklearn" else {}
        module.log_model(model, name="model", **options)


def _sklearn_options(model: Any) -> dict[str, Any]:
    """The options for logging a scikit-learn model.

    A model of trusted packages only is written by skops with given requirements. For another one
    MLflow uses cloudpickle and infers the requirements, which takes seconds.
    """
    from skops import io

    from pipeline.science.model_files import TRUSTED_PACKAGES

    with contextlib.suppress(io.exceptions.UnsupportedTypeException, TypeError, AttributeError):
        types = io.get_untrusted_types(data=io.dumps(model))
        if all(name.startswith(TRUSTED_PACKAGES) for name in types):
            requirements = mlflow_store.requirements("scikit-learn", "skops", "pandas")
            return {"skops_trusted_types": types, "pip_requirements": requirements}
    return {"serialization_format": "cloudpickle"}


def _log_predictor(model: Any) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # asks for type hints

        class Predictor(PythonModel):
            """Predicts with the model's own method."""

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


def _try(form: str, log_model: Any) -> str:
    """Log a model in a form that pickles it; return the form, or ``none`` if pickling fails."""
    try:
        log_model()
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        say(f"warning: the model is not logged: {error}", file=sys.stderr)
        return "none"
    return form


@contextlib.contextmanager
def _pickled_by_value(repository: Path) -> Iterator[None]:
    """Pickle classes and functions of the repository's modules by value within a block."""
    local_modules = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in SKIPPED and _is_below(module, repository)
    ]
    for module in local_modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in local_modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_below(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return (
        file is not None
        and Path(file).is_relative_to(folder)
        and "site-packages" not in Path(file).parts
    )
