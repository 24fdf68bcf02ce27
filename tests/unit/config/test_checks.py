"""Settings that can't work are refused before anything runs, by name and value."""

from pathlib import Path

import pytest
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import checks, entry
from pipeline.config.schema import RENAMED
from pipeline.core.errors import PipelineError
from tests.support.configs import composed
from tests.support.paths import ROOT

FILE = "data.file_url=%s"


def refusal(*words: str, sweep: bool = False) -> str:
    """What ``python main.py`` says of these words."""
    try:
        checks.check(composed(*words), sweep)
    except PipelineError as error:
        told = error
    except (HydraException, OmegaConfBaseException) as error:
        told = entry.explain(error)
    assert told.remedy
    assert len(str(told).splitlines()) <= 25
    return str(told)


def test_a_path_in_a_conf_file_is_relative_to_the_current_folder():
    config = composed("data=iris", "data.file_url='a.csv'")
    checks.resolve_data_path(config)
    assert config.data.file_url == Path("a.csv").absolute().as_uri()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("https://h/x.csv", "${oc.env:PLACE}/a.csv"),
        ("/a folder", "file:///${oc.env:PLACE}/a.csv"),
        ("folder", "%s/${oc.env:PLACE}/a.csv"),
    ],
)
def test_a_path_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, written: str
):
    monkeypatch.setenv("PLACE", value)
    config = composed("data=iris", "data.file_url='${oc.env:PLACE}/a.csv'")
    for _ in range(2):  # also as it is recorded
        checks.resolve_data_path(config)
        assert config.data.file_url == written.replace("%s", Path.cwd().as_uri())
    checks.check(config)


def test_the_settings_as_they_come_are_accepted():
    checks.check(composed())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["main.experimet_name=x"], ["main.experimet_name", "did you mean 'main.experiment_name'"]),
        (["+main.nmae=x"], ["main.nmae"]),
        (["modle=svm"], ["'modle'", "did you mean 'model'", "model=", "|svm|"]),
        (["dta=iris"], ["'dta'", "did you mean 'data'", "data=", "|iris|"]),
        (
            ["model.params.n_estimatrs=5"],
            ["'n_estimatrs'", "did you mean 'n_estimators'", "+model.params.n_estimatrs=VALUE"],
        ),
        (["model.parms.C=5"], ["did you mean 'model.params'"]),
        (["model.parms.n_estimators=5"], ["did you mean 'model.params'"]),
        (["main.force=maybe"], ["main.force=maybe is not true or false"]),
        (["etl.missing=none"], ["etl.missing=none is not a list"]),
        (["etl.missing={a: 1}"], ["etl.missing={a: 1} is not a list"]),
        (["etl.fill=[1]"], ["etl.fill=[1] is not a mapping"]),
        (["etl=3"], ["etl=3 is not a mapping"]),
        (["+other.key=x"], ["'other'"]),
        (["split.test_size=lots"], ["split.test_size=lots is not a number"]),
        (["split.random_state=1.5"], ["split.random_state=1.5 is not a whole number"]),
        (["split.random_state=null"], ["split.random_state=null is not a whole number"]),
        (["split.test_size=0"], ["split.test_size=0.0", "between 0 and 1"]),
        (["split.test_size=1.2"], ["split.test_size=1.2", "between 0 and 1"]),
        (["main.env_manager=cnda"], ["'cnda'", "did you mean 'conda'"]),
        (["main.timeout=0"], ["main.timeout=0.0 is not a number of seconds"]),
        (["main.revalidate=etags"], ["main.revalidate='etags'", "did you mean 'etag'"]),
        (["main.state_dir='/tmp/a #1'"], ["main.state_dir has '#' in its path", "MLflow"]),
        (["main.state_dir='/tmp/what?'"], ["main.state_dir has '?' in its path", "MLflow"]),
        (["main.tracker_timeout=0.5"], ["main.tracker_timeout=0.5 is not a second or more"]),
        (["model=forest"], ["model=forest", "random_forest"]),
        (["data=pokmon"], ["data=pokmon", "did you mean 'pokemon'"]),
        (["main.project_name=a b"], ["'a b'", "letters, digits"]),
        (["main.dataset=a b"], ["main.dataset='a b' can't name a data set", "letters, digits"]),
        (["main.project_name='a"], ["main.project_name='a"]),
        (["model.name=a b"], ["'a b' can't name a model", "model.name"]),
        (["model.name=.."], ["'..' can't name a model", "model.name"]),
        (["data.artifact_name=."], ["'.' can't name an artifact"]),
        (["etl.artifact_name=.."], ["'..' can't name an artifact"]),
        (["data.file_url=file://elsewhere/a.csv"], ["on the machine 'elsewhere'", "file:///"]),
        (["main.project_name=" + "x" * 140], ["has 140 characters", "128 at most"]),
        (["model.artifact_name=../x"], ["'../x' can't name an artifact"]),
        (["split.train_artifact_name=test_data.csv"], ["two artifacts", "test_data.csv"]),
        (["report.artifact_name=report.htm"], ["'report.htm' does not end in .html"]),
        (["report.resamples=0"], ["report.resamples=0 is too few", "1 or more"]),
        (["data.file_url=https://me:secret@example.com/x.csv"], ["user name or password"]),
        (["data.file_url=s3://me:secret@bucket/x.csv"], ["user name", "environment variables"]),
        (["data=csv", "data.file_url=???"], ["data.file_url is not set"]),
        (["model.target=[]"], ["names no columns"]),
        (["model.target=[a,a]"], ["names no columns", "different"]),
        (["model.target={a: 1}"], ["names no columns"]),
        (["search.metric=f2"], ["search.metric='f2' is not measured"]),
        (["model.validation=1"], ["model.validation=1.0 is not a share"]),
        (["model.cv=1"], ["model.cv=1 is not two folds or more"]),
        (["provenance.max_file_mb=0"], ["provenance.max_file_mb=0 is not above 0"]),
    ],
)
def test_what_can_not_work_is_named(words: list[str], said: list[str]):
    told = refusal(*words)
    assert all(text in told for text in said), told
    assert "secret" not in told


