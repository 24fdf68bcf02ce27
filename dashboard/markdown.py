"""Escapes untrusted text for Streamlit, which renders most texts as Markdown."""

import re
from typing import Any


def plain(text: Any) -> str:
    """Escape a text for Markdown, so that it has no links, images or styles."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$&])", r"\\\1", str(text)).replace("\n", " ")
