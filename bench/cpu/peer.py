"""The peer: transformers and PEFT in float32 on the CPU, as a user would write it. One JSON object on stdout.

    peer.py BACKBONE DELTA ROWS STEPS THREADS BATCH MODE     MODE: eager or compile
"""
import json
import os
import sys
import time
import warnings

backbone, delta, rows_path, steps, threads, batch, mode = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from common import LR, RANK, ALPHA, TARGETS, batches, read_rows

torch.set_num_threads(int(threads))
model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32, attn_implementation="sdpa")
model.config.use_cache = False
model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0,
                                         bias="none", task_type="CAUSAL_LM"))
first = {"base_model.model." + name.split(".", 1)[1]: value for name, value in load_file(delta).items()}
assert not set_peft_model_state_dict(model, first).unexpected_keys
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=True)
step_of = torch.compile(model) if mode == "compile" else model

losses, seconds = [], []
for _, rows in zip(range(int(steps)), batches(read_rows(rows_path), int(batch))):
    start = time.perf_counter()
    ids = torch.tensor(rows)
    loss = step_of(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"losses": losses, "seconds": seconds, "peak": int(peak.split()[1]) * 1024}))
