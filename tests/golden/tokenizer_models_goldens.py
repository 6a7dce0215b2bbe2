"""Makes the goldens of tests/unit/tokenizer_wordpiece.c and tokenizer_unigram.c with the Python packages `tokenizers` and
`transformers` (0.23 and 5.23 made those in the repository), and compares on many lines.

    python tests/golden/tokenizer_models_goldens.py [../shared/data]
    python tests/golden/tokenizer_models_goldens.py ../shared/data FOLDER    # then: DT_TOKENIZER_LINES=FOLDER unit ...

wordpiece/vocab.txt      a small WordPiece vocabulary, trained here
unigram/tokenizer.json   a small Unigram tokenizer in the shape of T5's with a charsmap of its own, trained here
tokenizer_models.json    texts, and their ids and decodings by these two, by bert-uncased and by t5-small (the last two lie
                         in shared data); tiny tokenizers, one for each shape of file, with ids and decodings
                         (the trainers' vocabularies differ a little from run to run: all three files are made together)
FOLDER/NAME.jsonl        10,000 lines [text, ids, decoding], for each of the four tokenizers in shared data
"""
import base64
import json
import random
import struct
import sys
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, trainers
from tokenizers import decoders as D
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P
from tokenizer_goldens import HERE, LINES, SHARED, dump, mixtures

EXTRA = ["ﬁ\u0301", "①", "Å", "\u212b", "a\u0301\u0302", "İ", "ΣΑΣ", "\u0958", "\u0cc6", "\u200d", "[MASK]", "[UNK]", "</s>",
         "<unk>", "<extra_id_0>", "do not", " n't", "##ing", "\ufffd", "\u00ad", "が", "ｶﾞ", "\u1100\u1161\u11a8", "½", "…"]


def charsmap(entries):
    """Sentencepiece's precompiled charsmap of {from: to}: a double array (darts-clone's units), then the texts."""
    texts, at = b"", {}
    for text in entries.values():
        at.setdefault(text, len(texts))
        if at[text] == len(texts):
            texts += text.encode() + b"\0"
    root = {}
    for source, text in entries.items():
        node = root
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node[0] = at[text]
    unit, bases = {0: 0}, set()
    waiting = [(0, root)]
    for place, node in waiting:
        base = next(b for b in range(1, 1 << 20) if b not in bases and not any(b ^ label in unit for label in node))
        bases.add(base)
        unit[place] |= (place ^ base) << 10 | (0 in node) << 8
        for label, child in node.items():
            unit[base ^ label] = label if label else 1 << 31 | child
            if label:
                waiting.append((base ^ label, child))
    array = [unit.get(i, 0) for i in range((max(unit) | 0xFF) + 1)]
    return struct.pack(f"<I{len(array)}I", 4 * len(array), *array) + texts


def small_charsmap():
    entries = {"\u0007": "", "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200d": " ", "…": "...",
               "e\u0301": "é", "a\u0301": "á", "a\u0301\u0302": "ấ", "\r\n": " "}
    for c in "ﬁﬀ①½ÅｶﾞＡＢ²ſ":
        entries[c] = unicodedata.normalize("NFKC", c)
    return charsmap(entries)


def wordpiece(size, specials, prefix="##"):
    t = Tokenizer(models.WordPiece(unk_token=specials[0]))
    t.normalizer, t.pre_tokenizer = N.BertNormalizer(), P.BertPreTokenizer()
    t.train_from_iterator(LINES, trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=specials, limit_alphabet=150, continuing_subword_prefix=prefix, show_progress=False))
    return sorted(t.get_vocab(), key=t.get_vocab().get)


def unigram(size, specials, lines):
    t = Tokenizer(models.Unigram())
    t.normalizer, t.pre_tokenizer = N.Precompiled(small_charsmap()), P.Metaspace()
    t.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False))
    vocab = json.loads(t.to_str())["model"]["vocab"]
    return [[token, round(score, 4)] for token, score in vocab]


