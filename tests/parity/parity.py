"""Training by dtrain against transformers and PEFT in float32: the same weights, the same first values, the same
batches; every step's loss and gradient norm, the trained values, and what they compute.

    python parity.py BUILD [CASE...]

Prints a table; ends with 1 if a case is out of tolerance.
"""
import json
import math
import os
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is on this disk
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch and dtrain take turns on few cores

import torch
import transformers

import backbones
import rows as data
from dtrain import SOURCE, STEPS, Dtrain
from reference import Reference

SHARED = SOURCE.parent / "shared" / "data"
EXAMPLE = SOURCE / "examples/stories/train.jsonl"
TOKENIZER = SOURCE / "tests/golden/llama3/tokenizer.json"
SEED = 7

# Largest deviations allowed. Losses, gradient norms: relative, of any step. Trained values: the distance between the
# two results, as a share of the way that training moved them. nll: of any token, in nats, from the same values.
TOLERANCE = {"loss": 1e-5, "grad_norm": 1e-4, "values": 1e-3, "nll": 1e-4}
# Entries that two FISH masks may differ in, as a share: those whose scores are equal but for rounding.
MASK_TOLERANCE = 1e-3


LINEARS = "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
GPT2_LINEARS = "c_attn.q", "c_attn.k", "c_attn.v", "c_proj", "c_fc"


@dataclass
class Case:
    name: str
    backbone: str
    method: str = "lora"
    rank: int = 8
    alpha: float = 16
    rs: bool = False
    keep: float = 0.05
    completion: bool = False  # rows are {prompt, completion}, not {text}
    loss_on_prompt: bool = False
    packing: bool = False
    seq_len: int = 256
    n_rows: int = 8
    global_batch: int = 8  # without packing as many as rows: each step sees all of them, in whatever order
    micro_batch: int = 4
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    beta2: float = 0.99
    momentum: float = 0.9
    warmup: int = 5
    clip_norm: float = 1.0
    ranks: int = 1
    tensor: int = 1
    sequence: bool = False
    targets: tuple = LINEARS
    group: str = ""  # expression over names: these parameters have 4 times the learning rate and no weight decay

    def make_optimizer(self, named):
        apart = [p for name, p in named if self.group and re.fullmatch(self.group, name)]
        groups = [{"params": [p for _, p in named if all(p is not other for other in apart)]}]
        if apart:
            groups.append({"params": apart, "lr": 4 * self.lr, "weight_decay": 0})
        common = dict(lr=self.lr, weight_decay=self.weight_decay)
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, betas=(0.9, self.beta2), eps=1e-8, **common)
        return torch.optim.SGD(groups, momentum=self.momentum, **common)


