#!/bin/sh
# quickstart.sh: sets up, then the main job on the embedded example: LoRA on a small Llama, 4 ranks (data 2 x tensor 2).
# It ends with a table of before and after, and with what the model writes before and after.
set -eu
cd "$(dirname "$0")/.."

example=examples/stories
finetune=$example/finetune.pbtxt
base=$example/base.pbtxt
run=runs/stories # as finetune.pbtxt says
dtrain=build/dtrain

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# A number out of lines of JSON: what stands behind "NAME": first in its line, in the last line that has it.
field() {
    awk -v key="\"$1\":" '{ i = index($0, key) } i { x = substr($0, i + length(key)) + 0 } END { printf "%.9g", x }'
}
bytes() { # bytes COUNT, as people read it
    awk -v n="$1" 'BEGIN {
        split("B kB MB GB TB", unit)
        for (i = 1; n >= 1000 && i < 5; i++) n /= 1000
        printf((i > 1 ? "%.1f %s" : "%d %s"), n, unit[i])
    }'
}
# Prompt and completion of a held-out row. Its only escapes are \n and \".
row() { sed -n "$1p" "$example/eval.jsonl"; }
prompt() { printf '%b' "$(row "$1" | sed 's/^{"prompt": "\(.*\)", "completion": ".*/\1/; s/\\"/"/g')"; }
completion() { row "$1" | sed 's/.*"completion": " \(.*\)"}$/\1/'; }
generate() { $dtrain generate "$@" --max-tokens 60 | tr '\n' ' ' | sed 's/^ *//'; }

launch/setup.sh

say "The backbone before: held-out loss on a task it has never seen"
$dtrain eval $base --json >build/before.json
before=$(field eval_loss <build/before.json)

say "Training: 4 ranks, data 2 x tensor 2"
start=$(date +%s)
launch/mpirun.sh -np 4 $dtrain $finetune --fresh
seconds=$(($(date +%s) - start))

plan=$($dtrain plan $finetune --ranks 4 --json)
all=$(echo "$plan" | field backbone_values)
trained=$(echo "$plan" | field trainable_values)
full_wire=$(echo "$plan" | field full_comm_bytes)
wire=$(field delta_comm_bytes <$run/metrics.jsonl)
after=$(field eval_loss <$run/metrics.jsonl)
delta_disk=$(cat $run/ckpt/step-*/delta-*.safetensors | wc -c)
backbone_disk=$(cat $example/backbone/*.safetensors | wc -c)

line() { printf '  %-34s %16s %16s\n' "$@"; }
say "After $seconds s of training"
line '' before after
line 'held-out loss, nats a token' "$(printf %.3f "$before")" "$(printf %.3f "$after")"
line '' 'all of it' 'the delta'
line 'trained values' "$all" "$trained ($(awk -v a="$trained" -v b="$all" 'BEGIN { printf "%.1f%%", 100 * a / b }'))"
line 'all-reduced a step, each rank' "$(bytes "$full_wire")" "$(bytes "$wire")"
line 'on disk' "$(bytes "$backbone_disk")" "$(bytes "$delta_disk")"

for i in 1 2; do
    say "Sample $i"
    prompt $i
    printf '\n  before:    %s\n' "$(generate $base --prompt "$(prompt $i)")"
    printf '  after:     %s\n' "$(generate $finetune --set parallel.tensor=1 --prompt "$(prompt $i)")"
    printf '  the facts: %s\n' "$(completion $i)"
done
printf '\nThe delta is in %s; docs/config.md tells what else can be configured.\n' "$run/ckpt"
