"""Tiny checkpoints of each family with random weights, and what transformers computes with them in float64.

    python families.py [FOLDER]

Writes FOLDER/<type>/{config.json,model.safetensors,nll.json} and FOLDER/tokenizer.json (one token a byte), FOLDER being
tests/golden/families. nll.json: for each text its ids and -log p(ids[i + 1] | ids[0 .. i]).
"""
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXTS = [
    "Once upon a time there was a little graph that could not see further than eight tokens back.",
    "0123456789 abcdefghijklmnopqrstuvwxyz",
    "äöü → ∑ 🙂",
    "aaaaaaaaaaaaaaaaaaaaaaaabaaaaaaaaaaaaaaaaaaaaaaaa",
]
COMMON = dict(vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=128, bos_token_id=256, eos_token_id=256,
              attn_implementation="eager")
CONFIGS = {
    # A window shorter than the texts.
    "mistral": transformers.MistralConfig(sliding_window=8, head_dim=6, **COMMON),
    # The first layer sees everything, the others a window; tied.
    "qwen2": transformers.Qwen2Config(use_sliding_window=True, sliding_window=12, max_window_layers=1,
                                      tie_word_embeddings=True, rope_parameters={"rope_type": "default",
                                                                                 "rope_theta": 1e6}, **COMMON),
    "qwen3": transformers.Qwen3Config(head_dim=8, attention_bias=True, **COMMON),
    # A vocabulary that no number of ranks divides.
    "gpt2": transformers.GPT2Config(vocab_size=257, n_embd=16, n_layer=3, n_head=4, n_inner=24, n_positions=128,
                                    bos_token_id=256, eos_token_id=256, attn_implementation="eager"),
}


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(["<|endoftext|>"])
    return own


def randomize(model):
    """Weights that make every part matter: no gain that is one, no bias that is zero."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.4 if "embed" in name or "wte" in name else 0.25)
            elif name.endswith("bias"):
                weight.normal_(0, 0.3)
            else:
                weight.uniform_(0.5, 1.5)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    own = tokenizer()
    own.save(str(folder / "tokenizer.json"))
    for name, config in CONFIGS.items():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomize(model)
        # GPT-2's published files are those of the model without its head: no "transformer." in front of the names.
        (model.transformer if name == "gpt2" else model).save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        model = model.double().eval()
        golden = []
        for text in TEXTS:
            ids = own.encode(text).ids
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0]
            assert logits.dtype == torch.float64
            nll = F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
            golden.append({"text": text, "ids": ids, "nll": [round(x, 7) for x in nll.tolist()]})
        (folder / name / "nll.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "families")
