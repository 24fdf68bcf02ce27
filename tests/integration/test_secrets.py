"""No secret that a user gives is written down, printed, or seen in the list of processes."""

import json
import re
import subprocess

import psutil
import pytest

from tests.support.clones import Clone, git, refused
from tests.support.faulty_server import Page, Server
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished

SECRET = "canary-7f3a"  # a part of every secret here
OTHERS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_KEY", "DATABASE_PASSWORD", "DATABRICKS_TOKEN", "GITHUB_TOKEN",
    "GOOGLE_API_KEY", "HF_TOKEN", "MYSQL_PWD", "OPENAI_API_KEY", "PGPASSWORD", "SLACK_WEBHOOK",
)  # fmt: skip
ENVIRONMENT = {"TABLE_TOKEN": f"{SECRET}-of-the-environment", "ABOUT": f"about {SECRET}"}


class Pages(dict[str, Page]):
    """The table, to whoever has a secret; notes what processes are called at that moment."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.commands: list[str] = []

    def get(self, path: str, default: None = None) -> Page | None:
        """The page at a path."""
        self.asked.append(path)
        for process in psutil.process_iter(["cmdline"]):
            self.commands.append(" ".join(process.info["cmdline"] or ()))
        if not path.startswith("/table.csv?") or SECRET not in path:
            return None
        return Page(POKEMON.read_bytes(), [], {"ETag": '"1"'})


@pytest.fixture
def pages(server: Server) -> Pages:
    server.pages = Pages()
    return server.pages


def check(checkout: Checkout, *ended: Finished) -> None:
    """Nothing below the home has a secret, and nothing that was printed."""
    words = ["grep", "-rlaF", SECRET, str(checkout.home)]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == ""
    for one in ended:
        assert SECRET not in one.out + one.err


def test_a_signature_is_used_and_kept_nowhere(tmp_path, server, pages):
    checkout = Checkout(tmp_path / "home")
    address = f"data.file_url=http://127.0.0.1:{server.server_port}/table.csv?sig={SECRET}&id=3"
    steps = "main.steps=[1,2]"
    first = checkout.run(steps, address, SMALL)
    assert first.status == 0, first.err
    assert pages.asked == [f"/table.csv?id=3&sig={SECRET}"]

    again = checkout.run(steps, address.replace(SECRET, f"{SECRET}-2"), SMALL)
    assert again.states[:2] == ["cached", "cached"]  # a new signature is no new data
    assert pages.asked[1:] == [f"/table.csv?id=3&sig={SECRET}-2"]  # asked for its ETag

    other = checkout.run(steps, address.replace("id=3", "id=4"), SMALL)
    assert other.states[:2] == ["ran", "cached"]

    lost = checkout.run(address.replace("table", "lost"), SMALL)
    assert lost.status == 1
    assert f"http://127.0.0.1:{server.server_port}/lost.csv?id=3' answered 404" in lost.err
    shown = checkout.tool("log")
    assert shown.status == 0, shown.err
    check(checkout, first, again, other, lost, shown)


def test_a_variable_reaches_its_step_by_name(tmp_path, server, pages):
    checkout = Checkout(tmp_path / "home")
    place = tmp_path / "more" / "data"
    place.mkdir(parents=True)
    text = (ROOT / "conf" / "data" / "pokemon.yaml").read_text(encoding="utf-8")
    url = f"http://127.0.0.1:{server.server_port}/table.csv?token=${{oc.env:TABLE_TOKEN}}"
    text = re.sub(r"(?<=file_url: ).*", url, text)
    text = re.sub(r"(?<=description: ).*", "${oc.env:ABOUT}", text)
    (place / "mine.yaml").write_text(text, encoding="utf-8")
    words = ["--config-dir", str(place.parent), "data=mine", SMALL]
    words += ["main.steps=[1,2,3,4,5]"]
    arguments = [word for word in checkout.words(*words) if "file_url" not in str(word)]
    ended = [checkout.python(*arguments, **ENVIRONMENT) for _ in range(2)]
    for one in ended:
        assert one.status == 0, one.err
    assert pages.asked[0] == f"/table.csv?token={ENVIRONMENT['TABLE_TOKEN']}"
    assert "1-Download_data: cached" in ended[1].out
    changed = {**ENVIRONMENT, "ABOUT": f"something else about {SECRET}"}
    ended.append(checkout.python(*arguments, **changed))
    assert "1-Download_data: ran" in ended[2].out  # what it is computed from has changed
    missing = checkout.python(*arguments, ABOUT="x")
    assert missing.status == 1
    assert "data.file_url needs the environment variable TABLE_TOKEN" in missing.err
    assert not [command for command in pages.commands if SECRET in command]
    check(checkout, *ended, missing)


def test_secrets_in_files_and_in_the_environment_are_kept_nowhere(tmp_path, server, pages):
    """One in a file of conf/, in ``.env``, in Hydra's own settings, and in variables of others."""
    clone = Clone.make(tmp_path)
    text = (ROOT / "conf" / "data" / "pokemon.yaml").read_text(encoding="utf-8")
    url = f"http://127.0.0.1:{server.server_port}/table.csv?id=3&sig={SECRET}-of-a-file"
    data = re.sub(r"(?<=file_url: ).*", url, text)
    (clone.root / "conf" / "data" / "mine.yaml").write_text(data, encoding="utf-8")
    (clone.root / ".env").write_text(f"TABLE_TOKEN={SECRET}-of-dot-env\n")
    words = clone.words("data=mine", SMALL, "main.steps=[1,2,3,4,5]")
    words = [word for word in words if not str(word).startswith("data.file_url")]
    words.append(f"+hydra.job.env_set.API_KEY={SECRET}-of-hydra")
    done = clone.python(*words, **{name: f"{SECRET}-of-{name}" for name in OTHERS})
    assert done.status == 0, done.err
    assert pages.asked == [f"/table.csv?id=3&sig={SECRET}-of-a-file"]
    assert not [one for one in pages.commands if SECRET in one and "main.py" not in one]
    shown = [clone.tool(*command) for command in (("log",), ("show", "last"), ("verify",))]
    assert [one.status for one in shown] == [0, 0, 0]
    check(clone, done, *shown)
    refs = git(clone.root, "for-each-ref", "--format=%(refname)", "refs/pipeline").split()
    assert refs
    for ref in refs:  # what git ignores is no part of a run's code
        assert ".env" not in git(clone.root, "ls-tree", "-r", "--name-only", ref).split()


