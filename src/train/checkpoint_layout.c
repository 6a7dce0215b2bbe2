/* Names of a run's checkpoint folders and files, and which of them are there. */
#include "train/checkpoint_layout.h"
#include "base/file.h" // dt_path_exists, dt_dir_remove

#include <dirent.h> // opendir
#include <errno.h>  // errno
#include <stdio.h>  // snprintf
#include <stdlib.h> // qsort, strtoll
#include <string.h> // strncmp

static const char step_prefix[] = "step-", temporary_suffix[] = ".tmp";

const char *dt_ckpt_root_path(dt_region *region, const char *run)
{
    return dt_region_printf(region, "%s/ckpt", run);
}

const char *dt_ckpt_step_path(dt_region *region, const char *run, int64_t step)
{
    return dt_region_printf(region, "%s/ckpt/%s%06lld", run, step_prefix, (long long)step);
}

const char *dt_ckpt_temporary_path(dt_region *region, const char *run, int64_t step)
{
    return dt_region_printf(region, "%s/ckpt/%s%06lld%s", run, step_prefix, (long long)step, temporary_suffix);
}

dt_ckpt_name dt_ckpt_file_name(dt_ckpt_part part, int tensor_rank, int tensor_ranks)
{
    static const char *const stem[DT_CKPT_PARTS] = {[DT_CKPT_DELTA] = "delta", [DT_CKPT_OPTIMIZER] = "optimizer"};
    dt_ckpt_name name;
    snprintf(name.text, sizeof name.text, "%s-%05d-of-%05d.safetensors", stem[part], tensor_rank, tensor_ranks);
    return name;
}

int64_t dt_ckpt_global_size(const dt_ckpt_tensor *t)
{
    int64_t size = 1;
    for (int d = 0; d < t->ndim; d++) size *= t->dim[d];
    return size;
}

/* The step in a folder's name; -1 if it is another kind of name. */
static int64_t step_of(const char *name, int temporary)
{
    if (strncmp(name, step_prefix, sizeof step_prefix - 1) != 0) return -1;
    const char *digits = name + sizeof step_prefix - 1;
    size_t length = strspn(digits, "0123456789");
    if (length < 6 || length > 18 || strcmp(digits + length, temporary ? temporary_suffix : "") != 0) return -1;
    return strtoll(digits, NULL, 10);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

dt_status dt_ckpt_list(const char *run, int temporary, int64_t **step, int64_t *n)
{
    dt_status st = DT_OK;
    dt_region region = {0};
    DIR *dir = NULL;
    int64_t *found = NULL, count = 0, cap = 0;
    const char *root = dt_ckpt_root_path(&region, run);
    if (!root) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", run);
        goto done;
    }
    dir = opendir(root);
    if (!dir && errno != ENOENT) {
        st = dt_fail(DT_ERR_IO, "%s: %s", root, strerror(errno));
        goto done;
    }
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int64_t at = step_of(entry->d_name, temporary);
        const char *manifest = dt_region_printf(&region, "%s/%s/%s", root, entry->d_name, DT_CKPT_MANIFEST);
        if (at < 0 || !manifest || (!temporary && !dt_path_exists(manifest))) continue;
        DT_GOTO(dt_grow(&found, &cap, count + 1, sizeof *found), done);
        found[count++] = at;
    }
    if (count > 0) qsort(found, (size_t)count, sizeof *found, ascending);
done:
    if (dir) closedir(dir);
    dt_region_free(&region);
    if (st == DT_OK) *step = found, *n = count;
    else free(found);
    return st;
}

bool dt_ckpt_has(const char *run, int64_t step)
{
    dt_region region = {0};
    const char *folder = dt_ckpt_step_path(&region, run, step);
    const char *manifest = folder ? dt_region_printf(&region, "%s/%s", folder, DT_CKPT_MANIFEST) : NULL;
    bool has = manifest && dt_path_exists(manifest);
    dt_region_free(&region);
    return has;
}

dt_status dt_ckpt_latest(const char *run, int64_t *step)
{
    int64_t *all, n;
    DT_TRY(dt_ckpt_list(run, 0, &all, &n));
    *step = n > 0 ? all[n - 1] : -1;
    free(all);
    return DT_OK;
}

dt_status dt_ckpt_clean(const char *run)
{
    int64_t *step, n;
    dt_region region = {0};
    DT_TRY(dt_ckpt_list(run, 1, &step, &n));
    dt_status st = DT_OK;
    for (int64_t i = 0; i < n && st == DT_OK; i++) {
        const char *path = dt_ckpt_temporary_path(&region, run, step[i]);
        st = path ? dt_dir_remove(path) : dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", run);
    }
    dt_region_free(&region);
    free(step);
    return st;
}
