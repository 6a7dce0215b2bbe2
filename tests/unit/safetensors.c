/* safetensors: what is written reads back, conversions are exact, and a damaged or hostile file is an error. */
#include "model/safetensors.h"
#include "base/file.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[64], file[128];

static void make_folder(void)
{
    strcpy(folder, "/tmp/dtrain-st-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/a.safetensors", folder);
}

static void remove_folder(void)
{
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(safetensors, .init = make_folder, .fini = remove_folder);

/* A file with this header text and `bytes` bytes of data; the length field says `length`. */
static void write_raw(const char *header, uint64_t length, size_t bytes)
{
    unsigned char prefix[8];
    char *data = calloc(bytes + 1, 1);
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)(length >> (8 * i));
    for (size_t i = 0; i < bytes; i++) data[i] = (char)i;
    const dt_bytes piece[] = {{prefix, 8}, {header, strlen(header)}, {data, bytes}};
    cr_assert_eq(dt_file_write_pieces(file, piece, 3), DT_OK);
    free(data);
}

static dt_status open_header(const char *header, size_t bytes)
{
    dt_st *st = NULL;
    write_raw(header, strlen(header), bytes);
    dt_error_clear();
    dt_status status = dt_st_open(file, &st);
    cr_assert_eq(status == DT_OK, st != NULL);
    dt_st_close(st);
    return status;
}

/* The file is refused, with a text that names it and holds `text`. */
#define REFUSED(status, text)                                                                                          \
    do {                                                                                                               \
        cr_assert_eq((status), DT_ERR_MODEL, "accepted, or another error than: %s", text);                             \
        cr_assert_not_null(strstr(dt_error_text(), text), "not \"%s\" but: %s", text, dt_error_text());                \
        cr_assert_not_null(strstr(dt_error_text(), folder), "no file name: %s", dt_error_text());                      \
    } while (0)

#define ENTRY(dtype, shape, begin, end)                                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

/* ---- what is right ---- */

Test(safetensors, written_tensors_read_back)
{
    const float a[6] = {1, -2, 3, 4, 5, 6};
    const int64_t b[2] = {INT64_MIN, 7};
    const unsigned char c[3] = {1, 2, 255};
    const dt_st_entry entry[] = {
        {.name = "z.weight", .type = DT_ST_F32, .ndim = 2, .dim = {2, 3}, .data = a},
        {.name = "c \"quoted\" \xc3\xa9", .type = DT_ST_U8, .ndim = 1, .dim = {3}, .data = c},
        {.name = "b", .type = DT_ST_I64, .ndim = 3, .dim = {1, 2, 1}, .data = b},
        {.name = "empty", .type = DT_ST_F32, .ndim = 2, .dim = {0, 5}, .data = NULL},
        {.name = "scalar", .type = DT_ST_F32, .ndim = 0, .data = a + 1},
    };
    const char *const metadata[] = {"format", "pt", "k", "v"};
    cr_assert_eq(dt_st_write(file, entry, 5, metadata, 2), DT_OK);

    dt_st *st;
    cr_assert_eq(dt_st_open(file, &st), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_st_count(st), 5);
    for (int i = 1; i < 5; i++) cr_assert_lt(strcmp(dt_st_at(st, i - 1)->name, dt_st_at(st, i)->name), 0);
    for (int i = 0; i < 5; i++) {
        const dt_st_tensor *t = dt_st_find(st, entry[i].name);
        cr_assert_not_null(t, "%s", entry[i].name);
        cr_assert(t->type == entry[i].type && t->ndim == entry[i].ndim);
        cr_assert_arr_eq(t->dim, entry[i].dim, sizeof t->dim);
        size_t bytes = dt_st_type_size(t->type);
        for (int d = 0; d < t->ndim; d++) bytes *= (size_t)t->dim[d];
        cr_assert_eq(t->bytes, bytes);
        if (bytes > 0) cr_assert_arr_eq(t->data, entry[i].data, bytes);
        cr_assert_str_eq(t->file, file);
    }
    cr_assert_eq((uintptr_t)dt_st_find(st, "z.weight")->data % 64, 0);
    cr_assert_null(dt_st_find(st, "z"));
    cr_assert_str_eq(dt_st_metadata(st, "k"), "v");
    cr_assert_null(dt_st_metadata(st, "none"));
    dt_st_close(st);
}

