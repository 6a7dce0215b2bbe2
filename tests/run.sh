#!/bin/sh
# run.sh: sets up as launch/setup.sh does, then runs every test, then tests once more with AddressSanitizer and
# UndefinedBehaviorSanitizer, then the fuzzers for some seconds. Ends non-zero if anything failed.
set -eu
cd "$(dirname "$0")/.."

say() { echo "tests: $*"; }

launch/setup.sh --tests

# The format is that of clang-format 14; other versions differ in details.
if command -v clang-format >/dev/null; then
    version=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
    if find src tests tools -name '*.[ch]' -exec clang-format --dry-run -Werror {} + 2>build/format.log; then
        say "formatted as .clang-format says"
    elif [ "$version" = 14 ]; then
        cat build/format.log >&2
        say "not formatted as .clang-format says" >&2
        exit 1
    else
        say "clang-format $version would format otherwise; the project's format is that of version 14"
    fi
fi

failed=0
ctest --test-dir build --verbose --timeout 7200 || failed=1

launch/setup.sh --tests --sanitize
ctest --test-dir build-asan --verbose --timeout 7200 --tests-regex '^(unit|conform|train_sanitized|fuzz_.*)$' || failed=1

tests/fuzz.sh || [ $? = 77 ] || failed=1

if [ $failed = 1 ]; then say "some tests failed: see above" >&2; fi
exit $failed
