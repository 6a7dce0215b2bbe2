#!/bin/sh
# pretrain.sh: makes the example's backbone from nothing: rows and tokenizer from the generator, weights by training all
# of them (method full) from random ones. The result is backbone/model.safetensors, which is in the repository.
# About 15 minutes on two cores. The result depends on the processor's arithmetic: expect it to differ in the last digits.
set -eu
cd "$(dirname "$0")/../.."
here=examples/stories
run=runs/stories-pretrain

launch/setup.sh
cmake --build build --target storygen bpe_train

mkdir -p $run
build/storygen text 1 4000 | build/bpe_train 1024 >$here/backbone/tokenizer.json
build/storygen task 2 1000 train >$here/train.jsonl
build/storygen task 3 200 eval >$here/eval.jsonl
build/storygen text 1 40000 >$run/text.jsonl
build/storygen text 4 400 >$run/held-out.jsonl

build/dtrain $here/pretrain.pbtxt --fresh
# Trained whole on one tensor rank, a checkpoint of the method full is a backbone: same names, same shapes.
cp "$(ls -d $run/ckpt/step-* | tail -n 1)"/delta-00000-of-00001.safetensors $here/backbone/model.safetensors
