"""Rows as sequences of token ids: what dtrain's data layer promises, written a second time.

A row is (ids, loss_from): ids[i] is a target iff i >= max(loss_from, 1). The rows of an epoch stand in an order that
only (seed, epoch) decides; a sequence takes them one behind the other until the next one does not fit.
"""
import json

from tokenizers import Tokenizer

SHUFFLE = 2  # dtrain's purpose number of this stream


def philox(counter, key):
    """Ten rounds of Philox 4x32 (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return c


def key_of(seed, purpose):
    """splitmix64's output function, as two words."""
    mask = (1 << 64) - 1
    z = seed + purpose * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    z ^= z >> 31
    return z & 0xFFFFFFFF, z >> 32


def order(n_rows, seed, epoch):
    def random(row):
        words = philox((row, 0, epoch, 0), key_of(seed, SHUFFLE))
        return words[0] << 32 | words[1], row

    return sorted(range(n_rows), key=random)


def read(path, backbone, seq_len, loss_on_prompt):
    """The rows of a JSONL file, tokenised by Hugging Face's tokenizers. BOS is what the tokenizer's own template adds;
    EOS stands behind a completion."""
    tokenizer = Tokenizer.from_file(str(backbone / "tokenizer.json"))
    eos = json.loads((backbone / "config.json").read_text())["eos_token_id"]
    rows = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        ids, loss_from = tokenizer.encode(row.get("text", row.get("prompt"))).ids, 0
        if "completion" in row:
            loss_from = 0 if loss_on_prompt else len(ids)
            ids = ids + tokenizer.encode(row["completion"], add_special_tokens=False).ids + [eos]
        rows.append((ids[:seq_len], loss_from))
    return rows


def pack(rows, numbers, seq_len, packing):
    """Lists of row numbers, a sequence each."""
    sequences, room = [], 0
    for number in numbers:
        length = len(rows[number][0])
        if not packing or length > room:
            sequences.append([])
            room = seq_len
        sequences[-1].append(number)
        room -= length
    return sequences


def batches(rows, case, seed):
    """Steps' batches without end: lists of global_batch sequences, a sequence being a list of rows."""
    queue, epoch = [], 0
    while True:
        while len(queue) < case.global_batch:
            queue += pack(rows, order(len(rows), seed, epoch), case.seq_len, case.packing)
            epoch += 1
        batch, queue = queue[: case.global_batch], queue[case.global_batch :]
        yield [[rows[number] for number in sequence] for sequence in batch]
