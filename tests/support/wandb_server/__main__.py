"""Run the server by hand: ``python -m tests.support.wandb_server --port 8080``."""

import argparse
import threading

from tests.support.wandb_server import WandbServer


def main() -> None:
    """Serve until Ctrl-C, after printing the variables that a client needs."""
    parser = argparse.ArgumentParser(description="A W&B server for tests; its state is in memory")
    parser.add_argument("--port", type=int, default=8080, help="0 means any free one")
    parser.add_argument("--quiet", action="store_true", help="print no requests")
    arguments = parser.parse_args()
    with WandbServer(arguments.port, verbose=not arguments.quiet) as server:
        for name, value in server.environment().items():
            print(f"export {name}={value}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
