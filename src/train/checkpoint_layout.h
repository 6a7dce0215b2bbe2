/* What the files of checkpoint_*.c share: names of folders and files, and the manifest. Not for other users. */
#ifndef DT_TRAIN_CHECKPOINT_LAYOUT_H
#define DT_TRAIN_CHECKPOINT_LAYOUT_H

#include "base/memory.h"      // dt_region
#include "train/checkpoint.h" // dt_ckpt_meta, dt_ckpt_part

#define DT_CKPT_MANIFEST "manifest.json"
#define DT_CKPT_BEST "best"

/** "<run>/ckpt", "<run>/ckpt/step-000100" and "<run>/ckpt/step-000100.tmp", in the region; NULL: no memory. */
const char *dt_ckpt_root_path(dt_region *region, const char *run);
const char *dt_ckpt_step_path(dt_region *region, const char *run, int64_t step);
const char *dt_ckpt_temporary_path(dt_region *region, const char *run, int64_t step);

/** Name of a rank's file, "delta-00000-of-00002.safetensors". */
typedef struct dt_ckpt_name {
    char text[64];
} dt_ckpt_name;
dt_ckpt_name dt_ckpt_file_name(dt_ckpt_part part, int tensor_rank, int tensor_ranks);

/** Elements of the global shape. */
int64_t dt_ckpt_global_size(const dt_ckpt_tensor *t);

/** Steps of a run's complete checkpoints (temporary == 0) or of its .tmp folders (1), ascending; freed with free(). */
dt_status dt_ckpt_list(const char *run, int temporary, int64_t **step, int64_t *n) DT_WARN_UNUSED;

/** Writes <folder>/manifest.json; digests[part * tensor_ranks + r]. */
dt_status dt_ckpt_manifest_write(const char *folder, const dt_ckpt_meta *meta,
                                 const char (*digests)[33]) DT_WARN_UNUSED;
/** Reads it back, *meta's strings and *digests into the region. DT_ERR_STATE: missing, damaged, of another format. */
dt_status dt_ckpt_manifest_read(const char *folder, dt_region *region, dt_ckpt_meta *meta,
                                const char (**digests)[33]) DT_WARN_UNUSED;

#endif
