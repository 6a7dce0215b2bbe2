#!/usr/bin/env python3
"""Writes optim.json: parameters after steps of PyTorch's AdamW and SGD, and of Lion written with PyTorch, which
tests/unit/op_update.c compares with.

    python3 tests/golden/optim_goldens.py        (needs torch)

First values and gradients are formulas of small integers, exact in fp32, that the test repeats. Where a case clips, it
clips about half of the steps.
"""
import json
import pathlib

import torch

COUNT, STEPS, KEPT = 16, 100, (1, 10, 100)

ADAMW = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
CASES = [
    {"name": "adamw", "lr": 1e-3, **ADAMW},
    {"name": "adamw", "lr": 1e-2, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    {"name": "adamw", "lr": 1e-3, **ADAMW, "weight_decay": 0.01, "scale": 0.25, "clip": 0.27},
    {"name": "sgd", "lr": 1e-2, "momentum": 0.0, "weight_decay": 0.0},
    {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0},
    {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1, "scale": 0.125, "clip": 0.135},
    {"name": "lion", "lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    {"name": "lion", "lr": 1e-2, "beta1": 0.95, "beta2": 0.98, "weight_decay": 0.1, "scale": 0.25, "clip": 0.27},
]


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, as its authors wrote it for PyTorch: one operation after the other."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                mean = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((mean * beta1 + p.grad * (1 - beta1)).sign(), alpha=-group["lr"])
                mean.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def first(i):
    return ((i * 5 + 3) % 16 - 8) / 8


def gradient(step, i):
    return ((step * 7919 + i * 104729) % 2003 - 1001) / 4096 * 2.0 ** (i % 5 - 2)


def run(case, dtype):
    """Parameters after each of the KEPT steps."""
    p = torch.tensor([first(i) for i in range(COUNT)], dtype=dtype, requires_grad=True)
    decay = {"lr": case["lr"], "weight_decay": case["weight_decay"]}
    if case["name"] == "adamw":
        betas = (case["beta1"], case["beta2"])
        optimizer = torch.optim.AdamW([p], betas=betas, eps=case["eps"], foreach=False, **decay)
    elif case["name"] == "lion":
        optimizer = Lion([p], betas=(case["beta1"], case["beta2"]), **decay)
    else:
        optimizer = torch.optim.SGD([p], momentum=case["momentum"], foreach=False, **decay)
    kept = []
    for step in range(1, STEPS + 1):
        p.grad = torch.tensor([gradient(step, i) for i in range(COUNT)], dtype=dtype) * case.get("scale", 1.0)
        if "clip" in case:
            torch.nn.utils.clip_grad_norm_([p], case["clip"])
        optimizer.step()
        if step in KEPT:
            digits = "%.9g" if dtype == torch.float32 else "%.17g"
            kept.append([float(digits % x) for x in p.tolist()])
    return kept


def main():
    cases = [{**case, "fp32": run(case, torch.float32), "float64": run(case, torch.float64)} for case in CASES]
    text = {"torch": torch.__version__.split("+")[0], "kept": KEPT, "cases": cases}
    path = pathlib.Path(__file__).with_name("optim.json")
    path.write_text(json.dumps(text, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
