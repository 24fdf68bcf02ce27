#!/usr/bin/env bash
# Make a new version of the pipeline on a branch, with terms of two words; then go back.
. "$(dirname "$0")/../start.sh"
git switch -q -c bigrams main

# Change a hyperparameter, and generate the command of its stage again
sed -i 's/^ngrams: 1/ngrams: 2/' conf.yaml
gen_dvc -i scripts/mlvtools_vocabulary.py --force
commands/mlvtools_vocabulary_dvc

# Extract and tokenise do not run again
dvc repro
dvc metrics diff main
git commit -qam "Terms of two words"

# Go back: the first version's files come from DVC's cache, and nothing runs
git switch -q main
dvc checkout -q
dvc status
