#!/bin/sh
# acceptance.sh BUILD [CHECK]...: the checks of training that take too long for every change, a line each with its
# figure. BUILD: folder with dtrain and run_diff. CHECK, by default all of them:
#
#     layouts   50 losses and gradient norms on 1x1, 4x1, 1x4, 2x2 and 16x4 (data x tensor) ranks, sequence parallelism
#               off and on, AdamW and SGD without clipping, LoRA, FISH and full; more tensor ranks than kv heads; dropout
#     families  the same on 4x1, 1x4 and 2x2 for Mistral with a window shorter than the sequence, Qwen2, Qwen3 and GPT-2 of
#               random weights
#     masks     entries of a FISH mask that depend on the layout, over ten seeds
#     repeat    the same layout twice gives the same bits
#     kill      a rank killed at random moments, and while a checkpoint is written: the job ends within 10 s; resumed on
#               the same layout it gives the same bits, on another what is within 1e-5
#     wire      bytes that each of four hosts sends per step (root and iproute2)
#     many      64 ranks of the example's configuration in under two minutes
#
# The backbone is stories260k with the rows of e2e where shared/data lies beside the repository, else the example's.
# Exit code 0 if every check holds.
set -eu

build=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- layouts families masks repeat kill wire many
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
failed=0

backbone=../shared/data/stories260k rows=../shared/data/e2e/train.jsonl
if [ ! -d "$backbone" ] || [ ! -f "$rows" ]; then
    backbone=examples/stories/backbone rows=examples/stories/train.jsonl
fi
# The same with random weights, of widths that eight ranks divide, and with that many kv heads.
for kv in 4 2; do
    mkdir "$work/kv$kv"
    cp "$backbone/tokenizer.json" "$work/kv$kv"
    sed "s/\"intermediate_size\": [0-9]*/\"intermediate_size\": 176, \"initializer_range\": 0.2/
         s/\"num_key_value_heads\": [0-9]*/\"num_key_value_heads\": $kv/" \
        "$backbone/config.json" >"$work/kv$kv/config.json"
done

report() { # report WHAT STATUS FIGURE
    if [ "$2" = 0 ]; then
        printf 'ok    %-44s %s\n' "$1" "$3"
    else
        printf 'FAIL  %-44s %s\n' "$1" "$3"
        failed=1
    fi
}

# config METHOD OPTIMIZER: writes $work/config.pbtxt.
config() {
    case $1 in
    lora) delta='lora { rank: 8 alpha: 16 } target: "re:.*_proj"' ;;
    dropout) delta='lora { rank: 8 alpha: 16 dropout: 0.2 } target: "re:.*_proj"' ;;
    roles) delta='lora { rank: 8 alpha: 16 } target: "re:.*[.]attn[.][qkvo]" target: "re:.*[.]ffn[.].*"' ;;
    fish) delta='fish { keep: 0.05 samples: 64 }' ;;
    full) delta='full {}' ;;
    esac
    case $2 in
    adamw) # the whole model takes a tenth of a delta's rate: beyond it, AdamW makes much of the last bit
        rate=2e-3
        [ "$1" != full ] || rate=2e-4
        optim="adamw { lr: $rate } schedule { kind: COSINE warmup_steps: 5 } clip_norm: 1"
        ;;
    sgd) optim='sgd { lr: 1e-2 } clip_norm: 0' ;;
    esac
    cat >"$work/config.pbtxt" <<EOF
run { dir: "$work/run" seed: 1 }
backbone { path: "$backbone" }
delta { name: "d" $delta }
data { train { jsonl: "$rows" } seq_len: 125 }
train { steps: 50 global_batch: 16 micro_batch: 1 }
optim { $optim }
EOF
}

# layout DATAxTENSOR[s]: sets `ranks`, and `sets` to the options that make it (s: with sequence parallelism).
layout() {
    sequence=false
    case $1 in *s) sequence=true ;; esac
    tensor=${1#*x}
    tensor=${tensor%s}
    ranks=$((${1%x*} * tensor))
    sets="--set parallel.tensor=$tensor --set parallel.sequence=$sequence"
}

# train RUN LAYOUT OPTION...: trains into $work/RUN.
train() {
    run=$work/$1
    layout "$2"
    shift 2
    # shellcheck disable=SC2086 # options are words
    launch/mpirun.sh -np "$ranks" "$build/dtrain" "$work/config.pbtxt" --set "run.dir=$run" $sets "$@" \
        >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        return 1
    }
}

# compare WHAT A B METRICS CHECKPOINT: run_diff's line, with tolerances.
compare() {
    status=0
    figure=$("$build/run_diff" "$work/$2" "$work/$3" "$4" "$5" 2>&1) || status=1
    report "$1" $status "$figure"
}

