/* Writing checkpoints: each rank its file of a part, then rank 0 the manifest, which makes the folder a checkpoint. */
#define _GNU_SOURCE    // renameat2
#include "base/file.h" // dt_dir_*, dt_file_*
#include "base/hash.h" // dt_digest_file
#include "base/log.h"  // dt_log
#include "train/checkpoint_layout.h"

#include <cjson/cJSON.h> // cJSON
#include <dirent.h>      // opendir
#include <errno.h>       // errno
#include <fcntl.h>       // AT_FDCWD
#include <stdio.h>       // renameat2
#include <stdlib.h>      // free
#include <string.h>      // memcpy, strcmp
#include <unistd.h>      // symlink

/* ---- a rank's file ---- */

/* A sparse tensor is stored as two: "name:index" and "name:value". */
static dt_status add_sparse(dt_region *region, const dt_ckpt_tensor *t, dt_st_entry *index, dt_st_entry *value)
{
    const int64_t size = dt_ckpt_global_size(t);
    const int narrow = size <= INT32_MAX;
    int32_t *small = narrow ? dt_region_alloc(region, (size_t)t->count * sizeof *small) : NULL;
    const char *index_name = dt_region_printf(region, "%s:index", t->name);
    const char *value_name = dt_region_printf(region, "%s:value", t->name);
    if ((narrow && !small) || !index_name || !value_name)
        return dt_fail(DT_ERR_MEMORY, "%s: no memory for %lld indices", t->name, (long long)t->count);
    for (int64_t i = 0, last = -1; i < t->count; last = t->index[i++]) {
        if (t->index[i] <= last || t->index[i] >= size)
            return dt_fail(DT_ERR_INTERNAL, "%s: index %lld after %lld does not ascend below %lld", t->name,
                           (long long)t->index[i], (long long)last, (long long)size);
        if (narrow) small[i] = (int32_t)t->index[i];
    }
    *index = (dt_st_entry){.name = index_name, .type = narrow ? DT_ST_I32 : DT_ST_I64, .ndim = 1, .dim = {t->count}};
    index->data = narrow ? (const void *)small : t->index;
    *value = (dt_st_entry){.name = value_name, .type = DT_ST_F32, .ndim = 1, .dim = {t->count}, .data = t->data};
    return DT_OK;
}

static dt_st_entry dense_entry(const dt_ckpt_tensor *t)
{
    dt_st_entry e = {.name = t->name, .type = DT_ST_F32, .ndim = t->ndim, .data = t->data};
    memcpy(e.dim, t->dim, sizeof e.dim);
    if (t->split >= 0) e.dim[t->split] = t->len;
    return e;
}

/* What the file's own header cannot say of a tensor: its global shape, and which piece this is. */
static int describe(cJSON *tensors, const dt_ckpt_tensor *t)
{
    cJSON *item = cJSON_AddObjectToObject(tensors, t->name), *shape = cJSON_AddArrayToObject(item, "shape");
    int ok = shape != NULL;
    for (int d = 0; d < t->ndim; d++) ok = ok && cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->dim[d]));
    if (t->index) return ok && cJSON_AddTrueToObject(item, "sparse");
    if (t->split < 0) return ok;
    return ok && cJSON_AddNumberToObject(item, "split", t->split) &&
           cJSON_AddNumberToObject(item, "offset", (double)t->off);
}

dt_status dt_ckpt_write(const char *run, int64_t step, dt_ckpt_part part, int tensor_rank, int tensor_ranks,
                        const dt_ckpt_tensor *tensor, int64_t n, char digest[33])
{
    dt_region region = {0};
    dt_status st;
    cJSON *tensors = cJSON_CreateObject();
    char *text = NULL;
    int ok = tensors != NULL;
    int64_t entries = 0;
    dt_st_entry *entry = dt_region_alloc(&region, (size_t)(2 * n) * sizeof *entry);
    const char *folder = dt_ckpt_temporary_path(&region, run, step), *path = NULL;
    if (folder)
        path = dt_region_printf(&region, "%s/%s", folder, dt_ckpt_file_name(part, tensor_rank, tensor_ranks).text);
    for (int64_t i = 0; i < n && ok && entry; i++) {
        const dt_ckpt_tensor *t = &tensor[i];
        if (!t->index && t->split < 0 && tensor_rank > 0) continue; // rank 0 stores it
        ok = describe(tensors, t);
        if (t->index) {
            DT_GOTO(add_sparse(&region, t, &entry[entries], &entry[entries + 1]), done);
            entries += 2;
        } else {
            entry[entries++] = dense_entry(t);
        }
    }
    if (ok) text = cJSON_PrintUnformatted(tensors);
    if (!text || !entry || !path) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory to write a checkpoint", run);
        goto done;
    }
    DT_GOTO(dt_dir_make(folder), done);
    DT_GOTO(dt_st_write(path, entry, entries, (const char *const[]){"tensors", text}, 1), done);
    dt_digest written;
    DT_GOTO(dt_digest_file(path, &written), done);
    memcpy(digest, written.hex, sizeof written.hex);
done:
    cJSON_free(text);
    cJSON_Delete(tensors);
    dt_region_free(&region);
    return st;
}

/* ---- the commit ---- */

/* Every file of the checkpoint is in the folder, and nothing else: an interrupted save of the same step, perhaps on
 * another number of ranks, may have left files there. */
