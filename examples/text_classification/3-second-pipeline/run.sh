#!/usr/bin/env bash
# Add a second pipeline, which shares the data that the first pipeline prepared.
. "$(dirname "$0")/../start.sh"
cp "$here"/notebooks/nearest.ipynb notebooks/
ipynb_to_dvc -n notebooks/nearest.ipynb
commands/mlvtools_nearest_dvc

# Only the new stage runs
dvc repro
dvc dag
dvc metrics show

# Export this pipeline to a shell script, without the first pipeline's classifier
export_pipeline --dvc mlvtools_nearest -o nearest.sh
git add .
git commit -qm "A second pipeline"
