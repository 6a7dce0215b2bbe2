#!/bin/sh
# example.sh BUILD: the rows and the tokenizer of examples/stories are what its recipe makes, byte for byte.
set -eu
tools=$(cd "$1" && pwd)
cd "$(dirname "$0")/../examples/stories"
made=$(mktemp -d)
mkdir "$made/backbone"
trap 'rm -rf "$made"' EXIT

"$tools/storygen" text 1 4000 | "$tools/bpe_train" 1024 >"$made/backbone/tokenizer.json"
"$tools/storygen" task 2 1000 train >"$made/train.jsonl"
"$tools/storygen" task 3 200 eval >"$made/eval.jsonl"
for file in backbone/tokenizer.json train.jsonl eval.jsonl; do
    cmp "$made/$file" "$file"
done
