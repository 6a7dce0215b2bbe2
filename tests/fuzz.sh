#!/bin/sh
# fuzz.sh [SECONDS [TARGET...]]: builds the fuzz targets (tests/fuzz) with clang into build-fuzz/ and runs each for SECONDS
# (default 2), as many at a time as there are cores. Ends non-zero if anything was found: the inputs are then in
# build-fuzz/found/. What one run learns, in build-fuzz/corpus/, the next one starts from. Without clang and its fuzzer
# runtime (package libclang-rt-dev) it says so and ends with 77.
#
# A finding is a crash, what a sanitizer reports, a property that does not hold, an input that takes over 5 seconds, one
# that takes over 1 GiB of memory or a single allocation over 256 MiB. Mend the cause, give the input a name and keep it in
# tests/fuzz/corpus/TARGET/, where ctest replays it.
#
# fuzz.sh --probe: is there such a clang?
set -eu
cd "$(dirname "$0")/.."
mkdir -p build-fuzz/found

have_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data && size ? 0 : 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o build-fuzz/probe - 2>/dev/null
}
if [ "${1:-}" = --probe ]; then
    have_fuzzer
    exit
fi

seconds=${1:-2}
[ $# = 0 ] || shift

say() { echo "fuzz: $*"; }

if [ "${FUZZ_ONE:-}" ]; then # one target, as called below
    target=$FUZZ_ONE
    log=build-fuzz/$target.log
    mkdir -p build-fuzz/corpus/"$target"
    set -- -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=8192 -len_control=20 \
        -print_final_stats=1 -verbosity=1 -artifact_prefix=build-fuzz/found/"$target"-
    [ ! -f tests/fuzz/"$target".dict ] || set -- "$@" -dict=tests/fuzz/"$target".dict
    start=$(date +%s)
    status=0
    build-fuzz/tests/fuzz/fuzz_"$target" "$@" build-fuzz/corpus/"$target" tests/fuzz/corpus/"$target" 2>"$log" >&2 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    say "$target: ${runs:-?} executions in $(($(date +%s) - start)) s: $([ $status = 0 ] && echo "no finding" || echo FINDING)"
    [ $status = 0 ] || sed '/^#[0-9]/d' "$log" | tail -n 40 >&2
    exit $status
fi

have_fuzzer || {
    say "skipped: no clang with its fuzzer runtime (packages clang, libclang-rt-dev)"
    exit 77
}
[ -f build-fuzz/CMakeCache.txt ] || generator='-G Ninja'
{
    # shellcheck disable=SC2086 # words, or nothing
    cmake -S . -B build-fuzz ${generator:-} -DCMAKE_C_COMPILER=clang -DDT_FUZZ=ON -DDT_WERROR=OFF &&
        cmake --build build-fuzz --parallel "$(nproc)"
} >build-fuzz/build.log 2>&1 || {
    tail -n 30 build-fuzz/build.log >&2
    say "does not build" >&2
    exit 1
}
if [ $# = 0 ]; then
    for file in tests/fuzz/*.c; do set -- "$@" "$(basename "$file" .c)"; done
fi

TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" dtrain-fuzz-XXXXXX) # many small files
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
printf '%s\n' "$@" | xargs -P "$(nproc)" -I '{}' env FUZZ_ONE='{}' tests/fuzz.sh "$seconds"
