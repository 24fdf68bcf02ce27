#!/usr/bin/env bash
# Build a pipeline from four notebooks, run it, and reproduce it.
. "$(dirname "$0")/../start.sh"
if [ -n "$(ls -A)" ]; then
    echo "$PWD is not empty: remove it, or name another folder" >&2
    exit 1
fi

# A new project: a git repository with DVC, the notebooks and the data
git init -q -b main
git config user.name >/dev/null || git config user.name "$(id -un)"
git config user.email >/dev/null || git config user.email "$(id -un)@localhost"
dvc init -q
dvc config core.autostage true
cp -r "$example/project/." .
python "$example/texts.py" data/messages.json "${@:2}"
dvc add -q data/messages.json

# Generate a script and its DVC command from each notebook; the command adds a stage to dvc.yaml
for name in extract tokenise vocabulary classify; do
    ipynb_to_dvc -n "notebooks/$name.ipynb"
    "commands/mlvtools_${name}_dvc"
done
check_all_scripts_consistency -n notebooks

# Run the pipeline; the second time nothing has changed
dvc repro
dvc repro
dvc metrics show

# Export the pipeline to a shell script without DVC
export_pipeline --dvc dvc.yaml -o pipeline.sh

git add .
git commit -qm "A pipeline from four notebooks"