static dt_status check_folder(dt_region *region, const char *folder, int tensor_ranks)
{
    const int n = DT_CKPT_PARTS * tensor_ranks;
    dt_ckpt_name *name = dt_region_alloc(region, (size_t)n * sizeof *name);
    if (!name) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its file list", folder);
    for (int i = 0; i < n; i++) {
        name[i] = dt_ckpt_file_name(i / tensor_ranks, i % tensor_ranks, tensor_ranks);
        const char *path = dt_region_printf(region, "%s/%s", folder, name[i].text);
        if (!path || !dt_path_exists(path))
            return dt_fail(DT_ERR_IO, "%s/%s: rank 0 does not see it: the run folder must be shared by all ranks",
                           folder, name[i].text);
    }
    DIR *dir = opendir(folder);
    if (!dir) return dt_fail(DT_ERR_IO, "%s: %s", folder, strerror(errno));
    dt_status st = DT_OK;
    for (struct dirent *item; st == DT_OK && (item = readdir(dir));) {
        int expected = strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0;
        for (int i = 0; i < n && !expected; i++) expected = strcmp(item->d_name, name[i].text) == 0;
        if (expected) continue;
        const char *path = dt_region_printf(region, "%s/%s", folder, item->d_name);
        st = path ? dt_dir_remove(path) : dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", folder);
    }
    closedir(dir);
    return st;
}

/* Gives the finished folder its name. Where a checkpoint has that name already, the two change places in one step. */
static dt_status put_in_place(const char *temporary, const char *final)
{
    if (rename(temporary, final) == 0) return DT_OK;
    if (errno == ENOTEMPTY || errno == EEXIST) {
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) return dt_dir_remove(temporary);
        // Not every file system can exchange: then the old one goes first, and a crash here falls back to the one
        // before.
        DT_TRY(dt_dir_remove(final));
        if (rename(temporary, final) == 0) return DT_OK;
    }
    return dt_fail(DT_ERR_IO, "%s: cannot rename to %s: %s", temporary, final, strerror(errno));
}

/* A checkpoint loses its name before its files: one that is removed half-way is never taken for complete. */
static void remove_checkpoint(const char *path, const char *temporary)
{
    if (path && rename(path, temporary) < 0)
        dt_log(DT_LOG_WARN, "%s: cannot remove this old checkpoint: %s", path, strerror(errno));
    else if (dt_dir_remove(temporary) != DT_OK) dt_log(DT_LOG_WARN, "%s", dt_error_text());
}

/* Removes what `keep` does not cover, but for step `best`. The checkpoint is safe by now: what cannot be removed is no
 * reason to fail. */
static void retain(dt_region *region, const char *run, int64_t newest, int keep, int64_t best)
{
    for (int temporary = 1; temporary >= 0; temporary--) {
        int64_t *step, n;
        if (dt_ckpt_list(run, temporary, &step, &n) != DT_OK) {
            dt_log(DT_LOG_WARN, "%s", dt_error_text());
            return;
        }
        for (int64_t i = 0; i < n; i++) {
            const char *path = temporary ? NULL : dt_ckpt_step_path(region, run, step[i]);
            const char *gone = dt_ckpt_temporary_path(region, run, step[i]);
            int surplus = temporary ? step[i] <= newest : i < n - keep && step[i] != newest && step[i] != best;
            if (surplus && gone && (temporary || path)) remove_checkpoint(path, gone);
        }
        free(step);
    }
}

dt_status dt_ckpt_set_best(const char *run, int64_t step)
{
    dt_region region = {0};
    dt_status st = DT_OK;
    const char *root = dt_ckpt_root_path(&region, run);
    const char *link = dt_region_printf(&region, "%s/" DT_CKPT_BEST, root ? root : "");
    const char *temporary = dt_region_printf(&region, "%s/" DT_CKPT_BEST ".tmp", root ? root : "");
    const char *path = dt_ckpt_step_path(&region, run, step);
    if (!root || !link || !temporary || !path) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", run);
    } else if (step < 0) {
        if (unlink(link) < 0 && errno != ENOENT) st = dt_fail(DT_ERR_IO, "%s: %s", link, strerror(errno));
    } else {
        unlink(temporary); // left by a process that died
        if (symlink(strrchr(path, '/') + 1, temporary) < 0 || rename(temporary, link) < 0)
            st = dt_fail(DT_ERR_IO, "%s: cannot be made a link: %s", link, strerror(errno));
        if (st == DT_OK) st = dt_dir_sync(root);
    }
    dt_region_free(&region);
    return st;
}

dt_status dt_ckpt_commit(const char *run, const dt_ckpt_meta *meta, const char (*digests)[33], int keep, bool keep_best)
{
    dt_region region = {0};
    dt_status st;
    const char *root = dt_ckpt_root_path(&region, run), *final = dt_ckpt_step_path(&region, run, meta->step);
    const char *temporary = dt_ckpt_temporary_path(&region, run, meta->step);
    if (!root || !temporary || !final) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", run);
        goto done;
    }
    DT_GOTO(check_folder(&region, temporary, meta->tensor_ranks), done);
    DT_GOTO(dt_ckpt_manifest_write(temporary, meta, digests), done);
    DT_GOTO(dt_dir_sync(temporary), done);
    DT_GOTO(put_in_place(temporary, final), done);
    DT_GOTO(dt_dir_sync(root), done);
    if (keep_best) DT_GOTO(dt_ckpt_set_best(run, meta->best.step), done);
    retain(&region, run, meta->step, keep, keep_best ? meta->best.step : -1);
done:
    dt_region_free(&region);
    return st;
}
