#!/usr/bin/env python3
"""dtrain beside transformers + PEFT on the CPU: tokens a second and peak memory of LoRA on all linears.

    bench/cpu/run.py BUILD [--python PYTHON] [--vocab 32000,128256] [--threads 2,1] [--peer eager,compile]
                     [--steps 6] [--repeats 3] [--work FOLDER]

Both sides start from the same weights and the same delta, see the same rows in the same order, and take turns in time.
Losses are compared first. Prints a table; ends with 1 if losses differ.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ALPHA, BATCH, LR, RANK, SEED, SEQ, TARGETS, write_model, write_rows

HERE = Path(__file__).resolve().parent
WARM_UP = 2       # steps that are not counted
TOLERANCE = 1e-4  # relative, of any step's loss


def config_of(folder, model, rows, steps):
    targets = " ".join(f'target: "{t}"' for t in TARGETS)
    return f"""
        run {{ dir: "{folder}" seed: {SEED} }}
        backbone {{ path: "{model}" }}
        delta {{ name: "bench" lora {{ rank: {RANK} alpha: {ALPHA} }} {targets} }}
        data {{ train {{ jsonl: "{rows}" }} seq_len: {SEQ} packing: false add_bos: false add_eos: false }}
        train {{ steps: {steps} global_batch: {BATCH} micro_batch: {BATCH} }}
        optim {{ adamw {{ lr: {LR} weight_decay: 0 }} clip_norm: 0 }}
        device: CPU
        """


def measured(command, threads):
    """Runs a command; its output and its peak of resident memory in bytes."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{output}")
    return output, usage.ru_maxrss * 1024


class Case:
    def __init__(self, args, vocab, work):
        self.args, self.work = args, work
        self.model, self.rows = work / "model", work / "rows.jsonl"
        self.dtrain = Path(args.build).resolve() / "dtrain"
        write_model(work / "shape", vocab)
        write_rows(self.rows, vocab)
        measured([self.dtrain, "init", work / "shape", self.model], 1)
        self.run_dtrain(1, 2, "optim.adamw.lr=1e-30")  # the delta as training starts from it
        self.delta = work / "first.safetensors"
        (work / "run/ckpt/step-000001/delta-00000-of-00001.safetensors").rename(self.delta)

    def run_dtrain(self, steps, threads, *sets):
        run, config = self.work / "run", self.work / "config.pbtxt"
        subprocess.run(["rm", "-rf", run], check=True)
        config.write_text(config_of(run, self.model, self.rows, steps))
        _, peak = measured([self.dtrain, config, *(f"--set={s}" for s in sets)], threads)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "loss" in line]
        return {"losses": [line["loss"] for line in lines], "seconds": [line["seconds"] for line in lines],
                "peak": peak}

    def run_peer(self, steps, threads, mode):
        command = [self.args.python, HERE / "peer.py", self.model, self.delta, self.rows, steps, threads, BATCH, mode]
        return json.loads(measured(list(map(str, command)), threads)[0].splitlines()[-1])

    def compare(self, threads):
        """Rounds in which each side runs once; {side: its runs}."""
        runs, steps = {}, self.args.steps + WARM_UP
        for _ in range(self.args.repeats):
            runs.setdefault("dtrain", []).append(self.run_dtrain(steps, threads))
            for mode in self.args.peer.split(","):
                runs.setdefault(mode, []).append(self.run_peer(steps, threads, mode))
        return runs


def summary(runs):
    seconds = [s for run in runs for s in run["seconds"][WARM_UP:]]
    return {"median": SEQ * BATCH / statistics.median(seconds), "best": SEQ * BATCH / min(seconds),
            "peak": max(run["peak"] for run in runs)}


def report(vocab, threads, runs):
    """The rows of a table; whether the losses agree."""
    ours = summary(runs["dtrain"])
    good = True
    for side, side_runs in runs.items():
        s = summary(side_runs)
        off = max(abs(a / b - 1) for a, b in zip(runs["dtrain"][0]["losses"], side_runs[0]["losses"]))
        good &= off <= TOLERANCE
        ratios = "" if side == "dtrain" else (f"  {ours['median'] / s['median']:6.2f}x {ours['best'] / s['best']:6.2f}x "
                                              f"{ours['peak'] / s['peak']:6.2f}x {off:9.1e}")
        name = side if side == "dtrain" else f"PEFT, {side}"
        print(f"{vocab:8} {threads:7}  {name:14} {s['median']:9.1f} {s['best']:9.1f} {s['peak'] / 1e6:9.0f}{ratios}",
              flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description="dtrain beside transformers + PEFT on the CPU")
    parser.add_argument("build")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--vocab", default="32000,128256")
    parser.add_argument("--threads", default="2,1")
    parser.add_argument("--peer", default="eager")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work")
    args = parser.parse_args()
    good = True
    print(f"load at the start: {os.getloadavg()[0]:.1f}")
    print(f"{'vocab':>8} {'threads':>7}  {'':14} {'tokens/s':>9} {'best':>9} {'peak MB':>9}"
          f"  {'speed':>7} {'best':>7} {'memory':>7} {'loss off':>9}")
    for vocab in map(int, args.vocab.split(",")):
        with tempfile.TemporaryDirectory(prefix="dtrain-bench-", dir=args.work) as work:
            case = Case(args, vocab, Path(work))
            for threads in map(int, args.threads.split(",")):
                good &= report(vocab, threads, case.compare(threads))
    print(f"load at the end: {os.getloadavg()[0]:.1f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
