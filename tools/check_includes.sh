#!/bin/sh
# check_includes.sh [ROOT]: holds the direction of includes. A file of src/<layer>/ may include its own layer and the
# layers above it in the list below, never one below; layers on one line do not know each other.
set -eu
cd "${1:-$(dirname "$0")/..}"

# From the top down. docs/architecture.md says what each is for.
layers='
base
config
device
comm
graph
op
model
delta optim
data
train
cli
'

grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' src --include='*.[ch]' --include='*.cu' --include='*.def' |
    awk -v layers="$layers" '
    BEGIN {
        lines = split(layers, line, "\n")
        for (i = 1; i <= lines; i++) {
            n = split(line[i], name, " ")
            for (j = 1; j <= n; j++) level[name[j]] = i
        }
    }
    {
        split($0, field, ":")
        split(field[1], path, "/")
        from = path[2]
        match($0, /"[^"]*"/)
        to = substr($0, RSTART + 1, RLENGTH - 2)
        if (path[3] == "") from = "main"        # src/main.c may include everything
        if (to ~ /\.pb-c\.h$/) to = "config/" to # generated from config/dtrain.proto
        sub(/\/.*/, "", to)
        if (from != "main" && !(from in level)) complain("layer \"" from "\" is not in the list")
        else if (!(to in level)) complain("names no layer: write \"layer/file.h\"")
        else if (from != "main" && from != to && level[to] >= level[from])
            complain("\"" from "\" may not include \"" to "\", which is " (level[to] > level[from] ? "below" : "beside") " it")
    }
    function complain(what) { print field[1] ":" field[2] ": " what; bad++ }
    END {
        if (NR == 0) { print "no includes found: wrong folder?"; bad++ }
        if (bad) exit 1
        print NR " includes, all of them upwards"
    }'
