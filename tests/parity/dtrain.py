"""dtrain from outside: its configuration, its metrics, its checkpoints, its evaluation."""
import json
import subprocess
from pathlib import Path

import torch
from safetensors import safe_open

SOURCE = Path(__file__).resolve().parents[2]
DELTA = "parity"
STEPS = 50


class Dtrain:
    """One case's configuration and the runs of it; `folder` takes what they write."""

    def __init__(self, build, folder, case, backbone, rows, seed):
        self.build, self.folder, self.case = Path(build), folder, case
        self.config = folder / "config.pbtxt"
        target = " ".join(f'target: "{name}"' for name in case.targets)
        method = {"full": "full {}",
                  "bitfit": "bitfit {}",
                  "lora": f"lora {{ rank: {case.rank} alpha: {case.alpha} rs: {case.rs} }} {target}",
                  "fish": f"fish {{ keep: {case.keep} samples: {case.n_rows} }} {target}"}[case.method]
        rate = f"lr: {case.lr} weight_decay: {case.weight_decay}"
        optimizer = {"adamw": f"adamw {{ {rate} beta2: {case.beta2} }}",
                     "sgd": f"sgd {{ {rate} momentum: {case.momentum} }}"}[case.optimizer]
        group = f'group {{ match: "re:{case.group}" lr_scale: 4 weight_decay: 0 }}' if case.group else ""
        source = f'{{ jsonl: "{rows}" }}'
        text = f"""
            run {{ dir: "{folder}/run" seed: {seed} }}
            backbone {{ path: "{backbone}" }}
            delta {{ name: "{DELTA}" {method} }}
            data {{ train {source} eval {source} seq_len: {case.seq_len} packing: {case.packing}
                    loss_on: {"BOTH" if case.loss_on_prompt else "COMPLETION"} }}
            parallel {{ tensor: {case.tensor} sequence: {case.sequence} }}
            train {{ steps: {STEPS} global_batch: {case.global_batch} micro_batch: {case.micro_batch} }}
            optim {{ {optimizer} schedule {{ kind: COSINE warmup_steps: {case.warmup} }} clip_norm: {case.clip_norm}
                     {group} }}
            device: CPU
            """
        self.config.write_text(text.replace("True", "true").replace("False", "false"))

    def run(self, *arguments):
        command = [str(self.build / "dtrain"), *map(str, arguments)]
        if self.case.ranks > 1:
            command = [str(SOURCE / "launch/mpirun.sh"), "-np", str(self.case.ranks)] + command
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")

    def initial_delta(self):
        """The delta as training starts from it: one step so short that no float32 near a weight notices it."""
        folder = self.folder / "initial"
        changes = {"run.dir": folder, "train.steps": 1, f"optim.{self.case.optimizer}.lr": 1e-30,
                   "optim.schedule.warmup_steps": 0}
        self.run(self.config, *(f"--set={path}={value}" for path, value in changes.items()))
        return read_delta(folder / "ckpt/step-000001")

    def train(self):
        """Each step's metrics, and the final delta."""
        self.run(self.config)
        lines = [json.loads(line) for line in (self.folder / "run/metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "loss" in line], read_delta(self.folder / f"run/ckpt/step-{STEPS:06d}")

    def per_token(self):
        """(ids, negative log-likelihoods) of each row, under the trained delta."""
        path = self.folder / "per-token.jsonl"
        self.run("eval", self.config, "--per-token", path)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [(row["ids"], torch.tensor(row["nll"])) for row in rows]


def read_delta(folder):
    """The tensors of a checkpoint by name, whole, whatever number of ranks wrote them. Sparse ones are NaN at the
    entries that they do not have."""
    tensors = {}
    for path in sorted(folder.glob("delta-*.safetensors")):
        with safe_open(path, "pt") as file:
            for name, at in json.loads(file.metadata()["tensors"]).items():
                whole = tensors.setdefault(name, torch.full(at["shape"], float("nan")))
                if at.get("sparse"):
                    whole.view(-1)[file.get_tensor(name + ":index").long()] = file.get_tensor(name + ":value")
                    continue
                piece = file.get_tensor(name)
                if "split" in at:
                    whole = whole.narrow(at["split"], at["offset"], piece.shape[at["split"]])
                whole.copy_(piece)
    return tensors
