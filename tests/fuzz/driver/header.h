/* Mutations of a safetensors file that keep its length prefix true, so that they reach what stands behind it. */
#ifndef DT_TESTS_FUZZ_HEADER_H
#define DT_TESTS_FUZZ_HEADER_H

#include <stddef.h> // size_t
#include <stdint.h> // uint8_t, uint64_t
#include <string.h> // memcpy, memmove

/* libFuzzer's; weak: where a corpus is replayed it is not there, and not called. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

/** As LLVMFuzzerCustomMutator: one in four mutates anything; else the header alone, whose length is then set, or what
 *  follows it. */
static inline size_t mutate_header(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    enum { PREFIX = 8, HEADER_MOST = 8192 };
    static uint8_t header[HEADER_MOST], tail[1 << 16];
    uint64_t length = 0;
    if (size >= PREFIX) memcpy(&length, data, PREFIX);
    if (seed % 4 == 0 || size < PREFIX || most < PREFIX || length > size - PREFIX || length > sizeof header ||
        size - PREFIX - length > sizeof tail)
        return LLVMFuzzerMutate(data, size, most);
    size_t left = size - PREFIX - (size_t)length, room = most - PREFIX - left;
    memcpy(header, data + PREFIX, (size_t)length);
    memcpy(tail, data + PREFIX + length, left);
    if (seed % 4 == 1) left = LLVMFuzzerMutate(tail, left, most - PREFIX - (size_t)length);
    else length = LLVMFuzzerMutate(header, (size_t)length, room < sizeof header ? room : sizeof header);
    memcpy(data, &length, PREFIX);
    memcpy(data + PREFIX, header, (size_t)length);
    memcpy(data + PREFIX + length, tail, left);
    return PREFIX + (size_t)length + left;
}

#endif
