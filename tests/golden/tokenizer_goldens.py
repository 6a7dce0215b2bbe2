"""Makes the goldens of tests/unit/tokenizer.c with the Python package `tokenizers` (0.23 made those in the repository).

    python tests/golden/tokenizer_goldens.py [../shared/data]

llama3/tokenizer.json   a small tokenizer in the shape of Llama 3's, trained here
tokenizer_texts.json    texts, and their ids and decodings by llama3, gpt2 and stories260k (the last two lie in shared data)
tokenizer_shapes.json   tiny tokenizers, one for each shape of file that dtrain reads, with ids and decodings of texts
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, trainers
from tokenizers import decoders as D
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P
from tokenizers import processors

HERE = Path(__file__).resolve().parent
SHARED = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data")

LINES = [
    "The lighthouse keeper counted seven ships before breakfast, and nine after it.",
    "She'll say they've gone; he'd say we're late. It's what I'm told, isn't it? DON'T SHOUT, I'LL HEAR.",
    "A small boat, a long rope, a cold morning: that was all there was to it.",
    '"Where did the river go?" asked the miller. "Under the hill," said the boy.',
    "In 1987 the bridge cost 1,234,567.89 crowns; in 2024 it cost 31 415 926 more.",
    "Call +46 70 123 45 67 or write to keeper@example.org (before 18:30).",
    "for i in range(10): total += weights[i] * values[i]  # a sum",
    'if (x != 0 && y <= 3) { return x->next[2] ? "yes" : "no"; }',
    "def area(r):\n    return 3.14159 * r ** 2\n\n\nprint(area(2))\n",
    "SELECT name, COUNT(*) FROM boats WHERE length > 12.5 GROUP BY name;",
    '<div class="keeper">  <p>&nbsp;light</p>  </div>',
    '{"prompt": "name : Mill | area : riverside", "completion": "The Mill is by the river."}',
    "C:\\harbour\\log.txt and /var/log/harbour.log and https://example.org/a?b=c&d=%20",
    "Die Mühle am Bach läuft schön; Straße, Größe, Übermut.",
    "L'été, l'élève a mangé une crêpe à la crème brûlée.",
    "El niño pingüino soñó con la cigüeña en La Coruña.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Зимой море замерзает, и маяк молчит.",
    "Η θάλασσα ήταν ήσυχη το πρωί.",
    "海边的灯塔每天晚上都亮着。一共有七艘船。",
    "灯台の光は、夜の海を静かに照らしていました。",
    "바다는 오늘도 조용합니다. 배가 일곱 척 있습니다.",
    "البحر هادئ هذا الصباح والسفينة تنتظر.",
    "הים שקט הבוקר והספינה מחכה.",
    "समुद्र आज शांत है और नाव तैयार है।",
    "ทะเลเงียบสงบในตอนเช้า",
    "Biển hôm nay lặng sóng và con tàu đang đợi.",
    "Emoji: 😀 🚢⚓ 👨\u200d👩\u200d👧 🏴\u200d☠\ufe0f ❤\ufe0f 🇸🇪 👍🏽 ✨✨✨",
    "Maths: ∑ᵢ xᵢ² ≤ ∫₀¹ f(x) dx ≈ 2.718 ± ½ → ∞, ℝⁿ, αβγ",
    "Box: ┌──┐ │▒▒│ └──┘ ▁▂▃▄▅▆▇█ • † ‡ … — – ‘quotes’ “double” «angle»",
    "Combining: e\u0301 a\u030a o\u0308\u0323 n\u0303 q\u0307\u0323 \u1e69 \u212b \ufb01 \u2460 \uff21\uff22 \u017f",
    "Odd spaces:\u00a0no\u2003em\u2009thin\u3000wide\u200bzero\u202fnarrow\u180evowel\u0085next\u2028line\ufeffbom",
    "Controls:\u0001\u0007\u001b[0m\u007f\u0080 \ufffd \ue000 \U000f0000",
    "\ttab\t\ttabs\t \t mixed  ",
    "    four spaces, then\n        eight\n\ttab\r\ncarriage\r\n\r\n\n  end   ",
    "a  b   c    d     e      f       g        h",
    "...!!!???---___***///\\\\\\@@@###$$$%%%^^^&&&",
    "x1y22z333 4444a 55555 666666 7777777 ² ³ ½ ٣٤٥ ७८९ Ⅷ",
    "CamelCaseWordsAndXMLHttpRequestAndsnake_case_words",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "▁already▁marked ▁ text▁",
    "<s>begin</s> <unk> <pad> <0x41> <|endoftext|> <|begin_of_text|><|eot_id|>",
    "one<|endoftext|>two <|endoftext|> three<|endoftext|>\n<|endoftext|>",
    " leading space",
    "trailing space ",
    "'S 'T 'RE 'VE 'M 'LL 'D 's 't 're 've 'm 'll 'd 'ſ",
    "", " ", "  ", "\n", "\t\n ", "a", "é", "😀", "\u0301", "1", "'", "'s", "\u00a0", "\u200d",
]


def mixtures(n, seed, extra=()):
    """Seeded texts glued from pieces of LINES, runs of white space and `extra`."""
    rng = random.Random(seed)
    atoms = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "a", "Z", "1", "234", "!", "...", "'s", "'LL", "é", "\u0301",
             "▁", "\u00a0", "\u2003", "海", "😀", "_", "<", "ab", "The"] + list(extra)
    out = []
    for _ in range(n):
        if rng.random() < 0.5:
            out.append("".join(rng.choice(atoms) for _ in range(rng.randrange(1, 16))))
        else:
            line = rng.choice(LINES)
            cut = rng.randrange(len(line) + 1)
            out.append(line[cut:cut + 24] + rng.choice(atoms) + rng.choice(LINES)[:16])
    return out


def dump(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def trained(tokenizer, size, specials=(), alphabet=()):
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=sorted(alphabet), show_progress=False))
    return json.loads(tokenizer.to_str())


def add(spec, content, special=False, **options):
    """Gives `content` the next free id of the tokenizer as an added token."""
    vocab = spec["model"]["vocab"]
    taken = [*vocab.values(), *(token["id"] for token in spec["added_tokens"])]
    spec["added_tokens"].append({"id": vocab.get(content, max(taken) + 1), "content": content, "special": special,
                                 "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **options})


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")


def byte_level(**options):
    return P.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **options})


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = P.Sequence([P.Split(Regex(LLAMA3), "isolated"), byte_level()])
    t.decoder = D.ByteLevel()
    spec = trained(t, 900, alphabet=P.ByteLevel.alphabet())
    for token in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"):
        add(spec, token, special=True)
    bos = next(token["id"] for token in spec["added_tokens"] if token["content"] == "<|begin_of_text|>")
    t = Tokenizer.from_str(json.dumps(spec))
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                      special_tokens=[("<|begin_of_text|>", bos)])])
    return json.loads(t.to_str())


def shapes():
    """name -> tokenizer.json"""
    out = {}

    def shape(name, size, pre=None, norm=None, dec=None, tokens=(), edit=None, **bpe):
        t = Tokenizer(models.BPE(**bpe))
        byte = "ByteLevel" in str(pre)
        for part, value in (("pre_tokenizer", pre), ("normalizer", norm), ("decoder", dec)):
            if value is not None:
                setattr(t, part, value)
        specials = ["<unk>"] if "unk_token" in bpe else []
        fallback = [f"<0x{b:02X}>" for b in range(256)] if bpe.get("byte_fallback") else []
        if byte:
            alphabet = P.ByteLevel.alphabet()
        else:
            alphabet = "▁ abcdefghijklmnopqrstuvwxyzTS'1.,\né"
        # Only the alphabet's characters are known: the others are unknown or bytes.
        t.train_from_iterator(["".join(c for c in line if byte or c in alphabet) for line in LINES],
                              trainers.BpeTrainer(vocab_size=size + len(fallback), special_tokens=specials + fallback,
                                                  initial_alphabet=sorted(alphabet), show_progress=False))
        spec = json.loads(t.to_str())
        spec["added_tokens"] = [a for a in spec["added_tokens"] if a["content"] not in fallback]
        for token in tokens:
            add(spec, **token)
        if edit:
            edit(spec)
        out[name] = spec

    def merges_as_strings(spec):
        spec["model"]["merges"] = ["#version: 0.2"] + [" ".join(pair) for pair in spec["model"]["merges"]]

    def old_metaspace(spec):
        merges_as_strings(spec)
        del spec["model"]["type"]
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
        spec["decoder"] = dict(spec["pre_tokenizer"])

    def some_bytes_missing(spec):
        for byte in ("<0xE2>", "<0xC3>"):
            spec["model"]["vocab"][byte + "!"] = spec["model"]["vocab"].pop(byte)

    every = [{"content": "<s>", "special": True}, {"content": "[L]", "lstrip": True}, {"content": "[R]", "rstrip": True},
             {"content": "the", "single_word": True}, {"content": "cold", "normalized": True}, {"content": "  "}]
    spm_norm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    spm_dec = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
    spm = {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    shape("sentencepiece", 150, None, spm_norm, spm_dec, every, **spm)
    shape("sentencepiece_bytes_missing", 120, None, spm_norm, spm_dec, (), some_bytes_missing, **spm)
    for scheme, split in (("first", True), ("always", False), ("never", True), ("first", False)):
        shape(f"metaspace_{scheme}_{'split' if split else 'whole'}", 120, P.Metaspace(prepend_scheme=scheme, split=split),
              None, D.Metaspace(prepend_scheme=scheme), every[:4], unk_token="<unk>", fuse_unk=split)
    shape("metaspace_old", 120, P.Metaspace(), None, D.Metaspace(), (), old_metaspace, unk_token="<unk>")
    shape("metaspace_behind_split", 110, P.Sequence([P.Split("\n", "isolated"), P.Metaspace(prepend_scheme="first")]),
          N.NFKC(), None, unk_token="<unk>")
    shape("gpt2_prefix_space", 330, byte_level(add_prefix_space=True, use_regex=True), None, D.ByteLevel(), every[:3],
          merges_as_strings)
    shape("qwen", 330, P.Sequence([P.Split(Regex(QWEN), "isolated"), byte_level()]), N.NFC(), D.ByteLevel(), every[:1])
    shape("removed_inverted", 300, P.Sequence([P.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), byte_level()]),
          N.NFD(), D.ByteLevel())
    for behavior in ("contiguous", "merged_with_previous", "merged_with_next"):
        shape(behavior, 300, P.Sequence([P.Split(Regex(r"\s|(?<=[a-z])(?=[A-Z])"), behavior), byte_level()]), None,
              D.ByteLevel())
    shape("digits", 300, P.Sequence([P.Digits(individual_digits=True), byte_level(use_regex=True)]), N.NFKD(), D.ByteLevel())
    shape("bare", 110, None, N.Replace(Regex(r"\s+"), " "), D.Sequence([D.ByteFallback(), D.Strip("a", 0, 1)]))
    return out


def cases(spec, texts):
    t = Tokenizer.from_str(json.dumps(spec))
    rows = []
    for text in texts:
        ids = t.encode(text, add_special_tokens=False).ids
        rows.append([ids, t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)])
    return rows


def main():
    small = llama3()
    dump(HERE / "llama3" / "tokenizer.json", small)
    texts = LINES + mixtures(220, 1, ("<|endoftext|>", "<|eot_id|>", "</s>"))
    files = {"llama3": small,
             "gpt2": json.loads((SHARED / "tokenizers" / "gpt2.tokenizer.json").read_text(encoding="utf-8")),
             "stories260k": json.loads((SHARED / "stories260k" / "tokenizer.json").read_text(encoding="utf-8"))}
    golden = {"texts": texts}
    for name, spec in files.items():
        golden[name] = [[ids, *(d if d != text else None for d in decodings)]
                        for text, (ids, *decodings) in zip(texts, cases(spec, texts))]
    dump(HERE / "tokenizer_texts.json", golden)

    texts = ["The cold boat, the long rope.", "e\u0301té ﬁ ① １２ Å ﬀ", "a  b   c\n\n d"]
    texts += mixtures(30, 2, ("<s>", "[L]", "[R]", "the", "cold"))
    dump(HERE / "tokenizer_shapes.json", {
        "texts": texts,
        "shapes": [{"name": name, "tokenizer": spec, "cases": cases(spec, texts)} for name, spec in shapes().items()]})


if __name__ == "__main__":
    main()
