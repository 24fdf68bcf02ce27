"""Starts the app's server."""

import importlib.util
import os
import sys
from typing import NoReturn

from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.tracking.dashboards import free_port

APP_PORT = 8501
UPLOAD = 50  # MB in one upload, which is kept in memory


def run_app(host: str, port: int | None, open_browser: bool) -> NoReturn:
    """Replace this process by the app's server, until Ctrl-C.

    Raises:
        PipelineError: Streamlit is not installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise PipelineError("the app needs Streamlit, which is not installed", "run: make extras")
    options = {
        "server.address": host,
        "server.port": port or free_port(host, APP_PORT),
        "server.headless": str(not open_browser).lower(),
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": UPLOAD,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "runner.magicEnabled": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.base": "light",  # of the dark theme, no color has enough contrast on both grounds
        "theme.primaryColor": "#1f5f8b",
        "theme.textColor": "#000000",  # captions are lighter
    }
    arguments = [f"--{key}={value}" for key, value in options.items()]
    script = str(ROOT / "dashboard" / "app.py")
    command = [sys.executable, "-m", "streamlit", "run", script, *arguments]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ)
