/* The index of a folder with two shards, and a third one that holds nothing. */
#include "driver/tensors.h"

static void put_shards(void)
{
    static const char a[] =
        "\x36\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\0\0\x80?";
    static const char b[] = "\x34\0\0\0\0\0\0\0{\"b\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]}}\1";
    static const char none[] = "\2\0\0\0\0\0\0\0{}";
    static int there;
    if (there++) return;
    fuzz_put("a.safetensors", a, sizeof a - 1);
    fuzz_put("b.safetensors", b, sizeof b - 1);
    fuzz_put("none.safetensors", none, sizeof none - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dt_st *st;
    put_shards();
    fuzz_put("model.safetensors.index.json", data, size);
    if (fuzz_took(dt_st_open(fuzz_folder(), &st))) {
        check_tensors(st);
        dt_st_close(st);
    }
    return 0;
}
