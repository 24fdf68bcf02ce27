"""The pipeline on a W&B server that is away, dies, fails or damages what it was given."""

import signal

from tests.support.runs import HANGS, SMALL, Checkout, Finished
from tests.support.sweeps import check_swept
from tests.support.wandb_server import WandbServer

QUICK = ("main.tracker=wandb", SMALL, "main.steps=[1,2]", "main.tracker_timeout=10")


def failed(checkout: Checkout, server: WandbServer, *overrides: str, **env: str) -> Finished:
    """A run that has to fail, in a few lines, within the time it was given."""
    done = checkout.run(*overrides, **{**server.environment(), **env})
    assert done.status == 1
    assert done.err.startswith("error: "), done.err
    assert "Traceback" not in done.err
    assert "failed" in [step["status"] for step in done.summary["steps"].values()]
    return done


def test_a_wrong_key(checkout: Checkout, server: WandbServer):
    done = failed(checkout, server, *QUICK, WANDB_API_KEY="f" * 40)
    assert "WANDB_API_KEY" in done.err
    files = (path.read_bytes() for path in done.folder.rglob("*") if path.is_file())
    assert b"f" * 40 not in (done.err + done.out).encode() + b"".join(files)


def test_a_project_that_may_only_be_read(checkout: Checkout, server: WandbServer):
    """Nothing is left there; a run in another project of the same owner succeeds."""
    server.store.project("pokemon").read_only = True
    done = failed(checkout, server, *QUICK)
    assert "could not start a run: " in done.err
    assert "permission denied" in done.err
    assert "to write to your default entity (WANDB_ENTITY) and its project pokemon" in done.err
    assert "main.project_name" in done.err
    assert len(done.err.splitlines()) <= 6, done.err
    assert (server.runs, server.artifacts, server.store.blobs) == ({}, {}, {})
    other = checkout.run(*QUICK, "main.project_name=other", **server.environment())
    assert other.states[:2] == ["ran", "ran"], other.err
    assert {run.project.name for run in server.runs.values()} == {"other"}
    assert not server.unanswered


def test_a_server_that_is_down_at_the_start(checkout: Checkout, server: WandbServer):
    server.stop()
    done = failed(checkout, server, *QUICK)
    assert done.states == ["failed"]
    assert server.url in done.err
    server.start()
    assert checkout.run(*QUICK, **server.environment()).states[:2] == ["ran", "ran"]


def test_a_server_that_dies_between_two_steps(checkout: Checkout, server: WandbServer):
    """The run after it takes up where this one stopped."""
    process = checkout.start(*QUICK, **server.environment())
    for line in process.stdout:
        if line.startswith("1-Download_data: ran"):
            server.stop()
            break
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 1, out
    assert "2-ETL: failed in" in out
    assert f"W&B ({server.url}) could not" in out
    server.start()
    again = checkout.run(*QUICK, **server.environment())
    assert again.states[:2] == ["cached", "ran"]
    runs = {run.display_name: run.state for run in server.runs.values()}
    assert runs[f"2-ETL-{again.summary['run_id']}"] == "finished"


def test_errors_for_a_while_do_not_matter(checkout: Checkout, server: WandbServer):
    server.faults.fail_next(3)
    done = checkout.run(*QUICK, "main.tracker_timeout=30", **server.environment())
    assert done.states[:2] == ["ran", "ran"], done.err


def test_damaged_bytes_are_named(checkout: Checkout, server: WandbServer):
    first = checkout.run(*QUICK, "main.steps=[1]", **server.environment())
    assert first.status == 0, first.err
    server.corrupt("pokemon.csv:v0")
    done = failed(checkout, server, *QUICK, "main.alert=true")
    assert "pokemon.csv:v0' is damaged" in done.err
    alerts = [alert for run in server.runs.values() for alert in run.alerts]
    (told,) = [text for title, text, level in alerts if (title, level) == ALERT]
    assert "pokemon.csv:v0' is damaged" in told
    assert "clean_data.csv:v0" not in server.artifacts


def test_optuna_with_joblib(checkout: Checkout, server: WandbServer):
    """Trials of two processes, each with temporary files of its own."""
    words = ["-m", "hydra/sweeper=optuna", "hydra/launcher=joblib", "hydra.sweeper.n_trials=4"]
    words += ["hydra.sweeper.n_jobs=2", "model.params.n_estimators=range(2,6)"]
    done = checkout.run(*words, "main.tracker=wandb", **server.environment())
    assert done.status == 0, done.err
    check_swept(checkout, server, 4, "dev", ["latest"])


MOMENTS = 10
ALERT = "pokemon failed", "ERROR"
FOUR = ("main.tracker=wandb", SMALL, "main.steps=[1,2,3,4]", "main.force=true")


def test_ctrl_c_at_ten_moments_leaves_no_run_running(checkout: Checkout, server: WandbServer):
    """A moment is a request: the start of a W&B run, an upload, its end; of four steps."""
    whole = checkout.run(*FOUR, **server.environment())
    assert whole.status == 0, whole.err
    count, ends = len(server.requests) // 2, []  # later runs upload less
    for number in range(MOMENTS):
        moment = len(server.requests) + 1 + number * count // MOMENTS
        ends.append(stopped(checkout, server, moment, signal.SIGINT))
    stopped(checkout, server, len(server.requests) + count // 3, signal.SIGTERM)
    assert "killed" in [run.state for run in server.runs.values()]
    assert ends.count(130) >= MOMENTS // 2


def stopped(checkout: Checkout, server: WandbServer, moment: int, number: signal.Signals) -> int:
    """Send a signal to a run after so many requests; its status, once no W&B run is running."""
    process = checkout.start(*FOUR, **server.environment())
    server.wait_for(lambda: len(server.requests) >= moment, 60)
    process.send_signal(number)
    out, _ = process.communicate(timeout=HANGS)
    assert "Traceback" not in out, out
    states = [run.state for run in server.runs.values()]
    assert set(states) <= {"finished", "killed"}, (states, out)
    return process.returncode


def test_a_step_that_runs_out_of_time_is_killed_in_wandb(checkout: Checkout, server: WandbServer):
    server.faults.hold("UseArtifact")
    done = failed(checkout, server, *QUICK, "main.tracker_timeout=60", "main.timeout=15")
    assert "ran out of time" in done.err
    assert [run.state for run in server.runs.values()] == ["failed", "finished", "killed"]
    assert not any(run.alerts for run in server.runs.values())  # nobody has asked for one


def test_the_run_of_the_whole_pipeline_is_deleted_meanwhile(
    checkout: Checkout, server: WandbServer
):
    """It is a warning: all that it has is recorded elsewhere, too."""
    process = checkout.start(*QUICK, **server.environment())
    for line in process.stdout:
        if line.startswith("1-Download_data: ran"):
            (whole,) = (id for id, run in server.runs.items() if run.job_type == "pipeline")
            server.store.project("pokemon").delete(whole)
            break
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "warning: the pipeline's own run in wandb: W&B" in out
    assert [run.state for run in server.runs.values()] == ["finished", "finished"]
