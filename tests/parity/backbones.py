"""Small Llamas with random weights, saved by transformers in the forms in which Llamas are published."""
import json
import shutil

import torch
from transformers import LlamaConfig, LlamaForCausalLM

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


def make(folder, tokenizer, config, dtype=torch.float32, shard="1GB"):
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**config))
    with torch.no_grad():  # gains that are not all one, biases that are not all zero
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.1)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    shutil.copy(tokenizer, folder)
    return folder


def llama3_published(folder, tokenizer):
    """As Meta releases it: bfloat16, in shards, rotary settings under rope_theta and rope_scaling."""
    make(folder, tokenizer, LLAMA3, torch.bfloat16, "500KB")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    path.write_text(json.dumps({**config, "rope_theta": theta, "rope_scaling": LLAMA3_ROPE}, indent=2))
    return folder


def llama3_new(folder, tokenizer):
    """As transformers 5 writes it: rope_parameters."""
    return make(folder, tokenizer, LLAMA3)


def biased(folder, tokenizer):
    return make(folder, tokenizer, BIASED)
