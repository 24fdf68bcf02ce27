"""The line that a sweep prints for each trial."""

from collections.abc import Callable
from functools import partial

say: Callable[[str], None] = partial(print, flush=True)  # a line for each trial goes there