Test(safetensors, a_file_without_tensors_or_metadata_is_fine)
{
    dt_st *st;
    cr_assert_eq(dt_st_write(file, NULL, 0, NULL, 0), DT_OK);
    cr_assert_eq(dt_st_open(file, &st), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_st_count(st), 0);
    cr_assert_null(dt_st_find(st, "a"));
    cr_assert_null(dt_st_metadata(st, "a"));
    dt_st_close(st);
}

Test(safetensors, writing_the_same_twice_gives_the_same_bytes)
{
    const float a[2] = {1, 2};
    const dt_st_entry entry = {.name = "a", .type = DT_ST_F32, .ndim = 1, .dim = {2}, .data = a};
    char *first, *second;
    size_t n, m;
    cr_assert_eq(dt_st_write(file, &entry, 1, NULL, 0), DT_OK);
    cr_assert_eq(dt_file_read(file, &first, &n), DT_OK);
    cr_assert_eq(dt_st_write(file, &entry, 1, NULL, 0), DT_OK);
    cr_assert_eq(dt_file_read(file, &second, &m), DT_OK);
    cr_assert(n == m && memcmp(first, second, n) == 0);
    cr_assert_eq(n, 64 + 8); // prefix and padded header, two floats
    free(first);
    free(second);
}

Test(safetensors, types_that_are_not_converted_are_listed)
{
    dt_st *st;
    const char *header = "{\"f8\":" ENTRY("F8_E4M3", "[3]", 0, 3) ",\"u\":" ENTRY("U64", "[1]", 3, 11) "}";
    write_raw(header, strlen(header), 11);
    cr_assert_eq(dt_st_open(file, &st), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_st_find(st, "f8")->type, DT_ST_OTHER);
    float value;
    cr_assert_eq(dt_st_to_f32(DT_ST_OTHER, dt_st_find(st, "f8")->data, 0, 1, 1, 1, &value), DT_ERR_MODEL);
    cr_assert_eq(dt_st_to_f32(DT_ST_I32, dt_st_find(st, "u")->data, 0, 1, 1, 1, &value), DT_ERR_MODEL);
    cr_assert_not_null(strstr(dt_error_text(), "I32"));
    dt_st_close(st);
}

/* ---- conversion ---- */

/* IEEE half by its definition. */
static float half_by_definition(unsigned half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float sign = half >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24));
}

Test(safetensors, every_half_converts_exactly)
{
    enum { N = 1 << 16 };
    unsigned char *src = malloc(2 * N + 1);
    float *dst = malloc(N * sizeof *dst);
    for (unsigned i = 0; i < N; i++) src[1 + 2 * i] = (unsigned char)i, src[2 + 2 * i] = (unsigned char)(i >> 8);
    cr_assert_eq(dt_st_to_f32(DT_ST_F16, src + 1, 0, 1, N, N, dst), DT_OK); // unaligned
    for (unsigned i = 0; i < N; i++) {
        float expected = half_by_definition(i);
        cr_assert(isnan(expected) ? isnan(dst[i]) : memcmp(&expected, &dst[i], 4) == 0, "%04x: %a, not %a", i, dst[i],
                  expected);
        cr_assert_eq(!!signbit(dst[i]), i >> 15);
    }
    free(src);
    free(dst);
}

Test(safetensors, every_bfloat16_converts_exactly)
{
    enum { N = 1 << 16 };
    unsigned char *src = malloc(2 * N + 1);
    uint32_t *dst = malloc(N * sizeof *dst);
    for (unsigned i = 0; i < N; i++) src[1 + 2 * i] = (unsigned char)i, src[2 + 2 * i] = (unsigned char)(i >> 8);
    cr_assert_eq(dt_st_to_f32(DT_ST_BF16, src + 1, 0, 1, N, N, (float *)dst), DT_OK);
    for (uint32_t i = 0; i < N; i++) cr_assert_eq(dst[i], i << 16);
    free(src);
    free(dst);
}

