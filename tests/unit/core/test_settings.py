"""Paths that libraries would take for something else are refused, and no others."""

from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.errors import PipelineError


@pytest.mark.parametrize("name", ["a #1", "what?", "100%", "a ${HOME}"])
def test_paths_that_a_library_can_not_take(name: str) -> None:
    with pytest.raises(PipelineError, match="the repository has") as caught:
        settings.check_path("the repository", Path("/home", name))
    assert f"can't take: /home/{name}" in caught.value.what


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "a;b&c", "ünï $x {y}", "a b"])
def test_paths_that_all_take(name: str) -> None:
    settings.check_path("the repository", Path("/home", name))
