"""Prints the tables of src/data/charclass.c: the code points that the Python package `tokenizers` puts in the other class
than the category of the installed utf8proc says.

    python tests/golden/charclass_tables.py        # tokenizers 0.23, utf8proc 2.8 (Unicode 15) made those in the repository
"""
import ctypes

from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

utf8proc = ctypes.CDLL("libutf8proc.so.2")
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]


def dropped(normalizer):
    return {c for c in POINTS if normalizer.normalize_str(f"a{chr(c)}b") == "ab"}


def bert(**options):
    steps = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return N.BertNormalizer(**{**steps, **options})


def table(name, package, categories):
    differ = sorted(package ^ {c for c in POINTS if CATEGORY[c] in categories})
    ranges = []
    for c in differ:
        if c < 0x80:
            continue  # charclass.c knows ASCII without a table
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    print(f"static const range {name}[] = {{")
    print("    " + " ".join(f"{{0x{first:X}, 0x{last:X}}}," for first, last in ranges) + "\n};")


CATEGORY = {c: utf8proc.utf8proc_category_string(c).decode() for c in POINTS}
cut = P.Punctuation()
table("CONTROL", dropped(bert(clean_text=True)) - {0xFFFD}, {"Cc", "Cf", "Co"})
table("NONSPACING", dropped(bert(strip_accents=True)), {"Mn"})
table("COMBINING", dropped(N.StripAccents()), {"Mn", "Mc", "Me"})
table("PUNCTUATION", {c for c in POINTS if len(cut.pre_tokenize_str(f"a{chr(c)}b")) == 3},
      {"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"})
