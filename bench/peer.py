"""The peer: transformers and PEFT, as a user would write it. One JSON object a mode on stdout.

    peer.py BACKBONE DELTA ROWS JOB STEPS MICRO DEVICE MODE...

JOB is common.Job as JSON; MICRO how many rows are computed at a time, several joined by commas to try each; DEVICE cpu
(float32) or cuda (bfloat16). A MODE is words joined by "+": plain; compile: torch.compile; checkpoint: gradient checkpointing; half: the adapters in bfloat16 as
well (else they are float32, and products run under autocast).
"""
import json
import os
import sys
import time
import warnings

backbone, delta, rows_path, job, steps, micro, device, *modes = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1"
if device == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from common import TARGETS, WARM_UP, Job, batches, read_rows

job, steps = Job(**json.loads(job)), int(steps)
gpu = device == "cuda"
if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
rows = read_rows(rows_path)


def forget_peak():
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        open("/proc/self/clear_refs", "w").write("5")


def peak():
    """Bytes: what tensors held of the GPU at most, without what the allocator kept in reserve; resident on the CPU."""
    if gpu:
        return torch.cuda.max_memory_allocated()
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def wait():
    if gpu:
        torch.cuda.synchronize()


def attach(base, mode):
    """The delta on the model as both sides start from it."""
    config = LoraConfig(r=job.rank, lora_alpha=job.alpha, target_modules=list(TARGETS), lora_dropout=0.0, bias="none",
                        task_type="CAUSAL_LM")
    model = get_peft_model(base, config, autocast_adapter_dtype="half" not in mode)
    first = {"base_model.model." + name.split(".", 1)[1]: value for name, value in load_file(delta).items()}
    assert not set_peft_model_state_dict(model, first).unexpected_keys
    if "checkpoint" in mode:
        base.enable_input_require_grads()
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def train(model, mode, micro):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.lr, weight_decay=0.0, fused=True)
    forward = torch.compile(model, dynamic=False) if "compile" in mode else model
    parts = job.batch // micro
    losses, seconds, norms = [], [], []
    for step, batch in zip(range(steps), batches(rows, job.batch, job.seed)):
        wait()
        start = time.perf_counter()
        total = 0
        for part in range(parts):
            ids = torch.tensor(batch[part * micro:(part + 1) * micro]).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=gpu and "half" not in mode):
                loss = forward(input_ids=ids, labels=ids).loss / parts
            loss.backward()
            total = total + loss.detach()
        if step < WARM_UP:  # not in a step that is counted
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in trained])))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total.item())
        wait()
        seconds.append(time.perf_counter() - start)
    return {"losses": losses, "seconds": seconds, "grad_norms": norms}


def run(base, mode, micro):
    forget_peak()
    model, result = attach(base, mode), {}
    try:
        result = train(model, mode, micro)
    except Exception as error:  # out of memory, or what cannot be compiled: the other modes still count
        result = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    result["peak"] = peak()
    if "checkpoint" in mode:
        base.gradient_checkpointing_disable()
        base.disable_input_require_grads()
    model.unload()
    torch._dynamo.reset()
    return result


base = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.bfloat16 if gpu else torch.float32,
                                            attn_implementation="sdpa").to(device)
base.config.use_cache = False
for name in modes:
    for rows_at_a_time in map(int, micro.split(",")):
        result = run(base, name.split("+"), rows_at_a_time)
        print(json.dumps({"mode": name, "micro": rows_at_a_time, **result}), flush=True)
