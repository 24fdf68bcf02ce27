"""Which tracker is used: what ``main.tracker`` says, and whether W&B can be used here."""

import configparser
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
    if os.environ.get("WANDB_BASE_URL"):
        return os.environ["WANDB_BASE_URL"]
    kept = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    try:
        kept.read(folder / "settings", encoding="utf-8")
    except (configparser.Error, UnicodeError):
        return WANDB_CLOUD  # W&B says what is wrong with the file, once it is used
    return kept.get("default", "base_url", fallback=WANDB_CLOUD)


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
        wanted = wandb_credentials() or wandb_server() != WANDB_CLOUD
        name = "wandb" if wanted else "trackio"
    if name == "wandb":
        _require_wandb()
    return name


def _require_wandb() -> None:
    mode = os.environ.get("WANDB_MODE", "online").lower()
    if mode not in ("", "online", "shared"):
        raise PipelineError(
            f"WANDB_MODE={mode}: W&B cannot read artifacts back in that mode, and every step "
            "reads what the one before it logged",
            "unset WANDB_MODE, or use the local tracker: main.tracker=trackio",
        )
    if not wandb_credentials():
        raise PipelineError(
            "main.tracker is wandb, and no W&B key was found (WANDB_API_KEY, or a .netrc entry)",
            "run `wandb login`, or use the local tracker: main.tracker=trackio",
        )
