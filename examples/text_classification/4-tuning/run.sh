#!/usr/bin/env bash
# Try combinations of two hyperparameters, each as an MLflow run, and use the best one.
. "$(dirname "$0")/../start.sh"
git switch -q -c tuned main
cp "$here"/notebooks/tune.ipynb notebooks/
echo "tracking_uri: ${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" >> conf.yaml
ipynb_to_dvc -n notebooks/tune.ipynb
commands/mlvtools_tune_dvc
dvc repro mlvtools_tune
cat data/best.json

# Write the best combination to conf.yaml, and run the stages that depend on it
python - <<'PYTHON'
import json, re
from pathlib import Path

best = json.loads(Path("data/best.json").read_text())
text = Path("conf.yaml").read_text()
for name in ("size", "C"):
    text = re.sub(rf"(?m)^{name}: \S+", f"{name}: {best[name]}", text)
Path("conf.yaml").write_text(text)
PYTHON
for name in vocabulary classify; do
    gen_dvc -i "scripts/mlvtools_$name.py" --force
    "commands/mlvtools_${name}_dvc"
done
dvc repro
dvc metrics diff main
git add .
git commit -qm "The best of six combinations"