Test(safetensors, slices_of_every_float_type_convert_wherever_they_lie)
{
    static const dt_st_type type[] = {DT_ST_F64, DT_ST_F32, DT_ST_F16, DT_ST_BF16};
    enum { ROWS = 5, LD = 37 };
    for (int k = 0; k < 4; k++) {
        const size_t size = dt_st_type_size(type[k]);
        unsigned char *src = malloc(ROWS * LD * size + 3);
        for (int i = 0; i < ROWS * LD; i++) { // the value i / 4 is exact in half; bfloat16 keeps 8 bits of it
            double f64 = i / 4.0;
            float f32 = i / 4.0f;
            uint32_t bits;
            memcpy(&bits, &f32, 4);
            uint16_t bf16 = (uint16_t)(bits >> 16);
            uint16_t f16 = i ? (uint16_t)(((bits >> 23) - 112) << 10 | (bits >> 13 & 1023)) : 0;
            const void *value = k == 0 ? (void *)&f64 : k == 1 ? (void *)&f32 : k == 2 ? (void *)&f16 : (void *)&bf16;
            memcpy(src + 3 + (size_t)i * size, value, size);
        }
        for (int cols = 0; cols <= LD; cols += 9)
            for (int from = 0; from + cols <= LD; from += 7) {
                float dst[ROWS * LD + 1];
                dst[ROWS * cols] = -1;
                cr_assert_eq(dt_st_to_f32(type[k], src + 3, from, ROWS, cols, LD, dst), DT_OK);
                for (int r = 0; r < ROWS; r++)
                    for (int c = 0; c < cols; c++) {
                        float expected = (float)(from + r * LD + c) / 4, got = dst[r * cols + c];
                        if (k == 3) cr_assert(fabsf(got - expected) <= expected / 128);
                        else cr_assert_eq(got, expected);
                    }
                cr_assert_eq(dst[ROWS * cols], -1, "written past the end");
            }
        free(src);
    }
}

/* ---- folders ---- */

static void write_in(const char *name, const char *tensor, float value)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const dt_st_entry entry = {.name = tensor, .type = DT_ST_F32, .ndim = 1, .dim = {1}, .data = &value};
    const char *const metadata[] = {"from", name};
    cr_assert_eq(dt_st_write(path, &entry, 1, metadata, 1), DT_OK);
}

static void write_index(const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    cr_assert_eq(dt_file_write_atomic(path, text, strlen(text)), DT_OK);
}

static dt_status open_folder(dt_st **st)
{
    dt_error_clear();
    *st = NULL;
    return dt_st_open(folder, st);
}

Test(safetensors, shards_of_an_index_are_one_set)
{
    dt_st *st;
    write_in("model-1.safetensors", "b", 1);
    write_in("model-2.safetensors", "a", 2);
    write_index("{\"metadata\": {\"total_size\": 8},"
                "\"weight_map\": {\"b\": \"model-1.safetensors\", \"a\": \"model-2.safetensors\"}}");
    cr_assert_eq(open_folder(&st), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_st_count(st), 2);
    float value;
    cr_assert_eq(dt_st_to_f32(DT_ST_F32, dt_st_find(st, "a")->data, 0, 1, 1, 1, &value), DT_OK);
    cr_assert_eq(value, 2);
    cr_assert_str_eq(strrchr(dt_st_find(st, "b")->file, '/'), "/model-1.safetensors");
    cr_assert_str_eq(dt_st_metadata(st, "from"), "model-1.safetensors");
    dt_st_close(st);

    write_in("model.safetensors", "whole", 3); // goes first
    cr_assert_eq(open_folder(&st), DT_OK);
    cr_assert(dt_st_count(st) == 1 && dt_st_find(st, "whole"));
    dt_st_close(st);
}

