"""Small backbones with random weights, saved by transformers in the forms in which such models are published."""
import json
import shutil
import subprocess
from pathlib import Path

import torch
from transformers import (AutoModelForCausalLM, Conv1D, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config,
                          Qwen3Config)

BOS, EOS = 900, 901  # <|begin_of_text|>, <|end_of_text|> of tests/golden/llama3's tokenizer
SMALL = dict(vocab_size=904, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=8,
             head_dim=16, max_position_embeddings=1024, rms_norm_eps=1e-5, initializer_range=0.08,
             tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS)

# Grouped-query attention, and rotary frequencies in all three bands of the scaling: kept, blended, divided.
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 128}
LLAMA3 = dict(SMALL, num_key_value_heads=4, rope_parameters={"rope_theta": 500000.0, **LLAMA3_ROPE})
# As many kv heads as heads, biases everywhere, stretched positions.
BIASED = dict(SMALL, num_key_value_heads=8, attention_bias=True, mlp_bias=True,
              rope_parameters={"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0})


# Windows shorter than the rows: in every layer; in all but the first.
MISTRAL = dict(SMALL, num_key_value_heads=2, sliding_window=24)
QWEN2 = dict({**SMALL, "tie_word_embeddings": True}, num_key_value_heads=4, use_sliding_window=True, sliding_window=40,
             max_window_layers=1, rope_parameters={"rope_theta": 1e6, "rope_type": "default"})
del QWEN2["head_dim"]
QWEN3 = dict(SMALL, num_key_value_heads=4)
GPT2 = dict(vocab_size=907, n_embd=96, n_layer=3, n_head=8, n_positions=1024, initializer_range=0.08, attn_pdrop=0,
            embd_pdrop=0, resid_pdrop=0, bos_token_id=BOS, eos_token_id=EOS)


def make(folder, tokenizer, config, dtype=torch.float32, shard="1GB"):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # gains that are not all one, biases that are not all zero
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.1)
            elif weight.ndim == 1:
                weight.uniform_(0.5, 1.5)
    # GPT-2 is published without its head: no "transformer." in front of the names.
    published = model.transformer if config.model_type == "gpt2" else model
    published.to(dtype).save_pretrained(folder, max_shard_size=shard)
    shutil.copy(tokenizer, folder)
    return folder


def llama3_published(folder, tokenizer):
    """As Meta releases it: bfloat16, in shards, rotary settings under rope_theta and rope_scaling."""
    make(folder, tokenizer, LlamaConfig(**LLAMA3), torch.bfloat16, "500KB")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    path.write_text(json.dumps({**config, "rope_theta": theta, "rope_scaling": LLAMA3_ROPE}, indent=2))
    return folder


def llama3_new(folder, tokenizer):
    """As transformers 5 writes it: rope_parameters."""
    return make(folder, tokenizer, LlamaConfig(**LLAMA3))


def biased(folder, tokenizer):
    return make(folder, tokenizer, LlamaConfig(**BIASED))


def initialised(build, folder, shape):
    """Random weights by dtrain itself, as published: bfloat16, in shards."""
    subprocess.run([Path(build) / "dtrain", "init", shape, folder, "--seed", "5", "--type", "BF16", "--shard-mb", "1"],
                   check=True, stdout=subprocess.DEVNULL)
    return folder


def families(scratch, tokenizer):
    configs = {"mistral": MistralConfig(**MISTRAL), "qwen2": Qwen2Config(**QWEN2), "qwen3": Qwen3Config(**QWEN3),
               "gpt2": GPT2Config(**GPT2)}
    return {name: make(scratch / name, tokenizer, config) for name, config in configs.items()}


class Split(torch.nn.Module):
    """GPT-2's fused projection as three, with dtrain's names: c_attn.q, c_attn.k, c_attn.v."""

    def __init__(self, fused):
        super().__init__()
        width = fused.nx
        for i, name in enumerate("qkv"):
            part = Conv1D(width, width)
            columns = slice(i * width, (i + 1) * width)
            part.weight = torch.nn.Parameter(fused.weight.detach()[:, columns].clone())
            part.bias = torch.nn.Parameter(fused.bias.detach()[columns].clone())
            self.add_module(name, part)

    def forward(self, x):
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if model.config.model_type == "gpt2":
        for block in model.transformer.h:
            block.attn.c_attn = Split(block.attn.c_attn)
    return model
