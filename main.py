"""The whole pipeline: download, clean, split, train, report.

python main.py                                        # the default data set and model
python main.py main.experiment_name=prod split.test_size=0.3
python main.py data=iris model=logistic_regression    # files in conf/data and conf/model
python main.py explain split.test_size=0.3            # what would run, and why; runs nothing
python main.py --help                                 # every setting
"""

import gc

gc.disable()  # imports leave no garbage: on again in pipeline.start()

from typing import TYPE_CHECKING

import pipeline

if TYPE_CHECKING:
    from omegaconf import DictConfig


@pipeline.main(version_base="1.3", config_path=".", config_name="config")  # hydra.main
def go(config: "DictConfig") -> float | None:
    """Run the steps in order, each on the exact versions the one before it produced."""
    data, etl, split = config.data, config.etl, config.split
    model, report = config.model, config.report

    with pipeline.start(config):
        raw = pipeline.run(
            "1-Download_data",
            file_url=data.file_url,
            artifact_name=data.artifact_name,
            artifact_type=data.artifact_type,
            artifact_description=data.artifact_description,
            sha256=data.sha256,
            max_bytes=data.max_bytes,
            timeout=data.timeout,
            retries=data.retries,
        )
        clean = pipeline.run(
            "2-ETL",
            input_artifact=raw[data.artifact_name],
            artifact_name=etl.artifact_name,
            artifact_type=etl.artifact_type,
            artifact_description=etl.artifact_description,
            sep=data.sep,
            encoding=data.encoding,
            missing=etl.missing,
            required=etl.required,
            fill=etl.fill,
            schema=etl.schema,
        )
        parts = pipeline.run(
            "3-Split_dataset",
            input_artifact=clean[etl.artifact_name],
            train_artifact_name=split.train_artifact_name,
            test_artifact_name=split.test_artifact_name,
            artifact_type=split.artifact_type,
            artifact_description=split.artifact_description,
            test_size=split.test_size,
            random_state=split.random_state,
            stratify=split.stratify,
        )
        with pipeline.within(model.timeout):
            trained = pipeline.run(
                "4-Training_model",
                train_artifact=parts[split.train_artifact_name],
                test_artifact=parts[split.test_artifact_name],
                target=model.target,
                drop=model.drop,
                categorical=model.categorical,
                estimator=model.estimator,
                params=model.params,
                allowed=model.allowed,
                validation=model.validation,
                cv=model.cv,
                seed=split.random_state,
                name=model.name,
                cleaning=model.cleaning,
                model_artifact_name=model.artifact_name,
                preprocessor_artifact_name=model.preprocessor_artifact_name,
            )
        pipeline.run(
            "5-Report",
            model_artifact=trained[model.artifact_name],
            train_artifact=parts[split.train_artifact_name],
            test_artifact=parts[split.test_artifact_name],
            clean_artifact=clean[etl.artifact_name],
            raw_artifact=raw[data.artifact_name],
            allowed=model.allowed,
            artifact_name=report.artifact_name,
            artifact_type=report.artifact_type,
            artifact_description=report.artifact_description,
            identifier=report.identifier,
            mistakes=report.mistakes,
            resamples=report.resamples,
            random_state=report.random_state,
            previous=report.previous,
        )
        return trained.metric(model.metric)  # in here, so that a trial without it has failed


if __name__ == "__main__":
    go()
