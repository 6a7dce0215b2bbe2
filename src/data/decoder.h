/* The decoder of a tokenizer.json: turns the texts of tokens back into plain text. */
#ifndef DT_DATA_DECODER_H
#define DT_DATA_DECODER_H

#include "base/json.h" // dt_json
#include "data/text.h" // dt_text

typedef struct dt_decoder {
    struct dt_decoder_step *step; /* [n], each on the pieces that the one before left */
    int64_t n, cap;
} dt_decoder;

/** Texts one behind the other; piece i is text.data[end[i - 1] .. end[i]). Zero-initialise. */
typedef struct dt_pieces {
    dt_text text;
    int64_t *end; /* [n] */
    int64_t n, cap;
} dt_pieces;

/** Ends the piece that was appended to pieces->text. */
dt_status dt_pieces_close(dt_pieces *pieces) DT_WARN_UNUSED;
void dt_pieces_free(dt_pieces *pieces);

/** Loads root.decoder: null, Sequence, ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, WordPiece. */
dt_status dt_decoder_load(const dt_json *root, dt_decoder *out) DT_WARN_UNUSED;
void dt_decoder_free(dt_decoder *decoder);

/** Rewrites the tokens' texts; what is left in pieces->text is the plain text. */
dt_status dt_decoder_run(const dt_decoder *decoder, dt_pieces *pieces) DT_WARN_UNUSED;

#endif