def test_a_password_is_refused_and_not_recorded(tmp_path):
    checkout = Checkout(tmp_path / "home")
    for address in (f" https://u:{SECRET}@host/x", f"http:///u:{SECRET}@host",
                    f"git+http://u:{SECRET}@host/x", f"http:/u:{SECRET}@host/x",
                    f"https://u:a/{SECRET}@host/x", f"'https://u:a, {SECRET}@host/x'",
                    f"https:u:{SECRET}@host/x", f"u:{SECRET}@host/x"):  # fmt: skip
        done = checkout.run(f"data.file_url={address}")
        assert done.status == 1
        assert "user name or password" in done.err
        check(checkout, done)


def test_an_address_without_its_beginning_is_recorded_without_its_signature(tmp_path):
    checkout = Checkout(tmp_path / "home")
    done = checkout.run(f"data.file_url=example.org/x.csv?id=3&sig={SECRET}")
    assert done.status == 1
    assert "an address begins with https:// or http://" in done.err
    check(checkout, done)


def test_a_run_is_reproduced_once_its_variables_are_set_again(tmp_path, pages, server):
    """Without one it is refused by name, before anything is written."""
    clone = Clone.make(tmp_path)
    address = f"data.file_url=http://127.0.0.1:{server.server_port}/table.csv?id=3&sig={SECRET}"
    about = "data.artifact_description=${oc.env:ABOUT}"
    only = "main.steps=[1]"
    done = clone.run(address, about, only, ABOUT=ENVIRONMENT["ABOUT"])
    assert done.status == 0, done.err
    signature = {"PIPELINE_SECRET_DATA_FILE_URL": f"sig={SECRET}-2"}
    latest = ("reproduce", "last", "--code", "current", "--data", "latest")

    told = refused(clone, "reproduce", "last")
    assert "needs the environment variable ABOUT, which is not set" in told
    told += refused(clone, *latest, ABOUT="about")
    assert "data.file_url was given with a secret, which is not recorded" in told
    assert "PIPELINE_SECRET_DATA_FILE_URL" in told
    assert len(told.splitlines()) <= 6
    assert not list(clone.state.glob("reproductions/*"))

    again = clone.tool("reproduce", "last", ABOUT=ENVIRONMENT["ABOUT"])  # no need of the signature
    assert again.status == 0, again.out + again.err
    went_on = clone.tool(*latest, ABOUT=ENVIRONMENT["ABOUT"], **signature)
    assert went_on.status == 0, went_on.out + went_on.err
    assert pages.asked[-1] == f"/table.csv?id=3&sig={SECRET}-2"
    pages.commands.clear()
    words = ("reproduce", "last", "--code", "current", "--set", f"{address}-3")
    changed = clone.tool(*words, ABOUT=ENVIRONMENT["ABOUT"])
    assert changed.status == 0, changed.out + changed.err
    assert pages.asked[-1] == f"/table.csv?id=3&sig={SECRET}-3"
    assert not [one for one in pages.commands if SECRET in one and "reproduce" not in one]
    check(clone, done, again, went_on, changed)


def test_what_a_sweep_tries_is_kept_without_its_signatures(tmp_path, server, pages):
    """They are in Hydra's own settings, in a file."""
    checkout = Checkout(tmp_path / "home")
    place = tmp_path / "more" / "extra"
    place.mkdir(parents=True)
    signed = f"http://127.0.0.1:{server.server_port}/table.csv?id=%d&sig={SECRET}-%d"
    sweeper = {"params": {"data.file_url": f"'{signed % (1, 1)}','{signed % (2, 2)}'"}}
    hydra = {"sweeper": sweeper, "job": {"env_set": {"API_KEY": f"{SECRET}-of-a-file"}}}
    text = f"# @package _global_\n{json.dumps({'hydra': hydra})}"
    (place / "tried.yaml").write_text(text, encoding="utf-8")
    words = ["-m", "--config-dir", str(place.parent), "+extra=tried", "main.steps=[1]"]
    words = checkout.words(*words)
    done = checkout.python(*[word for word in words if "file_url" not in str(word)])
    assert done.status == 0, done.out + done.err
    assert pages.asked == [f"/table.csv?id={n}&sig={SECRET}-{n}" for n in (1, 2)]
    check(checkout, done)
