#!/bin/sh
# acceptance.sh [--bin FOLDER] [--device CUDA|CPU] [--python PYTHON] [--log FOLDER] [--quick] [PART]...: what is asked
# of dtrain on a GPU, a line each: ok, FAILED or skipped; what; the figure; its limit. Correctness comes before speed.
# FOLDER has dtrain, run_diff, gpu_* and mpirun: a bundle's bin (launch/bundle.sh --tests), the default where this lies in
# one, else made of build/. Without a GPU it ends with 77 ("skipped"). --device CPU takes the CPU for the GPU, to test
# this script.
#
# Parts, by default all, in this order:
#
#     errors     without a GPU that it may use, device: CUDA ends with one line and an exit code
#     ops        gpu_ops and its like: every op against the CPU in float64, fp32 within 1e-5, bf16 within 1e-2 of the norm
#     memcheck   the same under compute-sanitizer's memcheck
#     racecheck  ... and racecheck
#     train      20 steps of stories260k and of random Llama, Qwen3 and GPT-2 as on the CPU: losses within 1e-4 in fp32,
#                1e-2 in bf16
#     recorded   steps replayed as CUDA graphs have the bits of steps run call by call (--profile)
#     ranks      two ranks on one GPU, as data and as tensor ranks, have the losses of one
#     masks      FISH chooses on the GPU what it chooses on the CPU, but for one entry in a thousand
#     resume     a run that was interrupted is the whole one's bits
#     bench1B    bench/gpu/run.py: speed and memory beside PEFT; PYTHON (python3) has torch, transformers and peft
#     bench8B    ... of the larger model, whose 16 GB go to TMPDIR
#
# --quick is for a GPU that is lent by the minute, and meant to fit in fifteen: the benchmarks take one size of a
# micro-batch and the two fastest ways of the peer; the sanitizers, last, one program each for two minutes at most.
#
# Each command's output is in the log's folder. Exit code 0 if every line is ok or skipped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n '2s/# \(.*\):.*/usage: \1/p' "$0" >&2 && exit 2; }

bin='' device=CUDA python=python3 log=acceptance-log quick=''
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 && shift && continue ;;
    --bin) bin=$2 ;;
    --device) device=$2 ;;
    --python) python=$2 ;;
    --log) log=$2 ;;
    -*) usage ;;
    *) break ;;
    esac
    shift 2 || usage
done
sanitizer_seconds=300 micro_1B=1,4 micro_8B=1,2
parts='errors ops memcheck racecheck train recorded ranks masks resume bench1B bench8B'
if [ -n "$quick" ]; then
    sanitizer_seconds=120 micro_1B=4 micro_8B=1
    parts='errors ops train recorded ranks masks resume bench1B bench8B memcheck racecheck'
fi
# shellcheck disable=SC2086 # words
[ $# -gt 0 ] || set -- $parts

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$log"
log=$(cd "$log" && pwd)
failed=0

# A bundle, or the repository.
top=$here/..
if [ ! -d "$top/examples" ]; then top=$here/../..; fi
top=$(cd "$top" && pwd)
if [ -z "$bin" ]; then
    bin=$top/bin
    if [ ! -d "$bin" ]; then
        bin=$work/bin
        mkdir "$bin"
        ln -s "$top/build/dtrain" "$top/build/run_diff" "$top"/build/tests/gpu_* "$bin"
        ln -s "$top/launch/mpirun.sh" "$bin/mpirun"
    fi
fi
stories=$top/examples/stories260k # in a bundle; beside the repository
[ -d "$stories" ] || stories=$top/../shared/data/stories260k

report() { # report STATUS WHAT FIGURE [LIMIT]
    printf '%-8s %-52s %-34s %s\n' "$1" "$2" "$3" "${4-}" | tee -a "$log/table"
    case $1 in FAILED) failed=1 ;; esac
}
# limited SECONDS NAME COMMAND...: its output in the log; fails where the command does, or takes too long.
limited() {
    seconds=$1 name=$2
    shift 2
    timeout -k 5 "$seconds" "$@" >"$log/$name.log" 2>&1
}
why() { tail -n 1 "$log/$1.log" | cut -c 1-60; }
within() { awk -v x="$1" -v most="$2" 'BEGIN { exit !(x != "" && x + 0 <= most + 0) }'; }
field() { sed -n "s/.*\"$2\":\\([^,}]*\\).*/\\1/p" "$work/$1/metrics.jsonl"; }

# ---- models and configurations ----

