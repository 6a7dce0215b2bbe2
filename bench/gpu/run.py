#!/usr/bin/env python3
"""dtrain beside transformers + PEFT on a GPU: tokens a second, share of the card's matmul rate, memory.

    bench/gpu/run.py DTRAIN [--python PYTHON] [--model 1B,8B] [--parts lora,attention,fp8,fish,head] [--micro 1,2,4]
                     [--steps 6] [--peer MODE,MODE...] [--limit SECONDS] [--work FOLDER] [--log FILE]
    bench/gpu/run.py DTRAIN --device cpu --model tiny      the script itself, in a minute

DTRAIN is the program (build/dtrain, bundle/bin/dtrain). Losses and gradient norms are compared first; speed is told only
of what computes the same. README.md says how each figure is counted. Lines "ok" and "FAILED" hold the limits; ends with 1
if one failed.
"""
import argparse
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
sys.path.append(str(BENCH))
from common import TARGETS, WARM_UP, Dtrain, Job, Shape, run

SHAPES = {
    "1B": Shape(layers=16, width=2048, heads=32, kv=8, ffn=8192, vocab=128256, tied=True),
    "8B": Shape(layers=32, width=4096, heads=32, kv=8, ffn=14336, vocab=128256),
    "tiny": Shape(layers=2, width=128, heads=4, kv=2, ffn=256, vocab=512),
}
MODES = "half", "plain", "half+checkpoint", "half+compile", "half+checkpoint+compile"
ATTENTION = "mma", "wgmma", "cudnn"  # values of DTRAIN_ATTENTION
SHARE = {"1B": 0.60, "8B": 0.65}  # of the matmul rate, at least
FASTER, SMALLER, FP8, FISH, HEAD, BUSY, GAP = 1.5, 0.5, 1.3, 1.4, 1.1, 0.98, 50e-6


class CardMemory:
    """The most memory that the card had in use beyond what it had when this began, by nvidia-smi, ten times a second."""

    def __init__(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop-ms=100", "--id=" +
                 os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]]
        self.child = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        self.first = self.most = int(self.child.stdout.readline())
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.most = max(self.most, int(line))

    def peak(self):
        self.child.terminate()
        self.reader.join()
        self.child.wait()
        return (self.most - self.first) << 20


def flops_of_token(shape, seq):
    """4 a parameter that it is multiplied with (forward, and the gradient of the input), and causal attention: 2 products
    forward and 4 backward with half of the sequence on average."""
    return 4 * shape.in_matmuls() + 6 * shape.layers * shape.width * (seq + 1)


def products(shape):
    kv = shape.width // shape.heads * shape.kv
    c, f = shape.width, shape.ffn
    return [f"{n},{k}" for n, k in ((c, c), (kv, c), (f, c), (c, f), (shape.vocab, c))]


class Report:
    """Lines for people on stdout, and one JSON object in the end."""

    def __init__(self):
        self.figures, self.failed = {}, False

    def hold(self, what, figure, limit, at_least=True, judged=True):
        good = figure >= limit if at_least else figure <= limit  # false for NaN
        self.failed |= judged and not good
        word = ("ok" if good else "FAILED") if judged else "-"
        print(f"{word:7} {what:58} {figure:10.3g} {'>=' if at_least else '<='} {limit:g}", flush=True)
        self.figures[what] = figure

    def part(self, log, run_part):
        """Runs a part of a case; whatever becomes of it, the others have their turn and the figures are kept."""
        try:
            run_part()
        except (RuntimeError, OSError) as error:
            self.fail(run_part.__name__, str(error).splitlines()[0])
        if log:
            Path(log).write_text(json.dumps(self.figures, indent=1))

    def fail(self, what, why):
        self.failed = True
        print(f"FAILED  {what:58} {why}", flush=True)