Test(safetensors, the_only_file_of_a_folder_is_taken)
{
    dt_st *st;
    REFUSED(open_folder(&st), "no .safetensors file");
    write_in("delta.safetensors", "a", 1);
    cr_assert_eq(open_folder(&st), DT_OK);
    cr_assert_not_null(dt_st_find(st, "a"));
    dt_st_close(st);
    write_in("other.safetensors", "a", 1);
    REFUSED(open_folder(&st), "several");
}

Test(safetensors, an_index_that_does_not_fit_its_shards_is_an_error)
{
    dt_st *st;
    write_in("s1.safetensors", "a", 1);
    write_in("s2.safetensors", "b", 1);
    write_index("{\"weight_map\": {\"a\": \"s1.safetensors\", \"c\": \"s2.safetensors\"}}");
    REFUSED(open_folder(&st), "weight_map.c: is not in");
    write_index("{\"weight_map\": {\"a\": \"s2.safetensors\", \"b\": \"s1.safetensors\"}}");
    REFUSED(open_folder(&st), "weight_map.a: is not in");
    write_index("{\"weight_map\": {\"a\": \"../s1.safetensors\"}}");
    REFUSED(open_folder(&st), "weight_map.a: is not the name of a file");
    write_index("{\"weight_map\": {\"a\": 3}}");
    REFUSED(open_folder(&st), "weight_map.a: is not the name of a file");
    write_index("{\"weights\": {}}");
    REFUSED(open_folder(&st), "weight_map: is missing");
    write_index("{\"weight_map\": ");
    REFUSED(open_folder(&st), "not valid JSON");
    write_in("s2.safetensors", "a", 1);
    write_index("{\"weight_map\": {\"a\": \"s1.safetensors\", \"b\": \"s2.safetensors\"}}");
    REFUSED(open_folder(&st), "a: is there twice");
    write_index("{\"weight_map\": {\"a\": \"s3.safetensors\"}}");
    cr_assert_eq(open_folder(&st), DT_ERR_IO);
    cr_assert_not_null(strstr(dt_error_text(), "s3.safetensors"));
}

/* ---- what is wrong ---- */

Test(safetensors, a_path_that_is_not_there_is_an_io_error)
{
    dt_st *st = NULL;
    cr_assert_eq(dt_st_open("/nonexistent/a", &st), DT_ERR_IO);
    cr_assert_not_null(strstr(dt_error_text(), "/nonexistent/a"));
    cr_assert_null(st);
}

Test(safetensors, wrong_header_lengths_are_errors)
{
    static const uint64_t length[] = {3, 100, (uint64_t)1 << 40, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    dt_st *st = NULL;
    for (size_t i = 1; i < sizeof length / sizeof length[0]; i++) {
        write_raw("{}", length[i], 0);
        REFUSED(dt_st_open(file, &st), "header takes");
    }
    write_raw("{}", length[0], 1);
    REFUSED(dt_st_open(file, &st), "more text after");
    write_raw("{}", 1, 0);
    REFUSED(dt_st_open(file, &st), "not valid JSON");
    write_raw("{}", 0, 0);
    REFUSED(dt_st_open(file, &st), "not valid JSON");
    for (size_t bytes = 0; bytes < 8; bytes++) {
        cr_assert_eq(dt_file_write_atomic(file, "\2\0\0\0\0\0\0\0", bytes), DT_OK);
        REFUSED(dt_st_open(file, &st), "too short");
    }
}

Test(safetensors, wrong_entries_are_errors_that_name_the_tensor)
{
    REFUSED(open_header("[]", 0), "no JSON object");
    REFUSED(open_header("{\"t\":3}", 0), "t.dtype: is missing");
    REFUSED(open_header("{\"t\":" ENTRY("F31", "[1]", 0, 4) "}", 4), "t.dtype: \"F31\"");
    REFUSED(open_header("{\"t\":{\"dtype\":4,\"shape\":[],\"data_offsets\":[0,4]}}", 4), "t.dtype: is a number");
    REFUSED(open_header("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4), "t.shape: is missing");
    REFUSED(open_header("{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4), "t.data_offsets: is missing");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "1", 0, 4) "}", 4), "t.shape: is a number");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[-1]", 0, 4) "}", 4), "dimension 0 is no length");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1,1.5]", 0, 4) "}", 4), "dimension 1 is no length");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[\"1\"]", 0, 4) "}", 4), "dimension 0 is no length");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1e300]", 0, 4) "}", 4), "dimension 0 is no length");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4), "more than 8 dimensions");
    REFUSED(open_header("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4), "is not two numbers");
    REFUSED(open_header("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4), "is not two numbers");
    REFUSED(open_header("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]}}", 4),
            "is not two numbers");
}

Test(safetensors, shapes_that_overflow_are_errors)
{
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[4294967296,4294967296]", 0, 0) "}", 0), "larger than memory");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[4611686018427387904]", 0, 0) "}", 0), "no length");
    REFUSED(open_header("{\"t\":" ENTRY("F64", "[2147483648,1073741824,1]", 0, 0) "}", 0), "larger than memory");
    REFUSED(open_header("{\"t\":" ENTRY("U8", "[4294967296,4294967297]", 0, 1) "}", 1), "larger than memory");
}

