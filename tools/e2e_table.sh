#!/bin/sh
# e2e_table.sh [BUILD]: the table of docs/results.md. Trains stories260k on E2E by each method with three learning rates
# (configs/e2e-*.pbtxt), one run after the other, and prints the best of each as a Markdown table on stdout. The runs
# stay in runs/e2e-table, and what is there is gone on with: remove it to start over. RANKS (default 4) must be a multiple
# of the configurations' parallel.tensor.
set -eu
cd "$(dirname "$0")/.."
dtrain=${1:-build}/dtrain
ranks=${RANKS:-4}
runs=runs/e2e-table
mkdir -p $runs

train() { # train METHOD LR: one run; appends "METHOD LR LOSS TRAINABLE WIRE_BYTES DISK_BYTES" to the results
    run=$runs/$1-$2
    echo "e2e_table: $1, lr $2" >&2
    launch/mpirun.sh -np "$ranks" "$dtrain" "configs/e2e-$1.pbtxt" --set "run.dir=$run" \
        --set "optim.adamw.lr=$2" >"$run.log" 2>&1 || { cat "$run.log" >&2; exit 1; }
    loss=$(sed -n 's/.*"eval_loss":\([^,]*\),.*/\1/p' "$run/metrics.jsonl" | tail -n 1)
    trainable=$(sed -n 's/.* \([0-9]*\) trainable values.*/\1/p' "$run.log" | head -n 1)
    wire=$(sed -n 's/.*"delta_comm_bytes":\([0-9]*\).*/\1/p' "$run/metrics.jsonl" | tail -n 1)
    last=$(find "$run/ckpt" -name 'step-*' | sort | tail -n 1)
    disk=$(cat "$last"/delta-*.safetensors | wc -c)
    echo "$1 $2 $loss $trainable $wire $disk" >>$runs/results
}

base=$(launch/mpirun.sh -np "$ranks" "$dtrain" eval configs/e2e-base.pbtxt --json |
    sed -n 's/.*"eval_loss":\([^,]*\),.*/\1/p')
: >$runs/results
for lr in 5e-4 1e-3 2e-3; do train full $lr; done
for lr in 1e-3 2e-3 5e-3; do train lora $lr; done
for lr in 1e-3 2e-3 5e-3; do train fish $lr; done

awk -v base="$base" '
function bytes(n) { return n >= 1e6 ? sprintf("%.2f MB", n / 1e6) : sprintf("%.1f kB", n / 1e3) }
{
    if (!($1 in loss)) order[++methods] = $1
    if (!($1 in loss) || $3 + 0 < loss[$1] + 0) {
        loss[$1] = $3; lr[$1] = $2; trainable[$1] = $4; wire[$1] = $5; disk[$1] = $6
    }
    all[$1] = all[$1] (all[$1] == "" ? "" : ", ") sprintf("%.4f (%s)", $3, $2)
}
END {
    name["full"] = "full fine-tuning"; name["lora"] = "LoRA, r = 8"; name["fish"] = "FISH mask, 5%"
    print "| method | held-out loss | trained values | of the backbone | delta on disk | all-reduced a step and rank | by learning rate |"
    print "|---|---|---|---|---|---|---|"
    printf "| backbone as it is | %.4f | | | | | |\n", base
    for (i = 1; i <= methods; i++) {
        m = order[i]
        printf "| %s | %.4f | %d | %.1f%% | %s | %s | %s |\n", name[m], loss[m], trainable[m],
               100 * trainable[m] / trainable["full"], bytes(disk[m]), bytes(wire[m]), all[m]
    }
}' $runs/results