PACKED = dict(completion=True, packing=True, seq_len=384, n_rows=30, global_batch=4, micro_batch=2)
FISH = dict(method="fish", lr=1e-3, weight_decay=0)
# A bias of keys adds the same to all scores of a query, which softmax does not see; with rotary positions, nearly. Its
# gradient is rounding, and AdamW would make steps of it; SGD makes nothing of it.
BITFIT = dict(method="bitfit", optimizer="sgd", lr=0.1, clip_norm=0, weight_decay=1e-3)
GPT2 = dict(backbone="gpt2", targets=GPT2_LINEARS)
CASES = [
    Case("stories-lora", "stories260k"),
    Case("stories-lora-packed", "stories260k", **PACKED),
    Case("stories-lora-ranks", "stories260k", ranks=4, tensor=2, **PACKED),
    Case("stories-full", "stories260k", "full", lr=5e-4),
    Case("stories-full-packed", "stories260k", "full", lr=5e-4, **PACKED),
    Case("stories-fish", "stories260k", **FISH),
    Case("llama3-lora", "llama3"),
    Case("llama3-lora-packed", "llama3", **PACKED),
    Case("llama3-lora-both", "llama3-new", completion=True, loss_on_prompt=True),
    Case("llama3-rslora", "llama3", rs=True, rank=4, alpha=4, completion=True, clip_norm=0),
    Case("llama3-lora-cut", "llama3", seq_len=64),
    Case("llama3-lora-sgd", "llama3-new", optimizer="sgd", lr=0.2, clip_norm=0, weight_decay=1e-3),
    Case("llama3-lora-sequence", "llama3", ranks=4, tensor=4, sequence=True, **PACKED),
    Case("llama3-full", "llama3-new", "full", lr=5e-4),
    Case("llama3-full-packed", "llama3", "full", lr=5e-4, **PACKED),
    Case("llama3-fish-ranks", "llama3", ranks=4, tensor=2, **FISH, **PACKED),
    Case("biased-lora", "biased", ranks=2, tensor=2),
    Case("biased-full", "biased", "full", lr=5e-4),
    Case("biased-full-groups", "biased", "full", lr=5e-4, group=".*(norm.weight|bias)"),
    Case("mistral-lora", "mistral"),
    Case("mistral-lora-packed", "mistral", **PACKED),
    Case("mistral-lora-ranks", "mistral", ranks=4, tensor=4, sequence=True, **PACKED),
    Case("mistral-full", "mistral", "full", lr=5e-4),
    Case("mistral-fish", "mistral", **FISH),
    Case("qwen2-lora", "qwen2"),
    Case("qwen2-lora-ranks", "qwen2", ranks=4, tensor=2, sequence=True, **PACKED),
    Case("qwen2-full", "qwen2", "full", lr=5e-4),
    Case("qwen2-fish-ranks", "qwen2", ranks=4, tensor=2, **FISH, **PACKED),
    Case("qwen2-bitfit", "qwen2", **BITFIT),
    Case("qwen3-lora", "qwen3"),
    Case("qwen3-lora-packed", "qwen3", **PACKED),
    Case("qwen3-fish", "qwen3", **FISH),
    Case("qwen3-full-ranks", "qwen3", "full", lr=5e-4, ranks=2, tensor=2),
    Case("gpt2-lora", **GPT2),
    Case("gpt2-lora-ranks", **GPT2, ranks=4, tensor=2, sequence=True, **PACKED),
    Case("gpt2-full-packed", **GPT2, method="full", lr=5e-4, **PACKED),
    Case("gpt2-fish", **GPT2, **FISH),
    Case("gpt2-bitfit-ranks", **GPT2, **BITFIT, ranks=2, tensor=2, sequence=True),
    Case("init-lora", "init-llama3-new", **PACKED),
    Case("init-gpt2-lora", **{**GPT2, "backbone": "init-gpt2"}),
]


def write_rows(path, case):
    with path.open("w") as file:
        for line in EXAMPLE.read_text().splitlines()[: case.n_rows]:
            row = json.loads(line)
            row = row if case.completion else {"text": row["prompt"] + row["completion"]}
            file.write(json.dumps(row) + "\n")


def same_names(got, expected):
    assert got.keys() == expected.keys(), f"not in both: {sorted(got.keys() ^ expected.keys())}"


def distance(a, b):
    """Euclidean, over all values; NaN marks what is not trained and must be the same on both sides."""
    same_names(a, b)
    for name in a:
        assert (a[name].isnan() == b[name].isnan()).all(), name
    return math.sqrt(sum((a[name] - b[name]).double().nan_to_num(0.0).square().sum().item() for name in a))


def check_mask(method, rows, keep, delta):
    """dtrain chose the entries that the reference chooses; training then goes on with dtrain's."""
    expected, differ, count = method.choose(rows, keep), 0, 0
    method.load(delta)
    for name, chosen in expected.items():
        differ += (chosen != method.chosen[name]).sum().item()
        count += chosen.sum().item()
    assert differ <= MASK_TOLERANCE * count, f"{differ} entries of the mask differ, of {count}"