Test(safetensors, offsets_outside_the_data_are_errors)
{
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[2]", 0, 8) "}", 4), "is not inside");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[2]", 1, 9) "}", 8), "is not inside");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1]", 8, 4) "}", 8), "is not inside");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[2]", -8, 0) "}", 8), "is not inside");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1]", 1e300, 1e301) "}", 8), "is not inside");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[1]", 18446744073709551612, 18446744073709551616) "}", 8),
            "not inside");
    REFUSED(open_header("{\"t\":" ENTRY("U8", "[1]", 0.5, 1.5) "}", 2), "no byte offsets");
    REFUSED(open_header("{\"t\":" ENTRY("F32", "[2]", 0, 4) "}", 4), "takes 8");
    REFUSED(open_header("{\"t\":" ENTRY("F16", "[2]", 0, 8) "}", 8), "takes 4");
}

Test(safetensors, tensors_that_do_not_tile_the_data_are_errors)
{
    cr_assert_eq(open_header("{\"b\":" ENTRY("U8", "[2]", 2, 4) ",\"a\":" ENTRY("U8", "[2]", 0, 2) "}", 4), DT_OK);
    REFUSED(open_header("{\"a\":" ENTRY("U8", "[3]", 0, 3) ",\"b\":" ENTRY("U8", "[2]", 2, 4) "}", 4), "b: overlaps a");
    REFUSED(open_header("{\"a\":" ENTRY("U8", "[4]", 0, 4) ",\"b\":" ENTRY("U8", "[4]", 0, 4) "}", 4), "overlaps");
    REFUSED(open_header("{\"a\":" ENTRY("U8", "[1]", 0, 1) ",\"b\":" ENTRY("U8", "[2]", 2, 4) "}", 4), "b: 1 bytes");
    REFUSED(open_header("{\"a\":" ENTRY("U8", "[1]", 0, 1) "}", 4), "last 3 bytes");
    REFUSED(open_header("{}", 4), "last 4 bytes");
}

