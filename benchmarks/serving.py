"""Measure model servers under load: one client, many clients, one row a request.

python benchmarks/serving.py ours=http://127.0.0.1:5001 mlflow=http://127.0.0.1:5002

Each address is a running server of the same model: ``python -m pipeline serve`` and
``mlflow models serve``. The servers are measured in turn, so that one machine load meets all.
"""

import argparse
import asyncio
import csv
import json
import statistics
import time
from pathlib import Path

import httpx

ROWS = Path(__file__).parents[1] / "data" / "pokemon.csv"
NUMBERS = ("Total", "HP", "Attack", "Defense", "Sp. Atk", "Sp. Def", "Speed", "Generation")


def body() -> bytes:
    """One raw row, with numbers as numbers."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    row |= {name: int(row[name]) for name in NUMBERS}
    return json.dumps({"dataframe_records": [row]}).encode()


async def load(url: str, clients: int, requests: int) -> dict[str, float]:
    """Requests per second and milliseconds, with so many clients that each ask without a pause."""
    content, kind, left, taken = body(), {"content-type": "application/json"}, requests, []

    async def ask() -> None:
        nonlocal left
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            while left > 0:
                left -= 1
                start = time.perf_counter()
                answer = await client.post(f"{url}/invocations", content=content, headers=kind)
                taken.append(time.perf_counter() - start)
                answer.raise_for_status()

    start = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    rate = len(taken) / (time.perf_counter() - start)
    p99 = statistics.quantiles(taken, n=100)[-1]
    return {"rate": rate, "median": statistics.median(taken) * 1000, "p99": p99 * 1000}


def main() -> None:
    """Print a line for each server and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument("--requests", type=int, default=500, help="for each measurement")
    args = parser.parse_args()
    servers = dict(text.split("=", 1) for text in args.servers)
    for url in servers.values():
        asyncio.run(load(url, 1, 20))
    for clients in args.clients:
        for name, url in servers.items():
            told = asyncio.run(load(url, clients, args.requests))
            print(
                f"{name:10} {clients:4} clients {told['rate']:8.1f} requests/s "
                f"{told['median']:8.1f} ms median {told['p99']:8.1f} ms p99",
                flush=True,
            )


if __name__ == "__main__":
    main()
