"""The whole pipeline: download, clean, split, train, report.

python main.py                                        # the default data set and model
python main.py main.experiment_name=prod split.test_size=0.3
python main.py data=iris model=logistic_regression    # files in conf/data and conf/model
python main.py explain split.test_size=0.3            # show what would run, and why; run nothing
python main.py --help                                 # every setting
"""

import hydra
from omegaconf import DictConfig

import pipeline


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def go(config: DictConfig) -> float | None:
    """Download, clean, split, train, report: each step uses the exact outputs of earlier steps."""
    data, etl, split, model = config.data, config.etl, config.split, config.model
    with pipeline.start(config) as run:
        raw = run("1-Download_data", **data)
        clean = run("2-ETL", input_artifact=raw[data.artifact_name], **etl)
        parts = run("3-Split_dataset", input_artifact=clean[etl.artifact_name], **split)
        trained = run(
            "4-Training_model",
            train_artifact=parts[split.train_artifact_name],
            test_artifact=parts[split.test_artifact_name],
            **model,
        )
        run(
            "5-Report",
            model_artifact=trained[model.artifact_name],
            train_artifact=parts[split.train_artifact_name],
            test_artifact=parts[split.test_artifact_name],
            clean_artifact=clean[etl.artifact_name],
            raw_artifact=raw[data.artifact_name],
            **config.report,
        )
        return trained.metric(config.search.metric)


if __name__ == "__main__":
    pipeline.main(go)