Test(safetensors, names_that_are_there_twice_are_errors)
{
    REFUSED(open_header("{\"a\":" ENTRY("U8", "[2]", 0, 2) ",\"a\":" ENTRY("U8", "[2]", 2, 4) "}", 4),
            "a: is there twice");
    REFUSED(open_header("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "__metadata__: is there twice");
}

Test(safetensors, metadata_must_be_strings)
{
    REFUSED(open_header("{\"__metadata__\":3}", 0), "__metadata__: is no object");
    REFUSED(open_header("{\"__metadata__\":{\"a\":3}}", 0), "__metadata__.a: is no string");
}

Test(safetensors, deep_nesting_is_an_error)
{
    enum { DEPTH = 300000 };
    char *header = malloc(6 * DEPTH + 1);
    memset(header, '[', DEPTH);
    header[DEPTH] = '\0';
    REFUSED(open_header(header, 0), "not valid JSON");
    header[0] = '\0';
    for (char *at = header; at < header + 5 * DEPTH; at += 5) memcpy(at, "{\"a\":", 6);
    REFUSED(open_header(header, 0), "not valid JSON");
    free(header);
}

/* Every truncation and every changed byte of the header of a good file: an error or a sound set, never a crash. */
Test(safetensors, damaged_headers_never_crash)
{
    const float data[6] = {0};
    const dt_st_entry entry[] = {{.name = "ab", .type = DT_ST_F32, .ndim = 2, .dim = {2, 2}, .data = data},
                                 {.name = "c", .type = DT_ST_F32, .ndim = 1, .dim = {2}, .data = data}};
    const char *const metadata[] = {"k", "v"};
    char *good, *bad;
    size_t bytes;
    dt_st *st;
    cr_assert_eq(dt_st_write(file, entry, 2, metadata, 1), DT_OK);
    cr_assert_eq(dt_file_read(file, &good, &bytes), DT_OK);
    for (size_t n = 0; n < bytes; n++) {
        FILE *f = fopen(file, "wb");
        cr_assert_eq(fwrite(good, 1, n, f), n);
        fclose(f);
        cr_assert_eq(dt_st_open(file, &st), DT_ERR_MODEL, "cut to %zu bytes", n);
    }
    bad = malloc(bytes);
    static const unsigned char with[] = {0, 0xff, '"', '{', '}', '[', ']', ',', '9', '-', '\\', ' ', 'e'};
    for (size_t n = 0; n < bytes - sizeof data; n++)
        for (size_t k = 0; k < sizeof with; k++) {
            memcpy(bad, good, bytes);
            bad[n] = (char)with[k];
            FILE *f = fopen(file, "wb");
            cr_assert_eq(fwrite(bad, 1, bytes, f), bytes);
            fclose(f);
            if (dt_st_open(file, &st) != DT_OK) continue;
            for (int64_t i = 0; i < dt_st_count(st); i++) { // what is accepted can be read
                const dt_st_tensor *t = dt_st_at(st, i);
                unsigned sum = 0;
                for (size_t b = 0; b < t->bytes; b++) sum += t->data[b];
                cr_assert_eq(sum, 0);
            }
            dt_st_close(st);
        }
    free(good);
    free(bad);
}

/* ---- files that other programs wrote ---- */

Test(safetensors, trained_backbones_open)
{
    static const struct {
        const char *path, *tensor;
        int64_t dim[2];
    } known[] = {
        {DT_SOURCE_DIR "/../shared/data/stories260k", "model.layers.0.self_attn.k_proj.weight", {32, 64}},
        {DT_SOURCE_DIR "/../shared/data/rxnmapper-albert",
         "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight",
         {256, 256}},
    };
    for (int k = 0; k < 2; k++) {
        dt_st *st;
        if (!dt_path_exists(known[k].path)) cr_skip_test("%s is not there", known[k].path);
        cr_assert_eq(dt_st_open(known[k].path, &st), DT_OK, "%s", dt_error_text());
        const dt_st_tensor *t = dt_st_find(st, known[k].tensor);
        cr_assert_not_null(t);
        cr_assert(t->ndim == 2 && t->dim[0] == known[k].dim[0] && t->dim[1] == known[k].dim[1]);
        float *value = malloc((size_t)(t->dim[0] * t->dim[1]) * sizeof *value), largest = 0;
        cr_assert_eq(dt_st_to_f32(t->type, t->data, 0, t->dim[0], t->dim[1], t->dim[1], value), DT_OK);
        for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++) largest = fmaxf(largest, fabsf(value[i]));
        cr_assert(largest > 0.01 && largest < 100, "%g", largest);
        free(value);
        dt_st_close(st);
    }
}
