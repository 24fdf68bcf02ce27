"""Two targets in one project of W&B, and the app that shows both of their models."""

import json

from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout
from tests.support.wandb_server import WandbServer

ALIASES = """
import json, wandb
api = wandb.Api()
print(json.dumps({
    collection.name: {one.version: sorted(one.aliases) for one in collection.artifacts()}
    for kind in ("model", "preprocessor")
    for collection in api.artifact_type(kind, "tester/pokemon").collections()
}))
"""
APP = """
import json
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("dashboard/app.py", default_timeout=300).run()
total = app.selectbox[0].select("pokemon-total").run()
print(json.dumps([
    [str(each.value) for page in (app, total) for each in page.exception],
    [each.value for each in total.title],
    sorted(label for each in total.tabs for label in [each.label]),
    " ".join(each.value for each in total.markdown),
    [len(each.value) for each in total.error],
]))
"""


def test_two_targets_have_collections_of_their_own_and_the_app_shows_both(
    checkout: Checkout, server: WandbServer
):
    env = server.environment()
    steps = ("main.tracker=wandb", "main.steps=[1,2,3,4]")
    for words in ((SMALL,), ("data=pokemon_total",)):
        done = checkout.run(*words, *steps, **env)
        assert done.status == 0, done.err
    asked = checkout.python("-c", ALIASES, **env)
    assert json.loads(asked.out) == {
        name: {"v0": aliases}
        for name, aliases in {
            "model": ["candidate", "latest"],
            "pokemon-total": ["candidate", "latest"],
            "preprocessor": ["latest"],
            "pokemon-total-preprocessor": ["latest"],
        }.items()
    }
    page = checkout.python("-c", APP, cwd=ROOT, PIPELINE_STATE_DIR=str(checkout.state), **env)
    assert page.status == 0, page.err
    exceptions, titles, tabs, text, errors = json.loads(page.out.splitlines()[-1])
    assert (exceptions, errors) == ([], [])
    assert titles == [r"pokemon\-total"]
    assert "Predict one" in tabs
    assert rf"[Its training in W\&B]({server.url}/tester/pokemon/runs/" in text
