#!/bin/sh
# bundle.sh BUILD: a bundle of BUILD, moved to another place, trains with an empty environment: one process and two ranks
# to the same losses, and out of the system it opens nothing but glibc. Skipped (77) without Open MPI 4's ompi_info.
set -eu
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

if ! ompi_info --version 2>/dev/null | grep -q '^Open MPI v4'; then
    echo "skipped: a bundle carries Open MPI 4, and there is no ompi_info of it here"
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
fail() { echo "FAIL: $*" >&2 && exit 1; }

launch/bundle.sh "$build" "$work/made here"
mv "$work/made here" "$work/a place"
bundle="$work/a place"

cat >"$work/config.pbtxt" <<EOF
backbone { path: "examples/stories/backbone" }
delta { lora { rank: 4 } target: "re:.*_proj" }
data { train { jsonl: "examples/stories/train.jsonl" examples: 16 } seq_len: 64 loss_on: BOTH }
train { steps: 2 global_batch: 4 }
EOF
mkdir "$work/opened"
bare() { timeout -k 5 300 env -i OMP_NUM_THREADS=1 HOME="$work" PATH=/usr/bin:/bin "$@"; }
bare LD_DEBUG=files LD_DEBUG_OUTPUT="$work/opened/one" "$bundle/bin/dtrain" "$work/config.pbtxt" --set "run.dir=$work/one"
bare LD_DEBUG=files LD_DEBUG_OUTPUT="$work/opened/two" "$bundle/bin/mpirun" -np 2 \
    "$bundle/bin/dtrain" "$work/config.pbtxt" --set "run.dir=$work/two" --set parallel.tensor=2

# What the loader opened for the bundle's own programs, by their traces.
grep -l 'calling init:.*/a place/lib/libopen-rte' "$work"/opened/* | tr '\n' '\0' | xargs -0 cat |
    sed -n 's/.*calling init: //p' | sort -u >"$work/loaded"
grep -q '/a place/lib/openmpi/mca_pml_ob1.so$' "$work/loaded" || fail "no plugin of the bundle was opened"
others=$(grep -v '/a place/' "$work/loaded" | grep -Ev '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|nss_[^/]*))\.so[^/]*$' || true)
[ -z "$others" ] || fail "these were opened out of the system: $others"

# A text of Open MPI's help is found.
bare "$bundle/bin/mpirun" -np 1 no-such-program >"$work/said" 2>&1 && fail "mpirun started a program that is not there"
grep -q 'unable to find the specified executable' "$work/said" || fail "mpirun has lost its help: $(cat "$work/said")"

losses() { sed -n 's/.*"loss":\([0-9.]*\).*/\1/p' "$work/$1/metrics.jsonl"; }
losses one >"$work/losses"
losses two | paste "$work/losses" - | awk '
    { off = ($1 - $2) / $1; if (off < 0) off = -off; if (!(off <= 1e-5)) bad = 1; print "step", NR, $1, $2 }
    END { exit bad || NR != 2 }' || fail "one process and two ranks differ"
