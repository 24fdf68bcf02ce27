"""MkDocs' hooks for the docs site: generated pages, and links to files outside ``docs``.

A page links to a file of the repository by its path, as on GitHub. The site holds a copy of each
such file, and the link leads there.
"""

import re
from collections.abc import Iterator
from os.path import normpath, relpath
from pathlib import PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from pipeline.core.settings import ROOT
from tools import architecture, reference

LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
LOADS = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>"
)
GENERATED = {
    "settings.md": reference.settings_page,
    "commands.md": reference.commands_page,
    "architecture.md": architecture.page,
}
EXTRA_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
log = get_plugin_logger("site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files outside ``docs`` that pages link to."""
    for uri, page in GENERATED.items():
        files.append(File.generated(config, uri, content=page()))
    waiting = [*EXTRA_PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = {"README.md"}  # the site's home page stands for it
    while waiting:
        path = waiting.pop()
        if path in seen or not (ROOT / path).exists():
            continue
        seen.add(path)
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, _uri(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            waiting += _targets(path)
    return files


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - given by mkdocs
    files: Files,  # noqa: ARG001 - given by mkdocs
) -> str:
    """Point links at the site's copies; a link to a folder, which has none, becomes its text."""
    path = _path(page.file.src_uri)
    folder = PurePosixPath(page.file.src_uri).parent

    def of_site(link: re.Match[str]) -> str:
        target = _target(path, link[2])
        if (ROOT / target).is_dir():
            return link[1]
        return f"[{link[1]}]({relpath(_uri(target), folder)}{link[3] or ''})"

    return LINK.sub(of_site, markdown)


def on_post_page(
    output: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - given by mkdocs
) -> str:
    """Warn of what a page loads from another host; with ``--strict`` this fails the build."""
    for load in LOADS.findall(output):
        log.warning(f"{page.file.src_uri} loads from another host: {load}")
    return output


def _targets(path: str) -> Iterator[str]:
    """The paths that a page links to, from the repository's root."""
    for _, link, _ in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        yield _target(path, link)


def _target(path: str, link: str) -> str:
    return normpath(str(PurePosixPath(path).parent / link))


def _path(uri: str) -> str:
    """The path of a page's source, from the repository's root."""
    outside = uri in EXTRA_PAGES or uri.startswith("examples/")
    return uri if outside else f"docs/{uri}"


def _uri(path: str) -> str:
    """The address within the site of a file, given from the repository's root."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")
