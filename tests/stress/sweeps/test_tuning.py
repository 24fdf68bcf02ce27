"""What is tried next: proposals that can't be tried, and sweeps that are refused."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.core.errors import PipelineError
from pipeline.sweeps import tuning
from tests.support.paths import POKEMON
from tests.support.runs import SMALL, Checkout, Finished
from tests.support.sweeps import Swept, check_shared_workers


@pytest.fixture(scope="module")
def swept(finished: tuple[Checkout, Finished], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Where the pipeline has run once, so that trials train and do nothing else."""
    return Swept(finished[0].copy(tmp_path_factory.mktemp("tuning") / "home"))


def trial_states(sweep: Swept) -> dict[int, str]:
    """The states of the last sweep's trials, by number."""
    below = sweep.below(sweep.sweeps()[-1])
    return {int(run.data.tags["pipeline.trial"]): run.info.status for run in below}


# Optuna draws 0.2, abc, 0.2 where its seed is 3, abc where it is 1, and 0.2 where it is 2.
ONE_IN_TWO = (
    "-m",
    "model=random_forest",
    "hydra/sweeper=optuna",
    "split.test_size=choice(0.2,abc)",
    SMALL,
)
TWO_TRIALS = ("hydra.sweeper.sampler.seed=3", "hydra.sweeper.n_trials=2")


def test_a_proposal_that_cannot_be_composed_is_replaced(swept: Swept):
    done = swept.checkout.run(*ONE_IN_TWO, *TWO_TRIALS)
    assert done.status == 0, done.err
    assert re.search(r"^trial 1: .*failed in .* s: split.test_size='abc' is not", done.out, re.M)
    assert "1 of 3 trials failed; others were run in their place" in done.out
    assert f"data.file_url={POKEMON.as_uri()} " in done.out  # in the best one's command, as typed
    assert "Traceback" not in done.err + done.out
    assert trial_states(swept) == {0: "FINISHED", 1: "FAILED", 2: "FINISHED"}


def test_the_same_command_ends_clean_after_a_failed_proposal(swept: Swept):
    tune = (*ONE_IN_TWO, "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=1")
    first = swept.checkout.run(*tune)
    assert first.status == 1
    assert "1 of 1 trials failed; trial 0: split.test_size='abc' is not a number" in first.err
    assert "the same command proposes new trials" in first.err
    before = len(swept.sweeps())
    second = swept.checkout.run(*tune)
    assert second.status == 0, second.err
    assert "1 of 2 trials failed; others were run in their place" in second.out
    assert trial_states(swept) == {0: "FAILED", 1: "FINISHED"}
    assert len(swept.sweeps()) == before


NO_METRIC = "search.metric='rocauc' is not measured (did you mean 'roc_auc'?)"
TEST_DATA = "the trials would be compared on the test data"
NO_PARAMETER = "RandomForestClassifier has no parameter 'max_dept' (did you mean 'max_depth'?)"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["search.metric=rocauc", "split.test_size=0.2,0.3"], NO_METRIC),
        (["model.validation=0", "split.test_size=0.2,0.3"], TEST_DATA),
        (["split.test_size=0.2,0.3,abc"], "split.test_size=abc is not a number"),
        (["hydra/sweeper=optuna", "+model.params.max_dept=range(2,9)"], NO_PARAMETER),
        (["hydra/sweeper=optuna", "search.space=null"], "search.space"),
        (["hydra/sweeper=optuna", "hydra.sweeper.storage=nosuch://x"], "can't be opened"),
        (["hydra/sweeper=optuna", "split.test_size=interval(5,1)"], "can't be searched"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_trials=-1"], "hydra.sweeper.n_trials=-1"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_trials=abc"], "hydra.sweeper.n_trials=abc"),
        (["hydra/sweeper=optuna", "main.explain=true"], "main.explain can't list"),
        (["hydra/launcher=ray", "hydra.launcher.address=x", "split.test_size=0.2,0.3"],
         "MLFLOW_TRACKING_URI and TRACKIO_SERVER_URL"),
    ],
)  # fmt: skip
def test_refused_before_any_trial(swept: Swept, overrides: list[str], told: str):
    before = {run.info.run_id for run in swept.runs()}
    done = swept.checkout.run("-m", "main.backend=local", *overrides)  # or workers are started
    assert done.status == 1
    assert told in done.err, done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 5, done.err
    new = [run for run in swept.runs() if run.info.run_id not in before]
    assert not [run for run in new if "pipeline.trial" in run.data.tags]


@pytest.mark.parametrize(
    "range_", ["tag(log, interval(0,10))", "interval(5,1)", "range(10,1,-3)", "range(10,2)"]
)
def test_a_range_with_nothing_in_it_is_refused(range_: str):
    override = OverridesParser.create().parse_override(f"model.params.C={range_}")
    with pytest.raises(PipelineError, match=r"^model.params.C=.* can't be searched: "):
        tuning.distribution("model.params.C", override)


def test_a_trial_that_would_be_compared_on_the_test_data_has_failed(swept: Swept):
    same = ("-m", "model.params.random_state=8", SMALL)
    done = swept.checkout.run(*same, "model.validation=0,0.3")
    assert "1 of 2 trials failed; trial 0: model.validation=0, and no model.cv" in done.err
    measured = swept.checkout.run(*same, "model.validation=0", "model.cv=2")
    assert measured.status == 0, measured.err


@pytest.mark.parametrize(("launcher", "seed"), [("basic", 11), ("joblib", 21)])
def test_trials_share_what_is_imported(swept: Swept, launcher: str, seed: int):
    trials = f"model.params.random_state={seed},{seed + 1},{seed + 2}"
    process = swept.checkout.start(
        "-m", f"hydra/launcher={launcher}", trials, SMALL, "main.backend=prefork"
    )
    check_shared_workers(process, 3)
