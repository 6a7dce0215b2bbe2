"""What both sides are given (the models, the rows, the delta, the order of the rows), and dtrain's side of a run."""
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
TARGETS = "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
WARM_UP = 2  # steps that are not counted


@dataclasses.dataclass
class Shape:
    """A Llama."""
    layers: int
    width: int
    heads: int
    kv: int
    ffn: int
    vocab: int
    tied: bool = False

    def in_matmuls(self):
        """Parameters that a token is multiplied with: linears and the head, not the look-up of its embedding."""
        kv = self.width // self.heads * self.kv
        return self.layers * (2 * self.width * (self.width + kv) + 3 * self.width * self.ffn) + self.width * self.vocab

    def all(self):
        return (self.in_matmuls() + (not self.tied) * self.width * self.vocab + (2 * self.layers + 1) * self.width)


@dataclasses.dataclass
class Job:
    """What is trained on it: LoRA on all linears by AdamW, rows of seq tokens, batch of them a step."""
    seq: int
    batch: int
    rank: int
    alpha: int = 16
    lr: float = 1e-3
    seed: int = 1


def write_model(folder, shape, seq):
    """A folder for `dtrain init`: config.json, and a tokenizer in which the word "w17" is token 17."""
    folder.mkdir(parents=True)
    config = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=shape.vocab,
                  hidden_size=shape.width, intermediate_size=shape.ffn, num_hidden_layers=shape.layers,
                  num_attention_heads=shape.heads, num_key_value_heads=shape.kv, max_position_embeddings=max(seq, 2048),
                  rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=shape.tied, bos_token_id=1, eos_token_id=2,
                  dtype="float32")
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    words = {f"w{i}": i for i in range(shape.vocab)}
    tokenizer = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
                     pre_tokenizer=dict(type="WhitespaceSplit"), post_processor=None, decoder=None,
                     model=dict(type="WordPiece", unk_token="w0", continuing_subword_prefix="##",
                                max_input_chars_per_word=100, vocab=words))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_rows(path, vocab, seq, count, seed):
    """Rows of `seq` tokens drawn over the whole vocabulary, small ids more often."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            ids = [int(vocab * draw.random() ** 2) for _ in range(seq)]
            file.write(json.dumps({"text": " ".join(f"w{i}" for i in ids)}) + "\n")


def read_rows(path):
    texts = (json.loads(line)["text"] for line in Path(path).read_text().splitlines())
    return [[int(word[1:]) for word in text.split()] for text in texts]


def batches(rows, batch, seed):
    """Batches of whole rows without end, in dtrain's order, which the parity tests have a second time."""
    sys.path.append(str(SOURCE / "tests/parity"))
    from rows import order
    queue, epoch = [], 0
    while True:
        while len(queue) < batch:
            queue += order(len(rows), seed, epoch)
            epoch += 1
        yield [rows[i] for i in queue[:batch]]
        queue = queue[batch:]


def run(command, env=(), watch=None, limit=None, keep=False):
    """Runs a command to its end; (its output, the most memory it held in bytes: resident, or what `watch` saw). After
    `limit` seconds it is ended: with `keep` what it said so far counts, else that is an error."""
    child = subprocess.Popen([str(word) for word in command], env=dict(os.environ, **dict(env)), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ended = threading.Event()
    timer = threading.Timer(limit or 1e6, lambda: (ended.set(), child.kill()))
    timer.daemon = True
    timer.start()
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0 and not (keep and ended.is_set()):
        why = f"ended after {limit} s" if ended.is_set() else f"exit code {child.returncode}"
        last = (output.strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{last} ({why})\n{' '.join(map(str, command))}:\n{output}")
    return output, watch.peak() if watch else usage.ru_maxrss * 1024


class Dtrain:
    """dtrain on a random model of a shape: what it trains is in `work`, from where the peer takes it too."""

    def __init__(self, program, work, shape, job, device="CPU", rows=64, limit=None):
        self.program, self.work, self.shape, self.job, self.device, self.limit = program, work, shape, job, device, limit
        self.model, self.rows, self.delta = work / "model", work / "rows.jsonl", work / "first.safetensors"
        write_model(work / "shape", shape, job.seq)
        write_rows(self.rows, shape.vocab, job.seq, rows, job.seed)
        run([program, "init", work / "shape", self.model, "--type", "BF16" if device == "CUDA" else "F32"])

    def config(self, steps, micro, delta):
        """delta: its method and targets; None: LoRA on all linears; "": none, the backbone alone."""
        if delta is None:
            targets = " ".join(f'target: "{t}"' for t in TARGETS)
            delta = f"lora {{ rank: {self.job.rank} alpha: {self.job.alpha} }} {targets}"
        path = self.work / "config.pbtxt"
        path.write_text(f"""
            run {{ dir: "{self.work / 'run'}" seed: {self.job.seed} }}
            backbone {{ path: "{self.model}" }}
            {f'delta {{ name: "bench" {delta} }}' if delta else ''}
            data {{ train {{ jsonl: "{self.rows}" }} seq_len: {self.job.seq} add_bos: false add_eos: false }}
            train {{ steps: {steps} global_batch: {self.job.batch} micro_batch: {micro} }}
            optim {{ adamw {{ lr: {self.job.lr} weight_decay: 0 }} clip_norm: 0 }}
            device: {self.device}
            """)
        return path

    def train(self, steps, micro, delta=None, sets=(), watch=None, env=()):
        """{"losses", "grad_norms", "seconds": [steps], "peak": bytes}; of a GPU also "busy", its share of time in
        programs, and "gap", the longest between two in seconds."""
        shutil.rmtree(self.work / "run", ignore_errors=True)
        config = self.config(steps, micro, delta)
        env = dict(env, DTRAIN_GPU_TIMELINE="1")
        output, peak = run([self.program, config, *(f"--set={s}" for s in sets)], env, watch, self.limit)
        seen = re.search(r"busy ([\d.]+)%, longest gap between two (\d+) us", output)
        lines = [json.loads(line) for line in (self.work / "run/metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "loss" in line]
        return {"losses": [line["loss"] for line in lines], "grad_norms": [line["grad_norm"] for line in lines],
                "seconds": [line["seconds"] for line in lines], "peak": peak,
                **({"busy": float(seen[1]) / 100, "gap": float(seen[2]) * 1e-6} if seen else {})}

    def forward_seconds(self, micro, count):
        """Of evaluating a micro-batch with the backbone alone: what `count` more of them take."""
        config, took = self.config(1, micro, ""), []
        for batches_of_run in 1, 1 + count:
            start = time.perf_counter()
            run([self.program, "eval", config, f"--set=data.eval.jsonl={self.rows}",
                 f"--set=data.eval.examples={batches_of_run * micro}"], limit=self.limit)
            took.append(time.perf_counter() - start)
        return (took[1] - took[0]) / count

    def write_first_delta(self, micro):
        """The delta as training starts from it, for the peer to start from."""
        self.train(1, micro, sets=["optim.adamw.lr=1e-30"])
        (self.work / "run/ckpt/step-000001/delta-00000-of-00001.safetensors").rename(self.delta)
