"""Writes the folder of a new step from a template that runs: ``python -m pipeline new-step``."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.lock_files import locked
from pipeline.core.settings import ROOT
from pipeline.steps.folders import check_new_step, chosen_steps, write_step

TEMPLATE = Path(__file__).parent / "template"
FILES = ("MLproject", "conda.yml", "script.py")


def begin(name: str, after: str) -> Iterator[str]:
    """Write the folder and the unit test of a step; yields lines for the user.

    Args:
        name: the folder's name, such as ``6-Explain``.
        after: the step whose artifact it reads, as in ``main.steps``.

    Raises:
        PipelineError: the name is invalid or in use, or there is no step ``after``; nothing is
            written.
    """
    try:
        (earlier,) = chosen_steps(after)
    except PipelineError as error:
        raise PipelineError(f"--after {after} names no step", error.remedy) from error
    target, section = ROOT / name, name.partition("-")[2].lower()
    test = ROOT / "tests" / "unit" / f"test_{name.partition('-')[0]}_{section}.py"
    check_new_step(target)
    if next((path for path in (target, test) if path.exists()), None):
        raise PipelineError(f"{name} or its test {test} exists already", "choose another name")
    if int(name.partition("-")[0]) < int(earlier.partition("-")[0]):
        raise PipelineError(
            f"{name} would come before {earlier}", "give it a number after that step's"
        )
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    if re.search(rf"^{section}:", config, re.MULTILINE) or not section.isidentifier():
        raise PipelineError(
            f"{name} needs the section {section!r} of config.yaml, which is taken or invalid",
            "choose another name",
        )
    artifact = _artifact(earlier)
    texts = {file: _filled(file, name, section) for file in FILES}
    write_step(target, {file: text.encode() for file, text in texts.items()})
    yield f"wrote {name}"
    if test.parent.is_dir():
        write_whole(test, _filled("unit_test.py", name, section))
        yield f"wrote {test.relative_to(ROOT)}"
    yield f"\nto config.yaml, above `hydra:`, add:\n\n{_filled('section.yaml', name, section)}"
    yield "to main.py, above `return`, add:\n"
    call = f'run("{name}", input_artifact={artifact}, **config.{section})'
    yield f"        {call}\n"
    variable = artifact.partition("[")[0]
    if variable == _new_variable(earlier):
        yield f'and write {variable} = run("{earlier}", ...) there, to have a name for it\n'
    yield "then: python main.py"


def _filled(file: str, name: str, section: str) -> str:
    """The text of a template file, filled in for a step."""
    text = (TEMPLATE / file).read_text(encoding="utf-8")
    text = re.sub(r"(\S+)==PIN", lambda pin: f"{pin[1]}=={locked()[pin[1]]}", text)
    words = {"STEP_NAME": name, "SECTION": section, "PYTHON": _python()}
    return re.sub("|".join(words), lambda word: words[word[0]], text)


def _python() -> str:
    """The Python version of the other steps."""
    match = re.search(r"python=(\S+)", (ROOT / "conda.yml").read_text(encoding="utf-8"))
    return match[1] if match else "3.11"


def _artifact(step: str) -> str:
    """The expression for a step's artifact in main.py."""
    tree = ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))
    name = next(
        (
            node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and _calls(node.value, step)
        ),
        None,
    )
    subscripts = (
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == name
    )
    section = step.partition("-")[2].lower()
    return next(subscripts, f"{name or _new_variable(step)}[config.{section}.artifact_name]")


def _new_variable(step: str) -> str:
    """A variable name for the result of a step that main.py does not assign."""
    return f"{step.partition('-')[2].lower()}_step"


def _calls(value: ast.expr, step: str) -> bool:
    """Whether an expression runs a step."""
    return isinstance(value, ast.Call) and any(
        isinstance(argument, ast.Constant) and argument.value == step for argument in value.args
    )
