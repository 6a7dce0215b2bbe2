#!/bin/sh
# train_sanitized.sh DTRAIN: the embedded example for a few steps on 4 ranks, saved, resumed on another layout, evaluated;
# once with LoRA and once with FISH.
set -eu
dtrain=$1
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cd "$(dirname "$0")/.."

for method in 'lora={rank: 2 dropout: 0.1}' 'fish={keep: 0.01 samples: 4}'; do
    set -- examples/stories/finetune.pbtxt --set "run.dir=$run/${method%%=*}" --set "delta[0].$method" \
        --set train.global_batch=4 --set optim.schedule.warmup_steps=1 --set data.eval.examples=8 --set checkpoint.every=1
    launch/mpirun.sh -np 4 "$dtrain" "$@" --set train.steps=2
    launch/mpirun.sh -np 2 "$dtrain" "$@" --set train.steps=3 --set parallel.tensor=1
    launch/mpirun.sh -np 2 "$dtrain" eval "$@" --json
done
