#!/usr/bin/env python3
"""dtrain beside transformers + PEFT on the CPU: tokens a second and peak memory of LoRA on all linears.

    bench/cpu/run.py BUILD [--python PYTHON] [--vocab 32000,128256] [--threads 2,1] [--peer plain,compile]
                     [--steps 6] [--repeats 3] [--work FOLDER]

Both sides start from the same weights and the same delta, see the same rows in the same order, and take turns in time.
Losses are compared first. Prints a table; ends with 1 if losses differ.
"""
import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import WARM_UP, Dtrain, Job, Shape, run

PEER = Path(__file__).resolve().parents[1] / "peer.py"
JOB = Job(seq=512, batch=4, rank=8)
TOLERANCE = 1e-4  # relative, of any step's loss


class Case:
    def __init__(self, args, vocab, work):
        self.args = args
        shape = Shape(layers=12, width=768, heads=12, kv=12, ffn=2048, vocab=vocab)
        self.ours = Dtrain(Path(args.build).resolve() / "dtrain", work, shape, JOB)
        self.ours.write_first_delta(JOB.batch)

    def run_peer(self, steps, env, mode):
        ours, job = self.ours, json.dumps(dataclasses.asdict(JOB))
        output, _ = run([self.args.python, PEER, ours.model, ours.delta, ours.rows, job, steps, JOB.batch, "cpu", mode],
                        env)
        result = json.loads(output.splitlines()[-1])
        if "error" in result:
            raise RuntimeError(f"PEFT, {mode}: {result['error']}")
        return result

    def compare(self, threads):
        """Rounds in which each side runs once; {side: its runs}."""
        runs, steps, env = {}, self.args.steps + WARM_UP, {"OMP_NUM_THREADS": str(threads)}
        for _ in range(self.args.repeats):
            runs.setdefault("dtrain", []).append(self.ours.train(steps, JOB.batch, env=env))
            for mode in self.args.peer.split(","):
                runs.setdefault(mode, []).append(self.run_peer(steps, env, mode))
        return runs


def summary(runs):
    seconds = [s for run in runs for s in run["seconds"][WARM_UP:]]
    return {"median": JOB.seq * JOB.batch / statistics.median(seconds), "best": JOB.seq * JOB.batch / min(seconds),
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
    parser.add_argument("--peer", default="plain")
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
