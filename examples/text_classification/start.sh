# Sourced by each run.sh: changes to the working folder, and runs the first use case if it is new.
# Usage: run.sh [FOLDER] [--shipped]; FOLDER is work/ beside this file by default.
set -euo pipefail
example="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
here="$(cd "$(dirname "$0")" && pwd)"
work="${1:-$example/work}"
export PATH="$example/../../.venv/bin:$PATH" DVC_NO_ANALYTICS=1
if [ ! -f "$work/pipeline.sh" ] && [ "$(basename "$here")" != 1-build ]; then
    "$example/1-build/run.sh" "$@"
fi
mkdir -p "$work"
cd "$work"