def small_unigram():
    specials = ["<pad>", "</s>", "<unk>"]
    t = Tokenizer(models.Unigram([tuple(v) for v in unigram(380, specials, LINES[:30])], 2))
    t.normalizer = N.Sequence([N.Precompiled(small_charsmap()), N.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = P.Sequence([P.WhitespaceSplit(), P.Metaspace()])
    t.decoder = D.Metaspace()
    t.add_special_tokens(specials)
    return json.loads(t.to_str())


def bert(vocab_txt, **options):
    """What transformers makes of a vocab.txt."""
    from transformers import BertTokenizerFast
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_bytes(vocab_txt)
        return json.loads(BertTokenizerFast.from_pretrained(folder, **options).backend_tokenizer.to_str())


def shapes():
    """name -> tokenizer.json"""
    out = {}

    def shape(name, model, norm=None, pre=None, dec=None, edit=None):
        t = Tokenizer(model)
        for part, value in (("pre_tokenizer", pre), ("normalizer", norm), ("decoder", dec)):
            if value is not None:
                setattr(t, part, value)
        spec = json.loads(t.to_str())
        if edit:
            edit(spec)
        out[name] = spec

    def no_type(spec):
        del spec["model"]["type"]
        spec["model"].pop("byte_fallback", None)

    pieces = [tuple(v) for v in unigram(150, ["<unk>"], LINES[:13])]
    letters = [v for v in pieces if len(v[0]) == 1 and v[0].isascii()]
    every_byte = [(f"<0x{b:02X}>", -9.0) for b in range(256)]
    shape("unigram_bytes", models.Unigram(letters + [("<unk>", 0.0)] + every_byte, len(letters), True), None,
          P.Metaspace(prepend_scheme="first"), D.Sequence([D.ByteFallback(), D.Metaspace()]))
    shape("unigram_bytes_missing", models.Unigram(letters + [("<unk>", -3.0)] + every_byte[:200], len(letters), True),
          N.NFKC(), P.Metaspace(prepend_scheme="never", split=False), D.Sequence([D.ByteFallback(), D.Fuse()]))
    shape("unigram_old", models.Unigram(pieces, 0), N.Sequence([N.Strip(), N.Lowercase()]),
          P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), D.Metaspace(), no_type)
    shape("unigram_all_equal", models.Unigram([("<unk>", 0), ("a", 0), ("b", 0), ("ab", 0), ("ba", 0), ("▁", 1.5), ("é", -0.5),
                                               ("▁a", 1.5), ("The", -100.0), ("<unk>a", 3.0), ("海海", -500.0)], 0),
          None, P.Punctuation())

    shape("unigram_stripped", models.Unigram(letters + [("<unk>", 0.0), ("▁", -2.0)], len(letters)), N.Strip(False, True),
          P.Metaspace(prepend_scheme="never", split=False), D.Metaspace())

    def words(size, prefix="##", **options):
        return models.WordPiece({t: i for i, t in enumerate(wordpiece(size, ["[UNK]"], prefix))}, unk_token="[UNK]",
                                continuing_subword_prefix=prefix, **options)

    shape("wordpiece_cased", words(210, "@", max_input_chars_per_word=12), N.BertNormalizer(lowercase=False), P.Whitespace(),
          D.WordPiece("@", False))
    shape("wordpiece_lower", words(190), N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece())
    shape("wordpiece_plain", words(190), N.BertNormalizer(False, False, True, False),
          P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous")]), D.WordPiece())
    shape("wordpiece_parts", words(190), N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase(), N.Strip(True, False)]),
          P.Sequence([P.Punctuation("contiguous"), P.Whitespace()]), D.WordPiece("##", True), no_type)
    shape("wordpiece_bare", words(180, ""), N.Strip(False, True), P.WhitespaceSplit(), D.WordPiece("", True))
    return out


def cases(spec, texts):
    t = Tokenizer.from_str(json.dumps(spec))
    rows = []
    for text in texts:
        ids = t.encode(text, add_special_tokens=False).ids
        rows.append([ids, *(d if d != text else None for d in (t.decode(ids, skip_special_tokens=s) for s in (False, True)))])
    return rows


