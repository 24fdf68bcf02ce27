"""The commands ``dashboard`` and ``sync-to-wandb``."""

import click

from pipeline.core.text import say


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--no-browser", is_flag=True, help="print the addresses, and open no browser")
def dashboard(host: str, no_browser: bool) -> None:
    """Serve Trackio's and MLflow's dashboards until Ctrl-C."""
    from pipeline.tracking.dashboards import serve

    serve(host, open_browser=not no_browser)


@click.command()
@click.option("--run", required=True, metavar="ID", help="the run's id, as main.py prints it")
@click.option("--new-ids", is_flag=True, help="copy runs that were deleted in W&B under new ids")
def sync_to_wandb(run: str, new_ids: bool) -> None:
    """Copy a run from Trackio to W&B; may be repeated."""
    from pipeline.tracking.choice import require_library

    require_library()
    from pipeline.tracking.sync_to_wandb import sync

    for name, url in sync(run, new_ids):  # printed as soon as each run is copied
        say(f"{name}  {url}", flush=True)
