"""Which tracker is used: what ``main.tracker`` says, and whether W&B can be used here."""

import configparser
import importlib.util
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.core.errors import PipelineError, did_you_mean

TRACKERS = ("auto", "wandb", "trackio")
WANDB_CLOUD = "https://api.forge.coreweave.com"
WANDB_LOGINS = ("api.forge.coreweave.com", "api.wandb.ai")  # names under which a login is kept


def wandb_server() -> str:
    """W&B's address: ``WANDB_BASE_URL``, what ``wandb login --host`` kept, or the cloud's."""
    (_, url) = _setting("base_url", "WANDB_BASE_URL")
    return (url or WANDB_CLOUD).rstrip("/")


def wandb_entity() -> str:
    """The entity that ``WANDB_ENTITY`` or a file of W&B's names; empty: the key's default one."""
    return _setting("entity", "WANDB_ENTITY")[1]


def _setting(name: str, variable: str) -> tuple[str, str]:
    """Where a setting of W&B's is from, and its value: the variable, or a file of ``wandb``'s."""
    if os.environ.get(variable):
        return variable, os.environ[variable]
    user = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    for folder in (Path(os.environ.get("WANDB_DIR") or ".", "wandb"), user):
        kept = configparser.ConfigParser()
        try:
            kept.read(folder / "settings", encoding="utf-8")
        except (configparser.Error, UnicodeError):
            continue  # W&B says what is wrong with the file, once it is used
        if value := kept.get("default", name, fallback=""):
            return str(folder / "settings"), value
    return "", ""


def _unusable_mode() -> str:
    """The mode that W&B is in, and who says so, if artifacts can't be read back in it."""
    origin, mode = _setting("mode", "WANDB_MODE")
    if mode.lower() in ("", "online", "shared"):
        return ""
    return f"WANDB_MODE={mode}" if origin == "WANDB_MODE" else f"mode = {mode} in {origin}"


def notice(name: str) -> str:
    """What a user should know of the tracker that ``main.tracker`` means; mostly nothing."""
    if name != "auto" or not _wanted():
        return ""
    if not _is_installed():
        return "the package wandb is not installed, so Trackio is used"
    if mode := _unusable_mode():
        return f"{mode}, so Trackio is used: W&B cannot read artifacts back in that mode"
    return ""


def _is_installed() -> bool:
    return importlib.util.find_spec("wandb") is not None


def require_library() -> None:
    """Refuse to use W&B where its library has been uninstalled.

    Raises:
        PipelineError: it is not there.
    """
    if not _is_installed():
        raise PipelineError(
            "the package wandb, which W&B needs, is not installed",
            "pip install -r requirements.lock; or use the local tracker: main.tracker=trackio",
        )


def _wanted() -> bool:
    """Whether there is a login to W&B, or a server of one's own."""
    return wandb_credentials() or wandb_server() != WANDB_CLOUD


def wandb_credentials() -> bool:
    """Whether this machine is logged in to W&B, by environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = wandb_server()
    hosts = [urlsplit(server).netloc, *(WANDB_LOGINS if server == WANDB_CLOUD else ())]
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for file in (Path(name).expanduser() for name in files if name):
        try:
            found = netrc.netrc(file).hosts if file.is_file() else {}
        except (netrc.NetrcParseError, OSError):
            continue  # W&B passes over a file that it can't read
        if any(host in found for host in hosts):
            return True
    return False


def choose(name: str) -> str:
    """The tracker that ``main.tracker`` means, ``wandb`` or ``trackio``.

    Raises:
        PipelineError: an unknown tracker, or W&B in a mode or without a key that cannot work.
    """
    if name not in TRACKERS:
        raise PipelineError(
            f"unknown tracker {name!r}{did_you_mean(name, TRACKERS)}",
            f"set main.tracker to one of: {', '.join(TRACKERS)}",
        )
    if name == "auto":
        usable = _wanted() and _is_installed() and not _unusable_mode()
        name = "wandb" if usable else "trackio"
    if name == "wandb":
        _require_wandb()
    return name


def _require_wandb() -> None:
    require_library()
    if mode := _unusable_mode():
        raise PipelineError(
            f"{mode}: W&B cannot read artifacts back in that mode, and every step "
            "reads what the one before it logged",
            "unset it (`wandb online`), or use the local tracker: main.tracker=trackio",
        )
    if not wandb_credentials():
        raise PipelineError(
            "main.tracker is wandb, and no W&B key was found (WANDB_API_KEY, or a .netrc entry)",
            "run `wandb login`, or use the local tracker: main.tracker=trackio",
        )
