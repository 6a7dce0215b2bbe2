/* A safetensors file. */
#include "driver/header.h"
#include "driver/tensors.h"
#include <stdio.h> // snprintf

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return mutate_header(data, size, most, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[4200];
    dt_st *st;
    snprintf(path, sizeof path, "%s/x.safetensors", fuzz_folder());
    fuzz_put("x.safetensors", data, size);
    if (fuzz_took(dt_st_open(path, &st))) {
        check_tensors(st);
        dt_st_close(st);
    }
    return 0;
}
