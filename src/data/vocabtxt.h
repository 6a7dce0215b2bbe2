/* A bare vocab.txt, one WordPiece token a line: read as the tokenizer.json that stands for the same tokenizer. */
#ifndef DT_DATA_VOCABTXT_H
#define DT_DATA_VOCABTXT_H

#include "base/json.h"   // dt_json
#include "base/memory.h" // dt_region

/** Reads `<folder>/vocab.txt` as BERT's tokenizer (Devlin et al. 2018) and makes its tokenizer.json: BertNormalizer,
 *  BertPreTokenizer, WordPiece with "##" and 100 characters, [CLS] TEXT [SEP]. Of tokenizer_config.json, where present:
 *  do_lower_case, strip_accents, tokenize_chinese_chars and the texts of the five special tokens. DT_ERR_DATA where
 *  that file or config.json says that the tokenizer is not BERT's. *out is freed with dt_json_free, its paths with
 *  *paths. */
dt_status dt_vocabtxt_load(const char *folder, dt_region *paths, dt_json *out) DT_WARN_UNUSED;

#endif