# model NAME KEYS: a backbone of random weights with stories260k's tokenizer, or the example's.
model() {
    mkdir -p "$work/shape"
    cp "$tokenizer" "$work/shape/tokenizer.json"
    echo "{\"model_type\": \"$1\", $vocabulary, \"initializer_range\": 0.1, $2}" >"$work/shape/config.json"
    limited 60 "init-$1" "$bin/dtrain" init "$work/shape" "$work/models/$1" || report FAILED "init of $1" "$(why "init-$1")"
}
make_models() {
    if [ -d "$work/models" ]; then return; fi
    mkdir "$work/models"
    source=$top/examples/stories/backbone
    if [ -d "$stories" ]; then source=$stories && ln -s "$stories" "$work/models/stories260k"; fi
    tokenizer=$source/tokenizer.json
    vocabulary=$(grep -Eo '"(vocab_size|bos_token_id|eos_token_id)": *[0-9]+' "$source/config.json" | paste -sd,)
    rope='"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0'
    model llama "$rope, \"tie_word_embeddings\": true"
    model qwen3 "$rope, \"head_dim\": 128, \"tie_word_embeddings\": false"
    model gpt2 '"n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 512'
}
rows=$top/examples/stories/train.jsonl
lora='lora { rank: 16 alpha: 16 } target: "re:.*[.]attn[.][qkvo]" target: "re:.*[.]ffn[.].*"'
delta=$lora

# train RUN NP MODEL DEVICE PRECISION [SETTING]...: 20 steps of $delta into $work/RUN on NP ranks; goes on where the run was
# interrupted. SETTING: of --set, or an option.
train() {
    run=$1 np=$2 backbone=$3 on=$4 precision=$5
    shift 5
    cat >"$work/config.pbtxt" <<EOF
run { dir: "$work/$run" seed: 1 }
backbone { path: "$work/models/$backbone" precision: $precision }
delta { name: "d" $delta }
data { train { jsonl: "$rows" } seq_len: 128 loss_on: BOTH }
train { steps: 20 global_batch: 8 micro_batch: 2 }
optim { adamw { lr: 2e-3 } }
device: $on
EOF
    launch=
    if [ "$np" -gt 1 ]; then launch="$bin/mpirun -np $np"; fi
    for word; do
        case $word in --*) set -- "$@" "$word" ;; *) set -- "$@" --set "$word" ;; esac
        shift
    done
    # shellcheck disable=SC2086 # words, or none
    limited "${limit:-300}" "$run" $launch "$bin/dtrain" "$work/config.pbtxt" "$@"
}

# same_losses WHAT A B LIMIT: judged by the losses; gradient norms are told.
same_losses() {
    limited 60 compare "$bin/run_diff" "$work/$2" "$work/$3" 1e9 - || true
    loss=$(sed -n 's/^loss \([^ ]*\) .* over 20 steps.*/\1/p' "$log/compare.log")
    if within "$loss" "$4"; then report ok "$1" "$(why compare)" "<= $4"; else
        report FAILED "$1" "$(why compare)" "<= $4"
    fi
}
fp32=FP32 bf16=BF16
if [ "$device" = CPU ]; then bf16=NATIVE; fi

# ---- parts ----

check_errors() {
    make_models
    status=0
    if [ "$device" = CPU ]; then return; fi
    CUDA_VISIBLE_DEVICES='' train none 1 llama CUDA "$bf16" || status=$?
    lines=$(grep -c '' "$log/none.log")
    if [ "$status" = 1 ] && [ "$lines" = 1 ] && grep -q '^dtrain: device: CUDA: ' "$log/none.log"; then
        report ok "no GPU to use" "exit code $status, $lines line" "not 0, 1 line"
    else
        report FAILED "no GPU to use" "exit code $status, $lines lines" "not 0, 1 line"
    fi
}

ops() { # ops WHAT SECONDS COMMAND...: each program of ops, run by COMMAND
    what=$1 seconds=$2
    shift 2
    programs=$(echo "$bin"/gpu_*)
    if [ -n "$quick" ] && [ $# -gt 0 ]; then programs=$bin/gpu_attention; fi # the kernels that share the most
    for program in $programs; do
        name=$what-${program##*/} status=0 word=
        if [ "$device" = CPU ]; then word=cpu; fi
        # shellcheck disable=SC2086 # a word or none
        limited "$seconds" "$name" "$@" "$program" $word || status=$?
        case $status in
        0) report ok "$name" "$(grep 'worst' "$log/$name.log" | cut -c 1-60 | paste -sd';')" "fp32 1e-5, bf16 1e-2" ;;
        77) report skipped "$name" "$(why "$name")" ;;
        *) report FAILED "$name, exit code $status" "$(grep -c '^FAIL' "$log/$name.log") bad; $(why "$name")" ;;
        esac
    done
}
check_ops() { ops ops 300; }
sanitize() {
    tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    if [ -x "$tool" ]; then
        ops "$1" "$sanitizer_seconds" "$tool" --tool "$1" --error-exitcode 9
        grep -h 'SUMMARY' "$log/$1"-*.log | sed 's/^/         /'
    else
        report skipped "$1" "no compute-sanitizer"
    fi
}
check_memcheck() { sanitize memcheck; }
check_racecheck() { sanitize racecheck; }

check_train() {
    make_models
    for backbone in "$work"/models/*; do
        backbone=${backbone##*/}
        if ! train "$backbone-cpu" 1 "$backbone" CPU NATIVE; then
            report FAILED "$backbone on the CPU" "$(why "$backbone-cpu")" && continue
        fi
        for p in "$fp32 1e-4" "$bf16 1e-2"; do
            if ! train "$backbone-${p% *}" 1 "$backbone" "$device" "${p% *}"; then
                report FAILED "$backbone, ${p% *}" "$(why "$backbone-${p% *}")" && continue
            fi
            same_losses "$backbone, ${p% *}, beside the CPU" "$backbone-cpu" "$backbone-${p% *}" "${p#* }"
        done
    done
}

