/* A file of a checkpoint whose digest is right: the tensors that it describes are read, whole and in slices. */
#include "base/hash.h" // dt_digest_bytes
#include "driver/fuzz.h"
#include "driver/header.h"
#include "train/checkpoint_layout.h"
#include <stdio.h>  // snprintf
#include <stdlib.h> // malloc

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return mutate_header(data, size, most, seed);
}

static void read_dense(const dt_ckpt *ck, dt_ckpt_tensor t)
{
    enum { MOST = 1 << 20 }; // elements: a slice may be asked for that is larger than what is stored (0 of it)
    for (int d = 0; d < t.ndim; d++)
        for (t.split = d, t.off = t.dim[d] / 2, t.len = t.dim[d] - t.off;; t.split = -1) {
            int64_t n = dt_ckpt_global_size(&t);
            if (n > MOST) return;
            t.data = malloc((size_t)(n + 1) * sizeof *t.data);
            fuzz_took(dt_ckpt_read(ck, DT_CKPT_DELTA, &t));
            free(t.data);
            if (t.split < 0) break;
        }
}

static void read_sparse(const dt_ckpt *ck, dt_ckpt_tensor t)
{
    int64_t *index;
    float *value;
    if (!fuzz_took(dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, t.name, &index, &value, &t.count))) return;
    for (int64_t i = 1; i < t.count; i++) FUZZ_CHECK(index[i - 1] < index[i]);
    t.index = index;
    t.data = value;
    FUZZ_CHECK(dt_ckpt_read(ck, DT_CKPT_DELTA, &t) == DT_OK);
    free(index);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char none[] = "\x21\0\0\0\0\0\0\0{\"__metadata__\":{\"tensors\":\"{}\"}}";
    char digest[DT_CKPT_PARTS][33];
    const dt_ckpt_meta meta = {
        .data_ranks = 1, .tensor_ranks = 1, .backbone_fingerprint = "", .config_text = "", .method_json = "{}"};
    dt_ckpt *ck;
    snprintf(digest[DT_CKPT_DELTA], 33, "%s", dt_digest_bytes(data, size).hex);
    snprintf(digest[DT_CKPT_OPTIMIZER], 33, "%s", dt_digest_bytes(none, sizeof none - 1).hex);
    fuzz_put(dt_ckpt_file_name(DT_CKPT_DELTA, 0, 1).text, data, size);
    fuzz_put(dt_ckpt_file_name(DT_CKPT_OPTIMIZER, 0, 1).text, none, sizeof none - 1);
    FUZZ_CHECK(dt_ckpt_manifest_write(fuzz_folder(), &meta, digest) == DT_OK);
    if (!fuzz_took(dt_ckpt_open(fuzz_folder(), &ck))) return 0;
    for (int64_t i = 0; i < dt_ckpt_count(ck, DT_CKPT_DELTA); i++) {
        dt_ckpt_tensor t;
        FUZZ_CHECK(dt_ckpt_describe(ck, DT_CKPT_DELTA, i, &t) == DT_OK);
        if (t.count < 0) read_dense(ck, t);
        else read_sparse(ck, t);
    }
    dt_ckpt_close(ck);
    return 0;
}
