"""Makes the goldens of tests/unit/chat.c with transformers (5.23) and tokenizers (0.23 made those in the repository).

    python tests/golden/chat_goldens.py

chat/<template>/   a small tokenizer that has the template's special tokens, trained here
chat.json          conversations, and their ids and assistant masks by apply_chat_template, for each template
"""
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as D
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
BYTES = [f"<0x{b:02X}>" for b in range(256)]

TEMPLATES = {
    # Meta-Llama-3-8B-Instruct's; a tool's answer has the header that Llama 3.1 gives it.
    "LLAMA3": """{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}
{{- '<|start_header_id|>' + ('ipython' if message['role'] == 'tool' else message['role']) + '<|end_header_id|>\n\n' -}}
{%- if message['role'] == 'assistant' -%}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
{%- else -%}{{ message['content'] | trim + '<|eot_id|>' }}{%- endif -%}{% endfor %}""",
    "CHATML": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' -}}
{%- if message['role'] == 'assistant' -%}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else -%}{{ message['content'] + '<|im_end|>' }}{%- endif -%}{{ '\n' }}{% endfor %}""",
    # Mistral-7B-Instruct-v0.3's, but that a system message goes in front of the first user message.
    "MISTRAL": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}
{%- set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{%- for message in rest %}{%- if message['role'] == 'user' -%}
{{ '[INST] ' + (system if loop.index0 == 0 else '') + message['content'] + '[/INST]' }}
{%- else -%}{{ ' ' }}{% generation %}{{ message['content'] | trim + eos_token }}{% endgeneration %}{%- endif -%}
{%- endfor %}""",
}

TEXTS = [
    "What is the name of the ship that lies in the harbour?",
    "The ship is called Mill of Riverside. It is 31 metres long, and it's 104 years old.",
    "You are a keeper of a lighthouse, and you answer in one sentence.",
    "  Spaces in front and behind\t ",
    "\n\nline ends around\n",
    "a", "", " ", "\n", "x  y",
    "Die Mühle am Bach läuft schön; Straße, Größe.",
    "海边的灯塔每天晚上都亮着。", "😀 🚢⚓ ✨", "e\u0301 \u00a0nbsp\u2003em \u3000",
    "def area(r):\n    return 3.14159 * r ** 2\n",
    '{"name": "Mill", "area": ["riverside", 7]}',
    "I said <s> and <|eot_id|> and <|im_end|> and [INST] here",
    "assistant", "user\n", "<|", "[/", "</", "1 2 3 45 678 9012",
]


def byte_level(special):
    tok = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(
        Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+"), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    tok.decoder = D.ByteLevel()
    tok.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tok.to_str())


def sentencepiece(special):
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tok.decoder = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
    tok.train_from_iterator([t for t in TEXTS if t.isascii()],
                            trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", *special, *BYTES],
                                                show_progress=False))
    root = json.loads(tok.to_str())
    root["added_tokens"] = [t for t in root["added_tokens"] if t["content"] not in BYTES]
    return root


TOKENIZERS = {
    "LLAMA3": (byte_level, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
               "<|begin_of_text|>", "<|end_of_text|>"),
    "CHATML": (byte_level, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    "MISTRAL": (sentencepiece, ["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>"),
}


def conversations(name, n, seed):
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        messages = []
        if rng.random() < 0.4:
            messages.append({"role": "system", "content": rng.choice(TEXTS)})
        for _ in range(rng.randint(1, 4)):
            messages.append({"role": "user", "content": rng.choice(TEXTS)})
            if name != "MISTRAL" and rng.random() < 0.2:
                messages.append({"role": "tool", "content": rng.choice(TEXTS)})
            messages.append({"role": "assistant", "content": rng.choice(TEXTS)})
        if rng.random() < 0.2:
            messages.append({"role": "user", "content": rng.choice(TEXTS)})
        out.append(messages)
    return out


def main():
    goldens = []
    for name, (make, special, bos, eos) in TOKENIZERS.items():
        folder = HERE / "chat" / name.lower()
        folder.mkdir(parents=True, exist_ok=True)
        root = make(special)
        (folder / "tokenizer.json").write_text(json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": eos}) + "\n")
        tok = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token=bos, eos_token=eos)
        tok.chat_template = TEMPLATES[name]
        for messages in conversations(name, 40, 7):
            got = tok.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            goldens.append({"format": name, "messages": messages, "ids": got["input_ids"],
                            "mask": got["assistant_masks"]})
    lines = ",\n".join(json.dumps(g, ensure_ascii=False, separators=(",", ":")) for g in goldens)
    (HERE / "chat.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
