"""Settings from the environment reach steps and records as references."""

import pytest
from omegaconf import OmegaConf

from pipeline.config import references, schema
from pipeline.core.errors import PipelineError

LISTED = ("FETCH_URLS_0", "FETCH_URLS_1", "FETCH_TOKEN_0", "FETCH_PASSWORD")


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    schema.register()
    monkeypatch.setenv("TOKEN", "a-secret")
    monkeypatch.setenv("COUNT", "7")
    monkeypatch.delenv("NOT_SET", raising=False)
    for name in (
        "DATA_FILE_URL",
        "FETCH_API_KEY",
        "HYDRA_JOB_ENV_SET_FETCH_API_KEY",
        "MAIN_BACKEND_CONFIG_TOKEN",
        "MAIN_MLFLOW_URI",
        *LISTED,
    ):
        monkeypatch.setenv(f"PIPELINE_SECRET_{name}", "")  # so that it is gone after the test
        monkeypatch.delenv(f"PIPELINE_SECRET_{name}")


def settings(**sections):
    base = OmegaConf.structured(schema.Config)
    return OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(base)), sections)


def test_a_step_is_given_the_reference_and_the_orchestrator_the_value():
    text = "https://host/x?token=${oc.env:TOKEN}"
    config = settings(data={"file_url": text}, main={"experiment_name": "${oc.env:TOKEN}"})
    assert config.data.file_url == text
    assert config.main.experiment_name == "a-secret"


def test_names_that_the_orchestrator_looks_things_up_by_are_values():
    config = settings(
        data={"artifact_name": "${oc.env:TOKEN}"}, model={"target": "${oc.env:TOKEN}"}
    )
    assert config.data.artifact_name == config.model.target == "a-secret"


def test_numbers_are_values():
    config = OmegaConf.structured(schema.Config)
    config.data.max_bytes = "${oc.env:COUNT}"
    config.model.params = {"n": "${oc.decode:${oc.env:COUNT}}"}
    assert config.data.max_bytes == 7
    assert config.model.params.n == 7


def test_a_default_is_a_value():
    assert settings(etl={"encoding": "${oc.env:NOT_SET,utf-8}"}).etl.encoding == "utf-8"


def test_what_is_recorded_has_no_value_of_a_variable():
    config = settings(
        data={"file_url": "https://host/x?sig=plain-secret&id=3"},
        main={"experiment_name": "${oc.env:TOKEN}", "backend_config": {"token": "plain-secret"}},
        model={"name": "${oc.env:TOKEN}", "params": {"token": "a word"}},
        fetch={"api_key": "plain-secret"},
    )
    references.protect(config)
    recorded = references.recorded(config)
    assert "secret" not in str(recorded).replace("PIPELINE_SECRET", "")
    assert recorded["model"]["params"] == {"token": "a word"}
    assert recorded["data"]["file_url"].startswith("https://host/x?id=3&")
    assert config.main.backend_config.token == "plain-secret"


def test_secrets_in_lists_and_numbers_are_moved():
    urls = ["https://host/x?sig=plain-secret", "https://host/y"]
    config = settings(fetch={"urls": urls, "token": ["plain-secret"], "password": 271828, "n": 3})
    references.protect(config)
    recorded = str(references.recorded(config)["fetch"])
    assert "plain-secret" not in recorded
    assert "271828" not in recorded
    assert "https://host/y" in recorded
    assert config.fetch.n == 3


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(PipelineError, match=r"data.file_url needs .* NOT_SET"):
        references.protect(settings(data={"file_url": "${oc.env:NOT_SET}"}))


@pytest.mark.parametrize("value", ["${oc.env:TOKEN}", "${oc.decode:${oc.env:TOKEN}}"])
def test_a_value_of_the_wrong_type_is_not_shown(value):
    config = OmegaConf.structured(schema.Config)
    config.data.timeout = value
    with pytest.raises(PipelineError, match=r"data\.timeout") as refused:
        references.protect(settings(data={"timeout": config.data._get_node("timeout")}))
    assert "TOKEN" in refused.value.what
    assert "a-secret" not in str(refused.value)


def test_a_value_that_was_looked_up_is_not_shown():
    config = settings(main={"tracker": "${oc.env:TOKEN}"})
    told = references.hidden(f"unknown tracker {config.main.tracker!r}")
    assert told == "unknown tracker '${oc.env:TOKEN}'"


def test_a_moved_login_may_name_variables(monkeypatch):
    config = settings(main={"mlflow_uri": "http://u:${oc.env:TOKEN}@h"})
    words = references.protect_words(["main.mlflow_uri=http://u:${oc.env:TOKEN}@h"])
    config.main.mlflow_uri = words[0].partition("=")[2]
    assert config.main.mlflow_uri == "http://u:a-secret@h"


def test_a_secret_of_another_day_is_asked_for():
    text = "https://host/x?${oc.env:PIPELINE_SECRET_DATA_FILE_URL}"
    with pytest.raises(PipelineError, match=r"data.file_url was given with a secret"):
        references.protect(settings(data={"file_url": text}))


def test_overrides_are_kept_without_their_secrets():
    words = ["data.file_url=https://host/x?sig=plain-secret", "model.params.token=word", "-m"]
    kept = references.protect_words(words)
    assert kept == ["data.file_url=https://host/x?${oc.env:PIPELINE_SECRET_DATA_FILE_URL}",
                    *words[1:]]  # fmt: skip


def test_secrets_are_moved_from_a_locked_section_of_hydra():
    config = OmegaConf.create({"hydra": {"job": {"env_set": {"FETCH_API_KEY": "a-secret"}}}})
    OmegaConf.set_readonly(config.hydra, True)
    references.protect_sweep(config)
    assert "a-secret" not in OmegaConf.to_yaml(config)