def references():
    """The tokenizers in shared data."""
    def read(path):
        return json.loads((SHARED / path).read_text(encoding="utf-8"))

    return {"gpt2": read("tokenizers/gpt2.tokenizer.json"), "t5-small": read("tokenizers/t5-small.tokenizer.json"),
            "bert-uncased": bert((SHARED / "tokenizers" / "bert-uncased.vocab.txt").read_bytes()),
            "stories260k": read("stories260k/tokenizer.json")}


def many_lines(n, seed):
    """A quarter each: prose, code, mixtures, and characters from all of Unicode."""
    rng = random.Random(seed)
    prose = (SHARED / "stories260k" / "tinystories_sample.txt").read_text(encoding="utf-8").splitlines()
    for path in sorted((SHARED / "clinc150").glob("*.jsonl")) + sorted((SHARED / "e2e").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            prose += [value for value in json.loads(line).values() if isinstance(value, str)]
    code = []
    for path in sorted((HERE.parents[1]).glob("*/**/*.[chp]*")):
        if path.suffix in (".c", ".h", ".py", ".proto", ".pbtxt"):
            code += path.read_text(encoding="utf-8").splitlines()
    assigned = [chr(c) for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    marks = [c for c in assigned if unicodedata.category(c)[0] == "M"]
    scripts = [c for c in assigned if ord(c) < 0x3000 or 0xF900 <= ord(c) < 0x12000 or ord(c) >= 0x1D000]

    def wild():
        out = []
        start = rng.randrange(len(scripts))
        for _ in range(rng.randrange(1, 40)):
            kind = rng.random()
            out.append(rng.choice(assigned) if kind < 0.2 else rng.choice(marks) if kind < 0.3 else
                       rng.choice(" aZ9.,-") if kind < 0.5 else scripts[(start + rng.randrange(60)) % len(scripts)])
        return "".join(out)

    lines = rng.sample([p for p in prose if p], n // 4) + rng.sample([c for c in code if c], n // 4)
    return lines + mixtures(n // 4, seed, EXTRA) + [wild() for _ in range(n - 3 * (n // 4))]


def compare(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = many_lines(10000, 3)
    for name, spec in references().items():
        (folder / name).mkdir(exist_ok=True)
        if name == "bert-uncased":  # dtrain reads the vocab.txt itself
            (folder / name / "vocab.txt").write_bytes((SHARED / "tokenizers" / "bert-uncased.vocab.txt").read_bytes())
        else:
            (folder / name / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
        t = Tokenizer.from_str(json.dumps(spec))
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as out:
            for line in lines:
                ids = t.encode(line, add_special_tokens=False).ids
                print(json.dumps([line, ids, t.decode(ids, skip_special_tokens=False)]), file=out)


def main():
    if len(sys.argv) > 2:
        return compare(Path(sys.argv[2]))
    vocab = "\n".join(wordpiece(420, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])) + "\n"
    (HERE / "wordpiece").mkdir(exist_ok=True)
    (HERE / "wordpiece" / "vocab.txt").write_text(vocab, encoding="utf-8")
    small = small_unigram()
    dump(HERE / "unigram" / "tokenizer.json", small)
    texts = LINES + mixtures(30, 4, EXTRA)
    golden = {"texts": texts, "wordpiece": cases(bert(vocab.encode()), texts), "unigram": cases(small, texts),
              "wordpiece_cased": cases(bert(vocab.encode(), do_lower_case=False), texts)}
    for name, spec in references().items():
        if name in ("t5-small", "bert-uncased"):
            golden[name] = cases(spec, texts)
    few = ["The cold boat, don't do not ; a !", "e\u0301té ﬁ\u0301 ① １２ Å ﬀ \u0958", " \t a  b   c\n\n d ", "İΣΑΣ <unk>ab 海海 <unk>a",
           "abababa éa", "supercalifragilistic"] + mixtures(16, 5, EXTRA)
    golden["few"] = few
    golden["shapes"] = [{"name": name, "tokenizer": spec, "cases": cases(spec, few)} for name, spec in shapes().items()]
    dump(HERE / "tokenizer_models.json", golden)


if __name__ == "__main__":
    main()
