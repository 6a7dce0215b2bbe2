/* What holds of every set of tensors that was opened. */
#ifndef DT_TESTS_FUZZ_TENSORS_H
#define DT_TESTS_FUZZ_TENSORS_H

#include "fuzz.h"
#include "model/safetensors.h" // dt_st
#include <stdlib.h>            // malloc, free
#include <string.h>            // strcmp

/** Tensors are sorted by name, lie in readable memory, and are converted element by element. */
static inline void check_tensors(const dt_st *st)
{
    unsigned sum = 0;
    for (int64_t i = 0; i < dt_st_count(st); i++) {
        const dt_st_tensor *t = dt_st_at(st, i);
        int64_t count = 1;
        FUZZ_CHECK(i == 0 || strcmp(dt_st_at(st, i - 1)->name, t->name) < 0);
        FUZZ_CHECK(dt_st_find(st, t->name) == t);
        FUZZ_CHECK(t->ndim >= 0 && t->ndim <= DT_TENSOR_DIMS);
        for (int d = 0; d < t->ndim; d++) count *= t->bytes ? t->dim[d] : 0;
        FUZZ_CHECK(!dt_st_type_size(t->type) || (size_t)count * dt_st_type_size(t->type) == t->bytes);
        for (size_t b = 0; b < t->bytes; b++) sum += t->data[b];
        float *values = malloc(sizeof *values * (size_t)(count + 1));
        if (fuzz_took(dt_st_to_f32(t->type, t->data, 0, 1, count, count, values)) && count > 0) sum += values[0] > 0;
        free(values);
    }
    fuzz_took(sum && dt_st_metadata(st, "format") ? DT_OK : DT_OK); // what was read is used
}

#endif