class Case:
    def __init__(self, args, report, name, work):
        self.args, self.report, self.name = args, report, name
        self.gpu = args.device == "cuda"
        self.shape, self.micros = SHAPES[name], [int(m) for m in args.micro.split(",")]
        seq = 4096 if name != "tiny" else 128
        self.job = Job(seq=seq, batch=max(self.micros), rank=16)
        self.rows = 256 if self.gpu else 32
        start = time.perf_counter()
        self.ours = Dtrain(args.dtrain, work, self.shape, self.job, args.device.upper(), self.rows, args.limit)
        self.weights = self.shape.all() * (2 if self.gpu else 4)
        self.tokens = seq * self.job.batch
        print(f"\n{name}: {self.shape.all() / 1e9:.3f} G parameters, {self.shape.in_matmuls() / 1e9:.3f} G in products, "
              f"made in {time.perf_counter() - start:.0f} s; sequences of {seq}, {self.job.batch} a step", flush=True)

    def train(self, micro, delta=None, sets=(), env=()):
        watch = CardMemory() if self.gpu else None
        try:
            return self.ours.train(self.args.steps + WARM_UP, micro, delta, sets, watch, env)
        except RuntimeError as error:
            if watch:
                watch.peak()
            return {"error": str(error).splitlines()[0]}

    def train_all(self):
        """{(side, micro): its run}"""
        runs = {}
        for micro in self.micros:
            runs["dtrain", micro] = self.train(micro)
        command = [self.args.python, BENCH / "peer.py", self.ours.model, self.ours.delta, self.ours.rows,
                   json.dumps(dataclasses.asdict(self.job)), self.args.steps + WARM_UP, self.args.micro,
                   self.args.device, *self.args.peer.split(",")]
        for line in run(command, limit=self.args.limit, keep=True)[0].splitlines():
            if line.startswith("{"):
                result = json.loads(line)
                runs[result["mode"], result["micro"]] = result
        return runs

    def agree(self, runs):
        """Leaves of the runs those that compute the same."""
        tolerance = 1e-2 if self.gpu else 1e-4
        ours = next((r for (side, _), r in runs.items() if side == "dtrain" and "error" not in r), None)
        good = {}
        self.report.figures[f"{self.name}: runs"] = {f"{side}, {micro}": r for (side, micro), r in runs.items()}
        for (side, micro), r in runs.items():
            what = f"{self.name} {side}, micro-batch {micro}"
            if "error" in r:
                print(f"        {what}: {r['error']}", flush=True)
            elif ours is not None:
                off = max(abs(a / b - 1) for a, b in zip(ours["losses"], r["losses"]))
                norms = [a for a in r["grad_norms"][:WARM_UP] if a > 0]
                norm_off = max((abs(a / b - 1) for a, b in zip(ours["grad_norms"], norms)), default=float("inf"))
                self.report.hold(f"{what}: losses differ by", off, tolerance, False)
                self.report.hold(f"{what}: gradient norms differ by", norm_off, 20 * tolerance, False)
                if off <= tolerance and len(norms) == WARM_UP:
                    good[side, micro] = r
        if not any(side == "dtrain" for side, _ in good):
            self.report.fail(f"{self.name} dtrain", "no run of it to compare")
        return good

    def seconds(self, result):
        return statistics.median(result["seconds"][WARM_UP:])

    def table(self, runs, rate):
        print(f"\n{'':34} {'tokens/s':>9} {'TFLOP/s':>8} {'share':>6} {'GB':>7} {'beyond weights':>14}")
        for (side, micro), r in runs.items():
            speed = self.tokens / self.seconds(r)
            flops = speed * flops_of_token(self.shape, self.job.seq)
            print(f"{side + ', micro-batch ' + str(micro):34} {speed:9.0f} {flops / 1e12:8.3g} {flops / rate:6.1%} "
                  f"{r['peak'] / 1e9:7.2f} {(r['peak'] - self.weights) / 1e9:14.2f}")
        print(flush=True)

    @functools.cached_property
    def rate(self):
        """FLOP/s of the model's own large products, measured here and now."""
        sizes = ",".join(str(self.job.seq * micro) for micro in self.micros)
        output, _ = run([self.args.python, BENCH / "gpu/rate.py", self.args.device, sizes, *products(self.shape)])
        rate = json.loads(output.splitlines()[-1])
        print(f"matmul rate on {rate['device']}: {rate['flops'] / 1e12:.3g} TFLOP/s", flush=True)
        return rate["flops"]

    def compare(self):
        self.ours.write_first_delta(self.micros[0])
        runs = self.agree(self.train_all())
        if not runs:
            return
        self.table(runs, self.rate)
        fastest = lambda some: min(some, key=lambda key: self.seconds(runs[key]), default=None)
        ours = fastest([key for key in runs if key[0] == "dtrain"])
        peer = fastest([key for key in runs if key[0] != "dtrain"])
        kept = fastest([key for key in runs if key[0] != "dtrain" and "checkpoint" not in key[0]
                        and ("dtrain", key[1]) in runs])
        if ours is None:
            return
        share = self.tokens / self.seconds(runs[ours]) * flops_of_token(self.shape, self.job.seq) / self.rate
        self.report.hold(f"{self.name}: share of the matmul rate", share, SHARE.get(self.name, 0), judged=self.gpu)
        if "busy" in runs[ours]:
            self.report.hold(f"{self.name}: share of time in which the GPU runs a program", runs[ours]["busy"], BUSY)
            self.report.hold(f"{self.name}: longest gap between two programs, s", runs[ours]["gap"], GAP, False)
        if peer:
            self.report.hold(f"{self.name}: speed beside PEFT's best ({peer[0]}, {peer[1]})",
                             self.seconds(runs[peer]) / self.seconds(runs[ours]), FASTER, judged=self.gpu)
        if kept:
            mine, theirs = (runs[side, kept[1]]["peak"] - self.weights for side in ("dtrain", kept[0]))
            self.report.hold(f"{self.name}: memory beyond weights beside PEFT's ({kept[0]}, {kept[1]})", mine / theirs,
                             SMALLER, False, judged=self.gpu)

    def lora_seconds(self, micro):
        lora = self.train(micro)
        if "error" in lora:
            self.report.fail(f"{self.name} LoRA, micro-batch {micro}", lora["error"])
        return None if "error" in lora else self.seconds(lora)

    def attention(self):
        """dtrain's implementations of attention, each with the losses of the first."""
        if not self.gpu:
            return print(f"-       {self.name}: attention has several implementations on GPUs only", flush=True)
        micro, first = self.micros[-1], None
        for way in ATTENTION:
            run = self.train(micro, env={"DTRAIN_ATTENTION": way})
            self.report.figures[f"{self.name}: attention by {way}"] = run
            if "error" in run:
                self.report.fail(f"{self.name}: attention by {way}", run["error"])
                continue
            first = first or run
            off = max(abs(a / b - 1) for a, b in zip(first["losses"], run["losses"]))
            print(f"        {self.name}: attention by {way:6} {self.seconds(run):.4f} s a step, "
                  f"{self.seconds(first) / self.seconds(run):.3f} times the speed of {ATTENTION[0]}", flush=True)
            self.report.hold(f"{self.name}: losses with attention by {way} differ by", off, 1e-2, False)

    def fp8(self):
        """The backbone's linears in 8 bits, beside our own bf16; both curves of losses go into the log."""
        if not self.gpu:
            return print(f"-       {self.name}: FP8 is of GPUs", flush=True)
        micro = self.micros[-1]
        bf16, fp8 = self.train(micro), self.train(micro, sets=["backbone.precision=FP8"])
        self.report.figures[f"{self.name}: fp8 runs"] = {"bf16": bf16, "fp8": fp8}
        if "error" in bf16 or "error" in fp8:
            return self.report.fail(f"{self.name} FP8", bf16.get("error") or fp8["error"])
        for label, r in ("bf16", bf16), ("FP8", fp8):
            print(f"        {self.name}: losses in {label:4}", *(f"{loss:.4f}" for loss in r["losses"]), flush=True)
        self.report.hold(f"{self.name}: FP8's speed beside bf16's, micro-batch {micro}",
                         self.seconds(bf16) / self.seconds(fp8), FP8, judged=self.gpu)

    def fish(self):
        micro = self.micros[0]
        targets = " ".join(f'target: "{t}"' for t in TARGETS)
        lora, fish = self.lora_seconds(micro), self.train(micro, f"fish {{ keep: 0.005 samples: 4 precision: AS_TRAINING }} {targets}")
        if "error" in fish:
            return self.report.fail(f"{self.name} FISH 0.5%, micro-batch {micro}", fish["error"])
        if lora:
            self.report.hold(f"{self.name}: FISH 0.5% step beside LoRA's, micro-batch {micro}",
                             self.seconds(fish) / lora, FISH, False, judged=self.gpu)

    def head(self):
        """A delta on the head alone: a forward pass, and the head's two products again."""
        if self.shape.tied:
            return print(f"-       {self.name}: its head is its embedding, which is no site of its own", flush=True)
        micro = self.micros[0]
        head = self.train(micro, 'fish { keep: 0.005 samples: 4 precision: AS_TRAINING } target: "lm_head"')
        if "error" in head:
            return self.report.fail(f"{self.name} FISH on the head, micro-batch {micro}", head["error"])
        parts = self.job.batch // micro
        forward = self.ours.forward_seconds(micro, self.rows * 3 // 4 // micro) * parts
        products = 4 * self.shape.width * self.shape.vocab * self.tokens / self.rate
        self.report.hold(f"{self.name}: step of a delta on the head beside forward + head",
                         self.seconds(head) / (forward + products) if forward > 0 else float("nan"), HEAD, False, judged=self.gpu)


def main():
    parser = argparse.ArgumentParser(description="dtrain beside transformers + PEFT on a GPU")
    parser.add_argument("dtrain", type=lambda path: Path(path).resolve())
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--model", default="1B,8B")
    parser.add_argument("--parts", default="lora,attention,fp8,fish,head")
    parser.add_argument("--micro", default="1,2,4")
    parser.add_argument("--peer", default=",".join(MODES))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--limit", type=float, default=600, help="seconds that one command may take")
    parser.add_argument("--work")
    parser.add_argument("--log")
    args = parser.parse_args()
    report = Report()
    for name in args.model.split(","):
        with tempfile.TemporaryDirectory(prefix="dtrain-bench-", dir=args.work) as work:
            case = Case(args, report, name, Path(work))
            for part in args.parts.split(","):
                report.part(args.log, {"lora": case.compare, "attention": case.attention, "fp8": case.fp8,
                                       "fish": case.fish, "head": case.head}[part])
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
