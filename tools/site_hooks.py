"""MkDocs hooks for the docs site: generated pages, and links to files outside ``docs``.

A page links to files of the repository by path, as on GitHub. The site has a copy of each such
file, and the link is changed to the copy.
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
    pending = [*EXTRA_PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    visited = {"README.md"}  # links to it lead to the site's home page
    while pending:
        path = pending.pop()
        if path in visited or not (ROOT / path).exists():
            continue
        visited.add(path)
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, _uri(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            pending += _targets(path)
    return files


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - given by mkdocs
    files: Files,  # noqa: ARG001 - given by mkdocs
) -> str:
    """Change links to the site's copies; links to folders become plain text."""
    path = _path(page.file.src_uri)
    folder = PurePosixPath(page.file.src_uri).parent

    def site_link(link: re.Match[str]) -> str:
        target = _target(path, link[2])
        if (ROOT / target).is_dir():
            return link[1]
        return f"[{link[1]}]({relpath(_uri(target), folder)}{link[3] or ''})"

    return LINK.sub(site_link, markdown)


def on_post_page(
    output: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - given by mkdocs
) -> str:
    """Warn if a page loads files from another host; with ``--strict`` the build fails."""
    for load in LOADS.findall(output):
        log.warning(f"{page.file.src_uri} loads from another host: {load}")
    return output


def _targets(path: str) -> Iterator[str]:
    """The paths that a page links to, relative to the repository."""
    for _, link, _ in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        yield _target(path, link)


def _target(path: str, link: str) -> str:
    return normpath(str(PurePosixPath(path).parent / link))


def _path(uri: str) -> str:
    """The path of a page's source, relative to the repository."""
    outside = uri in EXTRA_PAGES or uri.startswith("examples/")
    return uri if outside else f"docs/{uri}"


def _uri(path: str) -> str:
    """The site URI of a file, given its path relative to the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")
