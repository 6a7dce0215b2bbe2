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

apt_get() { # apt_get ROOT ARGUMENT...: as root by the words of ROOT ("": this is root)
    root=$1
    shift
    # shellcheck disable=SC2086 # words, not one
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=400 "$@"
}

install_packages() {
    root=
    if [ "$(id -u)" != 0 ]; then
        have_command sudo || die "these packages are missing, and without root or sudo they cannot be installed:$packages"
        root=sudo
    fi
    have_command apt-get || die "these packages (names as in Debian) are missing; please install them:$packages"
    say "installing$packages"
    quietly apt_get "$root" update
    # shellcheck disable=SC2086 # words, not one
    quietly apt_get "$root" install -y --no-install-recommends $packages
    packages=$(missing)
    [ -z "$packages" ] || die "installed, but not found by cc, cmake or pkg-config on this PATH:$packages"
}

# clang and the runtime of its fuzzers. The tests can do without: where there is no way to them, the fuzzers are skipped.
install_fuzzer() {
    if tests/fuzz.sh --probe; then return; fi
    say "installing clang libclang-rt-dev"
    root=
    [ "$(id -u)" = 0 ] || root="sudo -n"
    {
        apt_get "$root" update && apt_get "$root" install -y --no-install-recommends clang libclang-rt-dev &&
            tests/fuzz.sh --probe
    } >>$build/setup.log 2>&1 || say "they cannot be installed (see $build/setup.log): the fuzzers will be skipped"
}

mkdir -p $build
: >$build/setup.log
packages=$(missing)
if [ -n "$packages" ]; then install_packages; else say "nothing to install"; fi

what="$build/dtrain"
target='--target dtrain'
if [ $tests = ON ]; then what="$what and the tests" target=; fi
if [ $tests = ON ]; then install_fuzzer; fi
say "building $what"
generator=
[ -f $build/CMakeCache.txt ] || generator='-G Ninja'
# shellcheck disable=SC2086
quietly cmake -S . -B $build $generator -DDT_TESTS=$tests -DDT_SANITIZE=$sanitize
# shellcheck disable=SC2086
quietly cmake --build $build --parallel "$(nproc)" $target