def test_a_file_that_hydra_misses_is_no_problem_of_the_disk(capsys: pytest.CaptureFixture):
    with pytest.raises(MissingConfigException) as missing:
        composed("data=nope")
    with pytest.raises(SystemExit):
        entry.fail(missing.value, traceback=False)
    told = capsys.readouterr().err
    assert told.startswith("error: there is no data=nope\n  conf/data has: csv, ")


def test_trials_are_not_compared_on_the_test_data():
    assert "would be compared on the test data" in refusal("model.validation=0", sweep=True)
    checks.check(composed("model.validation=0", "model.cv=3"), sweep=True)


def test_rows_of_your_own_data_need_a_target():
    config = composed("data=csv", "data.file_url=file:///data.csv", "model.target=price")
    checks.check(config)
    assert config.etl.required == ["price"]


@pytest.mark.parametrize(("key", "new"), RENAMED.items())
def test_a_key_of_an_earlier_version_names_the_new_one(key: str, new: str):
    value = "{x: 1}" if key.endswith("space") else "1"
    assert f"the setting {key!r} is now called {new!r}" in refusal(f"{key}={value}")
    assert f"is now called {new!r}" in refusal(f"+{key}={value}")


def test_a_key_that_is_gone_names_what_to_use_instead():
    said = refusal("main.standby=1")
    assert "there is no setting 'main.standby' any more" in said
    assert "main.backend=local" in said


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ("model", "preprocessor")),
        (["main.project_name=theirs"], ("model", "preprocessor")),
        (["data=pokemon_total"], ("pokemon-total", "pokemon-total-preprocessor")),
        (["data=iris", "model.name=flowers"], ("flowers", "flowers-preprocessor")),
        (["data=iris", "model.name=model"], ("model-9372c4", "model-preprocessor")),
        (["data=iris", "model.artifact_name=mine"], ("mine", "iris-species-preprocessor")),
    ],
)
def test_each_model_has_a_collection_of_its_own(words: list[str], names: tuple[str, str]):
    model = composed(*words).model
    assert (model.artifact_name, model.preprocessor_artifact_name) == names


