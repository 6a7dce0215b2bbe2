/* The manifest of a checkpoint: as it is, and with the digest that makes it look untouched. What is taken and written
 * again is read as the same. */
#include "base/hash.h" // dt_digest_bytes
#include "driver/fuzz.h"
#include "train/checkpoint_layout.h"
#include <math.h>   // isnan
#include <stdio.h>  // snprintf
#include <stdlib.h> // malloc
#include <string.h> // memcpy

/* Reads the manifest in the folder; *ranks: for how many it is. */
static int take(dt_region *region, dt_ckpt_meta *meta, const char (**digests)[33])
{
    *meta = (dt_ckpt_meta){0};
    return fuzz_took(dt_ckpt_manifest_read(fuzz_folder(), region, meta, digests));
}

static int same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void check_again(const dt_ckpt_meta *meta, const char (*digests)[33])
{
    dt_region region = {0};
    dt_ckpt_meta again;
    const char(*digests_again)[33];
    if (!fuzz_took(dt_ckpt_manifest_write(fuzz_folder(), meta, digests))) return;
    FUZZ_CHECK(take(&region, &again, &digests_again));
    FUZZ_CHECK(again.step == meta->step && again.sequences == meta->sequences && again.seed == meta->seed);
    FUZZ_CHECK(again.data_ranks == meta->data_ranks && again.tensor_ranks == meta->tensor_ranks);
    FUZZ_CHECK(again.data_fingerprint == meta->data_fingerprint);
    FUZZ_CHECK(again.best.evaluated == meta->best.evaluated && again.best.step == meta->best.step);
    FUZZ_CHECK(same_number(again.best.loss, meta->best.loss) && again.best.waited == meta->best.waited);
    FUZZ_CHECK(same_number(again.best.reference, meta->best.reference));
    FUZZ_CHECK(strcmp(again.backbone_fingerprint, meta->backbone_fingerprint) == 0);
    FUZZ_CHECK(strcmp(again.config_text, meta->config_text) == 0);
    FUZZ_CHECK(strcmp(again.method_json, meta->method_json) == 0);
    FUZZ_CHECK(memcmp(digests, digests_again, (size_t)(DT_CKPT_PARTS * meta->tensor_ranks) * sizeof *digests) == 0);
    dt_region_free(&region);
}

static void read_manifest(void)
{
    dt_region region = {0};
    dt_ckpt_meta meta;
    const char(*digests)[33];
    if (take(&region, &meta, &digests)) check_again(&meta, digests);
    dt_region_free(&region);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_put(DT_CKPT_MANIFEST, data, size);
    read_manifest();

    char *sealed = malloc(size + 128);
    memcpy(sealed, data, size);
    int tail = snprintf(sealed + size, 128, ",\n\t\"digest\":\t\"%s\"\n}\n", dt_digest_bytes(data, size).hex);
    fuzz_put(DT_CKPT_MANIFEST, sealed, size + (size_t)tail);
    read_manifest();
    free(sealed);
    return 0;
}
