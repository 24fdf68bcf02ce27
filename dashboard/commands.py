"""The command that starts the app."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=int, help="port to listen on (default: a free one)")
@click.option("--no-browser", is_flag=True, help="do not open a browser")
def app(host: str, port: int | None, no_browser: bool) -> None:
    """Serve the app of models in use until Ctrl-C."""
    from dashboard.launch import run_app

    run_app(host, port, open_browser=not no_browser)
