"""What both sides are given: the models, the rows, the delta, the order of the rows."""
import json
import random
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]

SEED, SEQ, BATCH, RANK, ALPHA, LR = 1, 512, 4, 8, 16, 1e-3
TARGETS = "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
N_ROWS = 64


def write_model(folder, vocab, layers=12, width=768, heads=12, ffn=2048):
    """A folder for `dtrain init`: config.json, and a tokenizer in which the word "w17" is token 17."""
    folder.mkdir(parents=True)
    config = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=vocab, hidden_size=width,
                  intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=heads, max_position_embeddings=2048, rms_norm_eps=1e-5, hidden_act="silu",
                  tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, dtype="float32")
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    words = {f"w{i}": i for i in range(vocab)}
    tokenizer = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
                     pre_tokenizer=dict(type="WhitespaceSplit"), post_processor=None, decoder=None,
                     model=dict(type="WordPiece", unk_token="w0", continuing_subword_prefix="##",
                                max_input_chars_per_word=100, vocab=words))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_rows(path, vocab):
    """Rows of SEQ tokens drawn over the whole vocabulary, small ids more often."""
    draw = random.Random(SEED)
    with path.open("w") as file:
        for _ in range(N_ROWS):
            ids = [int(vocab * draw.random() ** 2) for _ in range(SEQ)]
            file.write(json.dumps({"text": " ".join(f"w{i}" for i in ids)}) + "\n")


def read_rows(path):
    texts = (json.loads(line)["text"] for line in Path(path).read_text().splitlines())
    return [[int(word[1:]) for word in text.split()] for text in texts]


def batches(rows, batch):
    """Batches of whole rows without end, in dtrain's order, which the parity tests have a second time."""
    sys.path.append(str(SOURCE / "tests/parity"))
    from rows import order
    queue, epoch = [], 0
    while True:
        while len(queue) < batch:
            queue += order(len(rows), SEED, epoch)
            epoch += 1
        yield [rows[i] for i in queue[:batch]]
        queue = queue[batch:]
