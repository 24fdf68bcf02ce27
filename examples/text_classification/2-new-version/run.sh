#!/usr/bin/env bash
# A new version of the pipeline, on a branch: terms of two words; then back to the first version.
. "$(dirname "$0")/../start.sh"
git switch -q -c bigrams main

# Another hyperparameter; the command of the stage that uses it is made anew
sed -i 's/^ngrams: 1/ngrams: 2/' conf.yaml
gen_dvc -i scripts/mlvtools_vocabulary.py --force
commands/mlvtools_vocabulary_dvc

# Extract and tokenise are not run again
dvc repro
dvc metrics diff main
git commit -qam "Terms of two words"

# Back: the first version's files come from DVC's cache, and nothing has to be run
git switch -q main
dvc checkout -q
dvc status