def test_several_targets_are_one_name():
    words = ["data=csv", "data.file_url=a.csv", "model.target=[solar_gw,wind_gw]"]
    config = composed(*words)
    assert config.model.name == "a-solar_gw.wind_gw" == config.model.artifact_name
    assert list(config.etl.required) == [["solar_gw", "wind_gw"]]


def test_names_that_no_tracker_takes_are_kept_apart():
    names = [composed("data=iris", f"model.target={t}").model.name for t in ("a b", "a/b", "a-b")]
    assert names[2] == "iris-a-b"
    assert len({*names}) == 3
    assert all(name.startswith("iris-a-b") for name in names)
    (long,) = {composed("data=iris", f"model.target={'x' * 300}").model.artifact_name}
    assert len(long) == 107


@pytest.mark.parametrize(
    ("words", "dataset", "names"),
    [
        (["data=pokemon"], "pokemon", ["pokemon.csv", "clean_data.csv", "pokemon-legendary"]),
        (["data=pokemon_total"], "pokemon", ["pokemon.csv", "clean_data.csv", "pokemon-total"]),
        (["data=iris"], "iris", ["iris.csv", "iris-clean.csv", "iris-species"]),
        ([FILE % "/a/My Houses.tsv.gz"], "my_houses", ["my_houses.tsv.gz", "my_houses-clean.csv"]),
        ([FILE % (ROOT / "docs")], "docs", ["docs.parquet", "docs-clean.csv", "docs-price"]),
        ([FILE % "https://a/b.csv?sig=x"], "b", ["b.csv", "b-clean.csv", "b-price"]),
        ([FILE % "sqlite:///a.db?table=b"], "b", ["b.parquet", "b-clean.csv", "b-price"]),
        ([FILE % "mysql://${oc.env:HOME}/a", "data.query=x"], "a", ["a.parquet", "a-clean.csv"]),
        ([FILE % "a.csv", "main.dataset=b"], "b", ["b.csv", "b-clean.csv", "b-price"]),
    ],
)
def test_everything_is_named_after_its_data_set(words: list[str], dataset: str, names: list[str]):
    own = ["data=csv", "model.target=price"] if "data.file_url" in words[0] else []
    config = composed(*own, *words)
    assert (config.main.dataset, config.main.project_name) == (dataset, dataset)
    found = [config.data.artifact_name, config.etl.artifact_name, config.model.name]
    assert found[: len(names)] == names
    checks.check(config)
    team = composed(*own, *words, "main.project_name=team")
    assert team.etl.artifact_name == names[1]


def test_a_tab_is_between_the_cells_of_a_tsv_file():
    own = ["data=csv", "model.target=price"]
    assert composed(*own, FILE % "/a/b.tsv").etl.sep == r"\t"
    assert composed(*own, FILE % "/a/b.csv").etl.sep == ","


@pytest.mark.parametrize(
    ("word", "fill"),
    [
        ("etl.fill={colour: none, rooms: 0}", {"colour": "none", "rooms": 0}),
        ("etl.fill={Home Type: none}", {"Home Type": "none"}),
        ('etl.fill={"Home Type": "none"}', {"Home Type": "none"}),
        ("etl.fill.colour=none", {"colour": "none"}),
        ("etl.fill={}", {}),
    ],
)
def test_columns_are_named_on_the_command_line(word: str, fill: dict):
    """As the documents and the errors say."""
    own = ["data=csv", "model.target=price", FILE % "/a/b.csv"]
    assert composed(*own, word).etl.fill == fill
    parse = composed(*own, "etl.parse={price: currency, share: percent}").etl.parse
    assert parse == {"price": "currency", "share": "percent"}


def test_costs_are_given_on_the_command_line():
    costs = composed("report.costs={false_positive: 1, false_negative: 5}").report.costs
    assert costs == {"false_positive": 1, "false_negative": 5}
    assert composed("report.costs.false_negative=5").report.costs == {"false_negative": 5}
    assert composed().report.costs == {}
