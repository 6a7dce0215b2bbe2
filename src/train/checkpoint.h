/* Checkpoints of the delta: <run>/ckpt/step-000100/ with delta-00000-of-00002.safetensors (one per tensor rank),
 * optimizer-00000-of-00002.safetensors and manifest.json (format version, step, everything resuming needs, digest of
 * every file). Written into step-000100.tmp/, fsynced, renamed: a half-written one is never seen as complete. */
#ifndef DT_TRAIN_CHECKPOINT_H
#define DT_TRAIN_CHECKPOINT_H

#include "base/status.h"       // dt_status
#include "model/safetensors.h" // DT_TENSOR_DIMS
#include "train/best.h"        // dt_best
#include <stdint.h>            // int64_t

typedef enum dt_ckpt_part { DT_CKPT_DELTA, DT_CKPT_OPTIMIZER, DT_CKPT_PARTS } dt_ckpt_part;

/** A rank's piece of one named tensor. Dense: the slice [off, off+len) along `split` of a tensor of global shape `dim`
 *  (split -1: the whole tensor, which every rank holds and rank 0's file stores); slices may overlap (replicated heads)
 *  and together cover the tensor. Sparse (index != NULL, even where count is 0): `count` values and their flat
 * row-major indices in the global shape, ascending, disjoint between ranks. */
typedef struct dt_ckpt_tensor {
    const char *name;
    int ndim;
    int64_t dim[DT_TENSOR_DIMS];
    int split;
    int64_t off, len;
    const int64_t *index; /* stored as int32 where the global size fits, as int64 otherwise */
    int64_t count;
    float *data; /* fp32, contiguous local slice */
} dt_ckpt_tensor;

/** Manifest fields beside the file list. `json` texts are embedded as they are. */
typedef struct dt_ckpt_meta {
    int64_t step;      /* optimiser steps done */
    int64_t sequences; /* training sequences consumed */
    uint64_t seed;
    int data_ranks, tensor_ranks;
    dt_best best; /* dt_best_none where the manifest tells nothing */
    uint64_t data_fingerprint;
    const char *backbone_fingerprint;
    const char *config_text; /* resolved configuration */
    const char *choices;     /* of the device (dt_device_ops.choices); "" or NULL: it had none */
    const char *method_json; /* what the methods recorded: an object, "{}" if nothing */
} dt_ckpt_meta;

/** Writes one rank's file of one part into <run>/ckpt/step-<step>.tmp/. Tensors with split -1 and no index are left out
 *  where `tensor_rank` > 0. Local; may run on a thread. *digest is the written file's. */
dt_status dt_ckpt_write(const char *run, int64_t step, dt_ckpt_part part, int tensor_rank, int tensor_ranks,
                        const dt_ckpt_tensor *tensor, int64_t n, char digest[33]) DT_WARN_UNUSED;
/** Rank 0, when every file is written: digests[part * tensor_ranks + r]; manifest, fsync, rename; then removes all but
 *  the `keep` newest complete checkpoints, this one always among them, and .tmp folders of earlier steps (a later one
 *  may be in the making). A complete checkpoint of the same step is replaced. What cannot be removed is logged.
 *  keep_best: <run>/ckpt/best is made to lead to the step of meta->best, which is spared, however old. */
dt_status dt_ckpt_commit(const char *run, const dt_ckpt_meta *meta, const char (*digests)[33], int keep,
                         bool keep_best) DT_WARN_UNUSED;
/** Makes the link <run>/ckpt/best lead to the checkpoint of a step, or removes it (-1). Rank 0. */
dt_status dt_ckpt_set_best(const char *run, int64_t step) DT_WARN_UNUSED;
/** Removes what interrupted saves left behind. Rank 0, before the first save of a process. */
dt_status dt_ckpt_clean(const char *run) DT_WARN_UNUSED;

typedef struct dt_ckpt dt_ckpt;
/** Does a run have a complete checkpoint of a step? */
bool dt_ckpt_has(const char *run, int64_t step);
/** Newest complete checkpoint of a run: *step = -1 if there is none. Removes nothing. */
dt_status dt_ckpt_latest(const char *run, int64_t *step) DT_WARN_UNUSED;
/** Opens a checkpoint: a step folder, or a run folder (its newest). Verifies format, file list and digests; what is
 *  missing, torn, edited or inconsistent is DT_ERR_STATE, which names the file. */
dt_status dt_ckpt_open(const char *path, dt_ckpt **out) DT_WARN_UNUSED;
void dt_ckpt_close(dt_ckpt *ck);
const dt_ckpt_meta *dt_ckpt_get_meta(const dt_ckpt *ck);
const char *dt_ckpt_path(const dt_ckpt *ck);
int64_t dt_ckpt_count(const dt_ckpt *ck, dt_ckpt_part part);
/** Name and global shape of tensor i (sorted by name), and the `split` that it was written with (off 0, len that whole
 *  dimension); count is the number of values if it is sparse, -1 if it is dense; data and index are NULL. */
dt_status dt_ckpt_describe(const dt_ckpt *ck, dt_ckpt_part part, int64_t i, dt_ckpt_tensor *out) DT_WARN_UNUSED;
/** Fills out->data (out->len slice of the global tensor along out->split, or all of it), whatever layout wrote it; of a
 *  sparse tensor (out->index != NULL) the values at out->count ascending indices, each of which must be stored.
 *  DT_ERR_STATE if the name is missing or the global shape differs (both named). */
dt_status dt_ckpt_read(const dt_ckpt *ck, dt_ckpt_part part, const dt_ckpt_tensor *out) DT_WARN_UNUSED;
/** Sparse: all (index, value) pairs of a tensor, ascending by index; both freed with free(). */
dt_status dt_ckpt_read_sparse(const dt_ckpt *ck, dt_ckpt_part part, const char *name, int64_t **index, float **value,
                              int64_t *count) DT_WARN_UNUSED;

#endif
