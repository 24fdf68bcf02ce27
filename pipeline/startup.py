"""Quicker starts and ends of a process that imports large libraries.

Importing them makes hundreds of thousands of objects that live until the end. The garbage
collector goes through them over and over while they are made, and once more at exit: a third of
the processor time of a process that only imports mlflow and scikit-learn.
"""

import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at what an import made meanwhile."""
    known = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if len(sys.modules) > known:
            gc.freeze()


def imported() -> None:
    """The imports that a script began with :func:`gc.disable` are done."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)  # nothing is searched for garbage that all goes at once