# compare_files WHAT A B: the last checkpoints' files, byte by byte.
compare_files() {
    status=0 n=0
    for file in "$work/$2"/ckpt/step-*50/*.safetensors; do
        cmp -s "$file" "$work/$3${file#"$work/$2"}" || status=1
        n=$((n + 1))
    done
    [ $n -gt 0 ] || status=1
    report "$1" $status "$n files are the same bytes"
}

# ---- layouts ----

# against_one METHOD OPTIMIZER LAYOUTS WHAT OPTION...: each layout against one rank. The checkpoints' values are free
# to differ, not so the sites and indices that were selected.
against_one() {
    name="$4${4:+ }$1 $2" layouts=$3
    config "$1" "$2"
    shift 4
    train one 1x1 --fresh "$@"
    for l in $layouts; do
        train other "$l" --fresh "$@"
        compare "$name $l" one other 1e-5 inf
        rm -rf "$work/other"
    done
    rm -rf "$work/one"
}

check_layouts() {
    for method in lora fish full; do
        for optimizer in adamw sgd; do against_one $method $optimizer "4x1 1x4 1x4s 2x2 2x2s 16x4 16x4s" ""; done
        for kv in 4 2; do
            against_one $method adamw "1x8s 2x4" "more ranks than $kv kv heads:" \
                --set "backbone.path=$work/kv$kv" --set backbone.random_init=true
        done
    done
    against_one dropout adamw "4x1 1x4 1x4s 2x2s 16x4s" ""
}

# family TYPE KEYS: writes $work/TYPE, a backbone with the tokenizer and the vocabulary of $backbone.
family() {
    mkdir "$work/$1"
    cp "$backbone/tokenizer.json" "$work/$1"
    vocabulary=$(grep -Eo '"(vocab_size|bos_token_id|eos_token_id)": *[0-9]+' "$backbone/config.json" | paste -sd,)
    echo "{\"model_type\": \"$1\", $vocabulary, \"initializer_range\": 0.1, $2}" >"$work/$1/config.json"
}

check_families() {
    rope='"hidden_size": 96, "intermediate_size": 208, "num_hidden_layers": 3, "num_attention_heads": 8,
        "num_key_value_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0'
    family mistral "$rope, \"sliding_window\": 24, \"tie_word_embeddings\": false"
    family qwen2 "$rope, \"use_sliding_window\": true, \"sliding_window\": 40, \"max_window_layers\": 1,
        \"tie_word_embeddings\": true"
    family qwen3 "$rope, \"head_dim\": 16, \"tie_word_embeddings\": false"
    family gpt2 '"n_embd": 96, "n_layer": 3, "n_head": 8, "n_positions": 512'
    for type in mistral qwen2 qwen3 gpt2; do
        for method in roles fish; do
            against_one $method adamw "4x1 1x4 1x4s 2x2 2x2s" "$type:" \
                --set "backbone.path=$work/$type" --set backbone.random_init=true
        done
    done
}

# Scores are sums that each layout rounds in its own way: of those that are all but equal to the threshold, another one
# may be chosen. A figure, not a promise: at most one in a thousand.
check_masks() {
    config fish adamw
    for l in 4x1 1x4 2x2s; do
        differ=0 total=0
        for s in 1 2 3 4 5 6 7 8 9 10; do
            train one 1x1 --fresh --set train.steps=1 --set optim.schedule.warmup_steps=0 --set run.seed=$s
            train other $l --fresh --set train.steps=1 --set optim.schedule.warmup_steps=0 --set run.seed=$s
            counts=$("$build/run_diff" "$work/one" "$work/other" - masks)
            differ=$((differ + ${counts% of *})) total=$((total + ${counts#* of }))
        done
        status=0
        [ $((1000 * differ)) -le $total ] || status=1
        report "fish masks on $l, ten seeds" $status "$differ entries of $total differ"
    done
    rm -rf "$work/one" "$work/other"
}

check_repeat() {
    for method in lora fish full; do
        config $method adamw
        train first 2x2s --fresh
        train again 2x2s --fresh
        compare "$method 2x2s twice" first again 0 0
        compare_files "$method 2x2s twice" first again
        rm -rf "$work/first" "$work/again"
    done
}

# ---- kill ----

seed=0
random() { # random LOW HIGH: an integer, both included
    seed=$((seed + 1))
    awk -v seed=$seed -v low="$1" -v high="$2" 'BEGIN { srand(seed); rand(); print low + int(rand() * (high - low + 1)) }'
}
runs() { case $(ps -o stat= -p "$1") in Z* | '') return 1 ;; esac; }
ranks_of() { ps -o pid= --ppid "$1"; } # the children of mpirun
is_saving() {
    set -- "$work"/killed/ckpt/*.tmp
    [ -e "$1" ]
}

# interrupt LAYOUT WHEN: starts or goes on with the run "killed", and kills a random rank at a random moment (any) or
# while a checkpoint is written (saving). The job must fail; `slowest` is the longest that one took to end. Returns 1
# if the job was done before.
interrupt() {
    layout "$1"
    # shellcheck disable=SC2086
    launch/mpirun.sh -np "$ranks" "$build/dtrain" "$work/config.pbtxt" --set "run.dir=$work/killed" $sets \
        --set checkpoint.every=2 >"$work/log" 2>&1 &
    job=$!
    until [ "$(ranks_of $job | wc -l)" = "$ranks" ]; do runs $job || break; done
    sleep "$(random 0 2).$(random 100 999)"
    if [ "$2" = saving ]; then
        until is_saving; do runs $job || break; done
    fi
    victim=$(ranks_of $job | sed -n "$(random 1 "$ranks")p")
    start=$(date +%s.%N)
    # shellcheck disable=SC2086
    if [ -z "$victim" ] || ! kill -KILL $victim; then
        wait $job || :
        return 1
    fi
    status=0
    wait $job || status=$?
    slowest=$(awk -v a="$start" -v b="$(date +%s.%N)" -v slowest="$slowest" \
        'BEGIN { t = b - a; print (t > slowest + 0 ? t : slowest) }')
    [ $status != 0 ] || all_failed=1
}

# interrupt_often LAYOUT WHEN TIMES METHOD
interrupt_often() {
    rm -rf "$work/killed"
    slowest=0 all_failed=0 times=0
    while [ $times -lt "$3" ]; do
        if interrupt "$1" "$2"; then times=$((times + 1)); else rm -rf "$work/killed"; fi
    done
    awk -v s="$slowest" 'BEGIN { exit s > 10 }' || all_failed=1
    report "$4 $1 killed $3 times ($2)" $all_failed "each job failed, within $(printf %.2f "$slowest") s"
}

check_kill() {
    for method in lora fish full; do
        config $method adamw
        for l in 2x2s 4x1; do
            train whole $l --fresh
            for when in any saving; do
                interrupt_often $l $when 6 $method
                train killed $l
                compare "$method $l resumed on $l" whole killed 0 0
                compare_files "$method $l resumed on $l" whole killed
            done
            to=1x4s
            [ $l = 2x2s ] || to=1x1
            interrupt_often $l any 1 $method
            train killed $to
            compare "$method $l resumed on $to" whole killed 1e-5 1e-5
            rm -rf "$work/whole" "$work/killed"
        done
    done
}

# ---- wire ----

# sent STEPS: the bytes that each host sent, a line each.
sent() {
    tools/hosts.sh 4 -x OMP_NUM_THREADS "$build/dtrain" "$work/config.pbtxt" --fresh \
        --set "train.steps=$1" --set 'delta[0].lora.rank=64' --set optim.schedule.warmup_steps=0 2>"$work/log" |
        sed -n 's/^host .* sent \(.*\) bytes$/\1/p'
}

check_wire() {
    if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null; then
        echo "skip  bytes on the wire: need root and iproute2"
        return
    fi
    config lora adamw
    sent 10 >"$work/few"
    sent 60 >"$work/more"
    payload=$(sed -n '$s/.*"delta_comm_bytes":\([0-9]*\).*/\1/p' "$work/run/metrics.jsonl")
    status=0
    # What starting and ending cost is in both.
    figure=$(paste "$work/few" "$work/more" | awk -v payload="$payload" '
        {
            sent = ($2 - $1) / 50
            off = sent / (1.5 * payload) - 1
            if (NR == 1 || off * off > worst * worst) { worst = off; most = sent }
        }
        END {
            printf "%.0f bytes a step and host for a payload of %d: %+.2f%% of 2(n-1)/n x payload", most, payload,
                100 * worst
            exit NR != 4 || worst > 0.03 || worst < -0.03
        }') || status=1
    report "lora 4x1 on four hosts" $status "$figure"
}

# ---- many ----

check_many() {
    start=$(date +%s)
    status=0
    launch/mpirun.sh -np 64 "$build/dtrain" examples/stories/finetune.pbtxt --fresh --set "run.dir=$work/many" \
        >"$work/log" 2>&1 || status=1
    seconds=$(($(date +%s) - start))
    [ $seconds -lt 120 ] || status=1
    report "64 ranks of the example" $status "$seconds s; $(tail -n 1 "$work/log")"
}

for check; do
    case $check in
    layouts | families | masks | repeat | kill | wire | many) "check_$check" ;;
    *) echo "acceptance.sh: $check is no check" >&2 && exit 2 ;;
    esac
done
exit $failed