def check_step(number, step, lr, targets, peak):
    assert step["step"] == number and step["loss_tokens"] == targets, f"{step}: expected {targets} targets"
    assert math.isclose(step["lr"], lr, rel_tol=1e-6, abs_tol=1e-9 * peak), f"{step}: expected lr {lr}"


def largest_nll(rows, per_token, expected):
    """Largest deviation of any token's negative log-likelihood; the rows' ids must be the same."""
    largest = 0.0
    for (ids, _), (their_ids, theirs), ours in zip(rows, per_token, expected, strict=True):
        assert ids == their_ids and len(ours) == len(theirs), f"{their_ids}: expected {ids}"
        if len(ours):
            largest = max(largest, (ours - theirs).abs().max().item())
    return largest


def run(case, build, backbone, folder):
    """The deviations, by the names of TOLERANCE, and the reference's first and last loss."""
    folder.mkdir()
    path = folder / "rows.jsonl"
    write_rows(path, case)
    rows = data.read(path, backbone, case.seq_len, case.loss_on_prompt)
    dtrain = Dtrain(build, folder, case, backbone, path, SEED)
    reference = Reference(case, backbone)
    first = dtrain.initial_delta()
    if case.method == "fish":
        check_mask(reference.method, rows, case.keep, first)
    reference.method.load(first)
    same_names(first, reference.method.trained())

    expected = reference.train(data.batches(rows, case, SEED))
    steps, trained = dtrain.train()
    assert len(steps) == STEPS, f"{len(steps)} steps"
    for number, (step, (_, _, lr, targets)) in enumerate(zip(steps, expected), 1):
        check_step(number, step, lr, targets, case.lr)
    own = reference.method.trained()
    reference.method.load(trained)
    return {
        "loss": max(abs(step["loss"] / loss - 1) for step, (loss, _, _, _) in zip(steps, expected)),
        "grad_norm": max(abs(step["grad_norm"] / norm - 1) for step, (_, norm, _, _) in zip(steps, expected)),
        "values": distance(trained, own) / distance(own, first),
        "nll": largest_nll(rows, dtrain.per_token(), reference.nll(rows)),
    }, (expected[0][0], expected[-1][0])


def report(case, deviation, losses):
    """One line; whether all is within tolerance."""
    bad = [name for name, limit in TOLERANCE.items() if not deviation[name] <= limit]
    print(f"{case.name:22}" + "".join(f"{value:11.1e}" for value in deviation.values()) + "   %.4f, %.4f" % losses
          + (f"   out of tolerance: {', '.join(bad)}" if bad else ""), flush=True)
    return not bad


def main(build, *names):
    warnings.filterwarnings("ignore", category=FutureWarning)  # between versions of PEFT and transformers
    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
    transformers.utils.logging.disable_progress_bar()
    print(f"{'case':22}" + "".join(f"{name:>11}" for name in TOLERANCE) + "   loss, first and last")
    print(f"{'largest allowed':22}" + "".join(f"{limit:11.0e}" for limit in TOLERANCE.values()), flush=True)
    good = True
    with tempfile.TemporaryDirectory(prefix="dtrain-parity-") as scratch:
        scratch = Path(scratch)
        backbone = {
            "stories260k": SHARED / "stories260k",
            "llama3": backbones.llama3_published(scratch / "llama3", TOKENIZER),
            "llama3-new": backbones.llama3_new(scratch / "llama3-new", TOKENIZER),
            "biased": backbones.biased(scratch / "biased", TOKENIZER),
            **backbones.families(scratch, TOKENIZER),
        }
        for name in "llama3-new", "gpt2":
            backbone["init-" + name] = backbones.initialised(build, scratch / ("init-" + name), backbone[name])
        for case in CASES:
            if names and case.name not in names:
                continue
            if not backbone[case.backbone].exists():
                print(f"{case.name:22} skipped: no {backbone[case.backbone]}")
                continue
            good &= report(case, *run(case, build, backbone[case.backbone], scratch / case.name))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
