#!/bin/sh
# parity.sh BUILD [CASE...]: training by BUILD/dtrain against transformers and PEFT, step by step (parity.py). DT_PYTHON
# names a Python that has torch, transformers and peft; where it lacks them the test is skipped (exit code 77).
set -eu
python=${DT_PYTHON:-python3}
for module in torch transformers peft; do
    if ! "$python" -c "import $module" 2>/dev/null; then
        echo "skipped: no $module in $python (set DT_PYTHON to a Python that has it)"
        exit 77
    fi
done
exec "$python" "$(dirname "$0")/parity.py" "$@"
