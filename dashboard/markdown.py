"""Text of unknown origin within Markdown, which is what Streamlit makes of most texts."""

import re
from typing import Any


def plain(text: Any) -> str:
    """Text as Markdown that shows it as it is: no links, no images, no styles."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$&])", r"\\\1", str(text)).replace("\n", " ")
