"""A model that is promoted and rolled back on W&B: its aliases there, and in W&B's Registry."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registered import BETTER, GOOD, Registered
from tests.support.wandb_server import WandbServer

NAME = "pokemon-legendary"
LINKED = ("--env-manager=local", "promotion.wandb_registry=model")
ASKED = """
import json, wandb
api, aliases = wandb.Api(), ("production", "previous")
places = {"project": "tester/pokemon/model"}
places["registry"] = "Acme/wandb-registry-model/pokemon-legendary"
told = {
    place: {alias: api.artifact(f"{name}:{alias}").source_name for alias in aliases}
    for place, name in places.items()
}
told["promotions"] = {
    run.name: [run.state, sorted(artifact.name for artifact in run.used_artifacts())]
    for run in api.runs("tester/pokemon", {"jobType": "promotion"})
}
print(json.dumps(told))
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running
        assert not running.unanswered


def test_a_promotion_and_a_rollback_move_the_aliases_of_the_linked_versions(
    tmp_path: Path, server: WandbServer
):
    place = Registered(tmp_path)
    env = {**server.environment(), "PIPELINE_TRACKER": "wandb", "WANDB_PROJECT": "pokemon"}
    place.train(GOOD, BETTER, **env)
    registry = server.store.registry("model")

    def promote(number: str) -> str:
        why = ("--force", "--why", "a test of ours")
        return place.pipeline("promote", "--version", number, *why, *LINKED, **env)

    def aliases() -> dict[str, str]:
        """What the aliases mean: in the project, and the same in the registry."""
        linked = {a: one.name for a, one in registry.collections[NAME].alias_of.items()}
        own = server.artifacts["model:v0"].collection.alias_of.items()
        names = ("production", "previous")
        assert {name: linked.get(name) for name in names} == {
            name: next((one.name for alias, one in own if alias == name), None) for name in names
        }
        return {name: linked[name] for name in names if name in linked}

    assert "warning" not in promote("1")
    assert aliases() == {"production": "model:v0"}
    assert "warning" not in promote("2")
    assert aliases() == {"production": "model:v1", "previous": "model:v0"}
    told = place.pipeline("rollback", "--why", "false alarms", *LINKED, **env)
    assert "warning" not in told
    assert aliases() == {"production": "model:v0", "previous": "model:v1"}

    own = {"WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true", **env}
    asked = json.loads(place.printed("-c", ASKED, **own).splitlines()[-1])
    assert asked["project"] == asked["registry"] == aliases()
    assert asked["promotions"] == {
        f"promotion-{NAME}-{number}": ["finished", [model, "test_data.csv:v0"]]
        for number, model in ((1, "model:v0"), (2, "model:v1"))
    }

    registry.read_only = True  # W&B's refusal keeps nobody from production
    told = place.pipeline("rollback", *LINKED, **env)
    assert "version 2 is in production (was 1)" in told
    assert told.count("warning: the version is not linked: W&B (") == 2
    assert "your role in it to be Member or more" in told
    assert server.artifacts["model:v1"].alias_names[-1] == "production"
