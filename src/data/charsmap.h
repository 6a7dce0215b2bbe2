/* Sentencepiece's precompiled charsmap: which characters, or short sequences of them, become which text. */
#ifndef DT_DATA_CHARSMAP_H
#define DT_DATA_CHARSMAP_H

#include "base/json.h" // dt_json
#include "data/text.h" // dt_text

typedef struct dt_charsmap dt_charsmap;

/** Reads the base64 text part.precompiled_charsmap: the byte size of a double array (u32, little-endian), the array
 *  (darts-clone's, u32 units), then the texts, each ended by NUL. Every walk through the array is checked to stay in
 *  it. */
dt_status dt_charsmap_load(const dt_json *part, dt_charsmap **out) DT_WARN_UNUSED;
void dt_charsmap_destroy(dt_charsmap *map);

/** Appends text[bytes], mapped as the `tokenizers` package does: a grapheme cluster of less than 6 bytes as a whole, by
 *  the shortest entry that it begins with; if there is none, or it is longer, each of its characters. */
dt_status dt_charsmap_run(const dt_charsmap *map, const char *text, size_t bytes, dt_text *out) DT_WARN_UNUSED;

#endif
