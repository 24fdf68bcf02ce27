"""Chooses the tracker from ``main.tracker``, W&B's settings and the login to W&B."""

import configparser
import importlib.util
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.core.errors import PipelineError, did_you_mean

TRACKERS = ("auto", "wandb", "trackio")
WANDB_CLOUD = "https://api.forge.coreweave.com"
WANDB_LOGINS = ("api.forge.coreweave.com", "api.wandb.ai")  # hosts in .netrc


def wandb_server() -> str:
    """W&B's address: ``WANDB_BASE_URL``, else that of ``wandb login --host``, else the cloud's."""
    (_, url) = _setting("base_url", "WANDB_BASE_URL")
    return (url or WANDB_CLOUD).rstrip("/")


def wandb_entity() -> str:
    """The entity in ``WANDB_ENTITY`` or W&B's settings file; empty for the key's default entity."""
    return _setting("entity", "WANDB_ENTITY")[1]


def _setting(name: str, variable: str) -> tuple[str, str]:
    """Origin and value of a W&B setting: the variable, else W&B's settings files, else empty."""
    if os.environ.get(variable):
        return variable, os.environ[variable]
    user_folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    for folder in (Path(os.environ.get("WANDB_DIR") or ".", "wandb"), user_folder):
        settings_file = configparser.ConfigParser()
        try:
            settings_file.read(folder / "settings", encoding="utf-8")
        except (configparser.Error, UnicodeError):
            continue  # W&B reports the broken file when it is used
        if value := settings_file.get("default", name, fallback=""):
            return str(folder / "settings"), value
    return "", ""


def _unusable_mode() -> str:
    """The W&B mode and where it is set, if artifacts can't be read back in it; else empty."""
    origin, mode = _setting("mode", "WANDB_MODE")
    if mode.lower() in ("", "online", "shared"):
        return ""
    return f"WANDB_MODE={mode}" if origin == "WANDB_MODE" else f"mode = {mode} in {origin}"


def notice(name: str) -> str:
    """Why ``main.tracker=auto`` uses Trackio despite a login to W&B; empty in other cases."""
    if name != "auto" or not _is_wandb_configured():
        return ""
    if not _is_installed():
        return "the package wandb is not installed, so Trackio is used"
    if mode := _unusable_mode():
        return f"{mode}, so Trackio is used: W&B cannot read artifacts back in that mode"
    return ""


def _is_installed() -> bool:
    return importlib.util.find_spec("wandb") is not None


def require_library() -> None:
    """Check that the package wandb is installed.

    Raises:
        PipelineError: it is not installed.
    """
    if not _is_installed():
        raise PipelineError(
            "the package wandb, which W&B needs, is not installed",
            "pip install -r requirements.lock; or use the local tracker: main.tracker=trackio",
        )


def _is_wandb_configured() -> bool:
    """Whether there is a login to W&B, or a W&B server of the user's own."""
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
            logins = netrc.netrc(file).hosts if file.is_file() else {}
        except (netrc.NetrcParseError, OSError):
            continue  # W&B ignores a file that it can't read, too
        if any(host in logins for host in hosts):
            return True
    return False


def choose(name: str) -> str:
    """Resolve ``main.tracker`` to ``wandb`` or ``trackio``.

    Raises:
        PipelineError: the tracker is unknown, or W&B lacks a key or is in an offline mode.
    """
    if name not in TRACKERS:
        raise PipelineError(
            f"unknown tracker {name!r}{did_you_mean(name, TRACKERS)}",
            f"set main.tracker to one of: {', '.join(TRACKERS)}",
        )
    if name == "auto":
        usable = _is_wandb_configured() and _is_installed() and not _unusable_mode()
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
