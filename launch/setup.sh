#!/bin/sh
# setup.sh [--tests] [--sanitize]: installs what this machine lacks of what dtrain is built from (packages of Debian 12
# and Ubuntu 24.04), then builds build/dtrain; with --tests, everything that tests/run.sh needs too; with --sanitize, into
# build-asan/ with AddressSanitizer and UndefinedBehaviorSanitizer. What is there is left alone.
set -eu
cd "$(dirname "$0")/.."

build=build
tests=OFF
sanitize=OFF
for option; do
    case $option in
    --tests) tests=ON ;;
    --sanitize) sanitize=ON build=build-asan ;;
    *) echo "usage: launch/setup.sh [--tests] [--sanitize]" >&2 && exit 2 ;;
    esac
done

say() { echo "setup: $*"; }
die() { say "$*" >&2 && exit 1; }
# Keeps what a command prints for when it fails.
quietly() {
    "$@" >>$build/setup.log 2>&1 || {
        tail -n 30 $build/setup.log >&2
        die "this failed: $* (all of its output: $build/setup.log)"
    }
}

# What is needed is probed for, not asked of the package manager: on a cluster it may come from a module.
have_command() { command -v "$1" >/dev/null; }
have_library() { have_command pkg-config && pkg-config --exists "$1"; }
have_header() { have_command cc && echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1; }
have_cmake() {
    have_command cmake && cmake --version | awk '{ split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 22)) }'
}

missing() {
    need() { # need PACKAGE PROBE...: the package, if the probe fails
        package=$1
        shift
        "$@" || printf ' %s' "$package"
    }
    need build-essential have_header stdio.h
    need cmake have_cmake
    need ninja-build have_command ninja
    need pkg-config have_command pkg-config
    need libopenmpi-dev have_command mpicc
    need openmpi-bin have_command mpirun
    need libdnnl-dev have_header dnnl.h
    need protobuf-c-compiler have_command protoc-c
    need libprotobuf-c-dev have_library libprotobuf-c
    need libcjson-dev have_library libcjson
    need libpcre2-dev have_library libpcre2-8
    need libutf8proc-dev have_library libutf8proc
    need libxxhash-dev have_library libxxhash
    if [ $tests = ON ]; then
        need libcriterion-dev have_library criterion
        need protobuf-compiler have_command protoc
    fi
}

# What the tests can do without: the fuzzers are then skipped.
have_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data && size ? 0 : 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o $build/probe - 2>/dev/null
}

install_fuzzer() {
    apt="apt-get"
    [ "$(id -u)" = 0 ] || apt="sudo -n $apt"
    have_command apt-get || return 1
    say "installing clang libclang-rt-dev"
    # shellcheck disable=SC2086 # words, not one
    $apt -qq -o DPkg::Lock::Timeout=400 update && $apt -qq -o DPkg::Lock::Timeout=400 install -y \
        --no-install-recommends clang libclang-rt-dev
}

install_packages() {
    root=
    if [ "$(id -u)" != 0 ]; then
        have_command sudo || die "these packages are missing, and without root or sudo they cannot be installed:$packages"
        root=sudo
    fi
    have_command apt-get || die "these packages (names as in Debian) are missing; please install them:$packages"
    say "installing$packages"
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=400"
    # shellcheck disable=SC2086 # words, not one
    quietly $apt update
    # shellcheck disable=SC2086
    quietly $apt install -y --no-install-recommends $packages
    packages=$(missing)
    [ -z "$packages" ] || die "installed, but not found by cc, cmake or pkg-config on this PATH:$packages"
}

mkdir -p $build
: >$build/setup.log
packages=$(missing)
if [ -n "$packages" ]; then install_packages; else say "nothing to install"; fi

what="$build/dtrain"
target='--target dtrain'
if [ $tests = ON ]; then what="$what and the tests" target=; fi
if [ $tests = ON ] && ! have_fuzzer; then
    { install_fuzzer && have_fuzzer; } >>$build/setup.log 2>&1 ||
        say "no clang with its fuzzer runtime (packages clang, libclang-rt-dev): the fuzzers will be skipped"
fi
say "building $what"
generator=
[ -f $build/CMakeCache.txt ] || generator='-G Ninja'
# shellcheck disable=SC2086
quietly cmake -S . -B $build $generator -DDT_TESTS=$tests -DDT_SANITIZE=$sanitize
# shellcheck disable=SC2086
quietly cmake --build $build --parallel "$(nproc)" $target