# identical WHAT A B: losses, gradient norms and the checkpoints are the same bits.
identical() {
    if limited 60 compare "$bin/run_diff" "$work/$2" "$work/$3" 0 0; then report ok "$1" "$(why compare)" "equal bits"; else
        report FAILED "$1" "$(why compare)" "equal bits"
    fi
}

check_recorded() {
    make_models
    for p in $fp32 $bf16; do
        train "replayed-$p" 1 llama "$device" "$p" && train "called-$p" 1 llama "$device" "$p" --profile || {
            report FAILED "recorded, $p" "$(why "replayed-$p")" && continue
        }
        identical "replayed beside called, $p" "replayed-$p" "called-$p"
    done
    report ok "step of the small Llama, recorded and called, s" \
        "$(field "replayed-$bf16" seconds | tail -n 1) $(field "called-$bf16" seconds | tail -n 1)"
}

check_ranks() {
    make_models
    for p in "$fp32 1e-4" "$bf16 1e-2"; do
        precision=${p% *}
        train "one-$precision" 1 llama "$device" "$precision" || report FAILED "one rank" "$(why "one-$precision")"
        for tensor in 1 2; do
            two=two-$tensor-$precision
            if train "$two" 2 llama "$device" "$precision" "parallel.tensor=$tensor"; then
                same_losses "two ranks, tensor $tensor, $precision" "one-$precision" "$two" "${p#* }"
            else
                report FAILED "two ranks, tensor $tensor, $precision" "$(why "$two")"
            fi
        done
    done
}

check_masks() {
    make_models
    delta='fish { keep: 0.005 samples: 64 }'
    if train mask-cpu 1 llama CPU NATIVE train.steps=1 && train mask-fp32 1 llama "$device" "$fp32" train.steps=1 &&
        train mask-bf16 1 llama "$device" "$bf16" train.steps=1 &&
        train mask-fast 1 llama "$device" "$bf16" train.steps=1 delta.fish.precision=AS_TRAINING; then
        for p in fp32 bf16 fast; do
            counts=$("$bin/run_diff" "$work/mask-cpu" "$work/mask-$p" - masks)
            if [ $((1000 * ${counts% of *})) -le "${counts#* of }" ]; then status=ok; else status=FAILED; fi
            if [ "$p" = fast ]; then status=told; fi # other gradients, other neighbours of the threshold
            report "$status" "FISH mask beside the CPU's, $p" "$counts entries differ" "<= 0.1%"
        done
    else
        report FAILED "FISH mask" "$(why mask-cpu); $(why mask-bf16)"
    fi
    delta=$lora
}

check_resume() {
    make_models
    for p in $fp32 $bf16; do
        if train "whole-$p" 1 llama "$device" "$p" && train "parts-$p" 1 llama "$device" "$p" train.steps=9 &&
            train "parts-$p" 1 llama "$device" "$p"; then
            identical "resumed at step 9, $p" "whole-$p" "parts-$p"
        else
            report FAILED "resumed, $p" "$(why "whole-$p"); $(why "parts-$p")"
        fi
    done
}

bench() { # bench NAME ARGUMENT...
    name=$1
    shift
    for module in torch transformers peft; do
        "$python" -c "import $module" 2>/dev/null || { report skipped "$name" "no $module in $python" && return; }
    done
    timeout -k 5 1500 "$python" "$top/bench/gpu/run.py" "$bin/dtrain" --python "$python" --log "$log/$name.json" \
        --limit 400 "$@" ${quick:+--steps 4 --peer half,half+compile} 2>&1 | tee "$log/$name.log"
    grep -E '^(ok|FAILED|-)  ' "$log/$name.log" >>"$log/table" || true
    if grep -Eq '^FAILED|^Traceback' "$log/$name.log" || [ ! -f "$log/$name.json" ]; then failed=1; fi
}
check_bench1B() {
    if [ "$device" = CPU ]; then bench bench --device cpu --model tiny --micro 1,2 --steps 2 --peer plain; else
        bench bench1B --model 1B --micro "$micro_1B"
    fi
}
check_bench8B() { if [ "$device" = CUDA ]; then bench bench8B --model 8B --micro "$micro_8B"; fi; }

: >"$log/table"
if [ "$device" = CUDA ]; then
    make_models
    if ! train probe 1 llama CUDA NATIVE train.steps=1 && grep -q 'device: CUDA: ' "$log/probe.log"; then
        echo "skipped: $(tail -n 1 "$log/probe.log")"
        exit 77
    fi
fi
for part; do
    case $part in
    errors | ops | memcheck | racecheck | train | recorded | ranks | masks | resume | bench1B | bench8B) "check_$part" ;;
    *) usage ;;
    esac
done
exit $failed
