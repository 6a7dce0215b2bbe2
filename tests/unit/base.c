/* The base layer: error text, memory, random numbers, hashes, files, JSON getters. */
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/rng.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- status and log ---- */

Test(base, error_text_may_be_made_of_itself)
{
    cr_assert_eq(dt_fail(DT_ERR_DATA, "row %d", 7), DT_ERR_DATA);
    cr_assert_eq(dt_fail(DT_ERR_IO, "again: %s", dt_error_text()), DT_ERR_IO);
    cr_assert_str_eq(dt_error_text(), "again: row 7");
    cr_assert_eq(dt_fail_in(DT_ERR_IO, "file %s", "a"), DT_ERR_IO);
    cr_assert_str_eq(dt_error_text(), "file a: again: row 7");
    cr_assert_eq(dt_fail_in(DT_OK, "unused"), DT_OK);
    cr_assert_str_eq(dt_error_text(), "file a: again: row 7");
    dt_error_clear();
    cr_assert_str_eq(dt_error_text(), "");
}

Test(base, error_text_longer_than_its_room_is_cut)
{
    static char text[100000];
    memset(text, 'x', sizeof text - 1);
    DT_IGNORE(dt_fail(DT_ERR_DATA, "%s", text));
    size_t length = strlen(dt_error_text());
    cr_assert_gt(length, 1000);
    DT_IGNORE(dt_fail_in(DT_ERR_DATA, "%s", text));
    cr_assert_eq(strlen(dt_error_text()), length);
}

static void *fail_elsewhere(void *seen)
{
    *(int *)seen = dt_error_text()[0] == '\0';
    DT_IGNORE(dt_fail(DT_ERR_COMM, "of the other thread"));
    return NULL;
}

Test(base, error_text_belongs_to_its_thread)
{
    pthread_t thread;
    int empty = 0;
    DT_IGNORE(dt_fail(DT_ERR_DATA, "mine"));
    cr_assert_eq(pthread_create(&thread, NULL, fail_elsewhere, &empty), 0);
    pthread_join(thread, NULL);
    cr_assert(empty);
    cr_assert_str_eq(dt_error_text(), "mine");
}

Test(base, every_status_has_a_name_and_an_exit_code)
{
    for (int s = 0; s < DT_STATUS_COUNT; s++) {
        cr_assert_not_null(dt_status_name((dt_status)s));
        cr_assert_eq(dt_status_exit_code((dt_status)s), s == DT_OK ? 0 : s == DT_ERR_CONFIG ? 2 : 1);
    }
    cr_assert_str_eq(dt_status_name(DT_ERR_STATE), "state");
    cr_assert_str_eq(dt_status_name((dt_status)1000), "unknown");
}

Test(base, info_is_logged_by_rank_0_only, .init = cr_redirect_stderr)
{
    dt_log(DT_LOG_INFO, "from %d", 0);
    dt_log(DT_LOG_DEBUG, "not enabled");
    dt_log_setup(3, DT_LOG_DEBUG);
    dt_log(DT_LOG_INFO, "not rank 0");
    dt_log(DT_LOG_WARN, "warned");
    dt_log(DT_LOG_DEBUG, "debugged");
    cr_assert_stderr_eq_str("dtrain: from 0\ndtrain: rank 3: warned\ndtrain: rank 3: debugged\n");
}

/* ---- memory ---- */

Test(base, allocations_are_zero_and_aligned)
{
    for (size_t n = 0; n < 300; n += 37) {
        unsigned char *bytes;
        cr_assert_eq(dt_alloc(n, 3, &bytes), DT_OK);
        cr_assert_eq((uintptr_t)bytes % 64, 0);
        for (size_t i = 0; i < 3 * n; i++) cr_assert_eq(bytes[i], 0);
        free(bytes);
    }
}

Test(base, impossible_allocations_are_errors)
{
    char *memory = NULL;
    int64_t cap = 0;
    cr_assert_eq(dt_alloc(SIZE_MAX / 2, 3, &memory), DT_ERR_MEMORY);
    cr_assert_eq(dt_grow(&memory, &cap, INT64_MAX, 64), DT_ERR_MEMORY);
    cr_assert_null(memory);
    cr_assert_eq(cap, 0);
}

Test(base, growing_keeps_what_is_there_and_zeroes_the_rest)
{
    int *array = NULL;
    int64_t cap = 0;
    for (int n = 1; n <= 1000; n++) {
        cr_assert_eq(dt_grow(&array, &cap, n, sizeof *array), DT_OK);
        cr_assert_geq(cap, n);
        cr_assert_eq(array[n - 1], 0);
        array[n - 1] = n;
    }
    for (int i = 0; i < 1000; i++) cr_assert_eq(array[i], i + 1);
    cr_assert_leq(cap, 2048);
    free(array);
}

Test(base, regions_hand_out_separate_aligned_zeroed_pieces)
{
    dt_region region = {0};
    static const size_t size[] = {1, 16, 17, 5000, 70000, 0, 30000, 3, 65536, 200000, 9};
    enum { N = 400, SIZES = sizeof size / sizeof size[0] };
    unsigned char *piece[N];
    for (int i = 0; i < N; i++) {
        piece[i] = dt_region_alloc(&region, size[i % SIZES]);
        cr_assert_not_null(piece[i]);
        cr_assert_eq((uintptr_t)piece[i] % 16, 0);
        for (size_t b = 0; b < size[i % SIZES]; b++) cr_assert_eq(piece[i][b], 0);
        memset(piece[i], i & 0xff, size[i % SIZES]);
    }
    for (int i = 0; i < N; i++)
        for (size_t b = 0; b < size[i % SIZES]; b++) cr_assert_eq(piece[i][b], i & 0xff);
    cr_assert_str_eq(dt_region_strdup(&region, "text"), "text");
    cr_assert_str_eq(dt_region_printf(&region, "%s %d", "number", 5), "number 5");
    cr_assert_null(dt_region_alloc(&region, SIZE_MAX - 3));
    dt_region_free(&region);
    cr_assert_null(region.head);
}

/* ---- random numbers ---- */

/* Known answers of Random123 for philox4x32, 10 rounds. */
Test(base, philox_gives_the_published_answers)
{
    static const uint32_t vector[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int v = 0; v < 3; v++) {
        uint32_t out[4];
        dt_rng_philox(vector[v], vector[v] + 4, out);
        for (int i = 0; i < 4; i++) cr_assert_eq(out[i], vector[v][6 + i], "vector %d word %d: %08x", v, i, out[i]);
    }
}

Test(base, words_are_philox_of_the_documented_key_and_counter)
{
    // splitmix64's first output from state 0 is its output function of 0x9E3779B97F4A7C15 (purpose 1, seed 0).
    const uint64_t key = 0xE220A8397B1DCDAFu;
    uint32_t expected[4], got[4];
    dt_rng_philox((uint32_t[4]){3, 4, 1, 2}, (uint32_t[2]){(uint32_t)key, (uint32_t)(key >> 32)}, expected);
    dt_rng_words(0, DT_RNG_INIT, 0x200000001u, 0x400000003u, got);
    cr_assert_arr_eq(got, expected, sizeof got);
}

Test(base, streams_differ_by_seed_purpose_and_index)
{
    static const uint64_t at[][4] = {{1, DT_RNG_INIT, 0, 0},    {2, DT_RNG_INIT, 0, 0},  {1, DT_RNG_SHUFFLE, 0, 0},
                                     {1, DT_RNG_DROPOUT, 0, 0}, {1, DT_RNG_INIT, 1, 0},  {1, DT_RNG_INIT, 0, 1},
                                     {1, DT_RNG_SAMPLE, 0, 0},  {1, DT_RNG_SELECT, 0, 0}};
    enum { N = sizeof at / sizeof at[0] };
    uint32_t word[N][4], again[4];
    for (int i = 0; i < N; i++) {
        dt_rng_words(at[i][0], (dt_rng_purpose)at[i][1], at[i][2], at[i][3], word[i]);
        dt_rng_words(at[i][0], (dt_rng_purpose)at[i][1], at[i][2], at[i][3], again);
        cr_assert_arr_eq(word[i], again, sizeof again);
        for (int j = 0; j < i; j++) cr_assert_neq(memcmp(word[i], word[j], sizeof again), 0, "%d and %d", i, j);
    }
}

Test(base, draws_have_the_moments_of_their_distributions)
{
    enum { N = 200000 };
    double mean = 0, square = 0, fourth = 0, normal = 0, normal_square = 0, lowest = 1, highest = 0;
    for (int i = 0; i < N; i++) {
        double u = dt_rng_uniform(5, DT_RNG_DROPOUT, 9, (uint64_t)i), z = dt_rng_normal(5, DT_RNG_INIT, 9, (uint64_t)i);
        cr_assert(u >= 0 && u < 1 && isfinite(z));
        mean += u / N, square += u * u / N;
        normal += z / N, normal_square += z * z / N, fourth += z * z * z * z / N;
        lowest = fmin(lowest, u), highest = fmax(highest, u);
    }
    // five standard errors: 0.289, 0.298, 1, 1.41, 9.8 over sqrt(N) = 447
    cr_assert_float_eq(mean, 0.5, 0.0033);
    cr_assert_float_eq(square, 1.0 / 3, 0.0034);
    cr_assert_float_eq(normal, 0, 0.0112);
    cr_assert_float_eq(normal_square, 1, 0.016);
    cr_assert_float_eq(fourth, 3, 0.11);
    cr_assert(lowest < 1e-3 && highest > 1 - 1e-3);
    cr_assert_lt(dt_rng_unit(UINT32_MAX), 1.0f);
}

/* ---- hashes and files ---- */

static char folder[64];

static void make_folder(void)
{
    strcpy(folder, "/tmp/dtrain-base-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
    cr_assert_not(dt_path_exists(folder));
}

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* XXH3's own published values for the empty input. */
Test(base, hashes_are_xxh3)
{
    cr_assert_eq(dt_hash_bytes(NULL, 0, 0), 0x2d06800538d394c2u);
    cr_assert_str_eq(dt_digest_bytes(NULL, 0).hex, "99aa06d3014798d86001c324468d497f");
    cr_assert_eq(dt_hash_string("abc"), dt_hash_bytes("abc", 3, 0));
    cr_assert_neq(dt_hash_bytes("abc", 3, 0), dt_hash_bytes("abc", 3, 1));
}

Test(base, digest_of_a_file_is_that_of_its_bytes, .init = make_folder, .fini = remove_folder)
{
    enum { N = (3 << 20) + 17 };
    char *bytes = malloc(N);
    for (int i = 0; i < N; i++) bytes[i] = (char)(i * 2654435761u >> 13);
    cr_assert_eq(dt_file_write_atomic(in_folder("a"), bytes, N), DT_OK);
    dt_digest digest;
    cr_assert_eq(dt_digest_file(in_folder("a"), &digest), DT_OK);
    cr_assert_str_eq(digest.hex, dt_digest_bytes(bytes, N).hex);
    cr_assert_eq(dt_digest_file(in_folder("none"), &digest), DT_ERR_IO);
    cr_assert_not_null(strstr(dt_error_text(), in_folder("none")));
    free(bytes);
}

Test(base, files_read_back_what_was_written, .init = make_folder, .fini = remove_folder)
{
    char *data;
    size_t bytes;
    const dt_bytes piece[] = {{"one ", 4}, {NULL, 0}, {"two\0three", 9}};
    cr_assert_eq(dt_file_write_pieces(in_folder("a"), piece, 3), DT_OK);
    cr_assert_eq(dt_file_read(in_folder("a"), &data, &bytes), DT_OK);
    cr_assert_eq(bytes, 13);
    cr_assert_arr_eq(data, "one two\0three", 14);
    free(data);

    cr_assert_eq(dt_file_write_atomic(in_folder("a"), "", 0), DT_OK);
    cr_assert_eq(dt_file_read(in_folder("a"), &data, &bytes), DT_OK);
    cr_assert(bytes == 0 && data[0] == '\0');
    free(data);

    // /proc files say that they are empty: the contents count, not the size
    cr_assert_eq(dt_file_read("/proc/self/status", &data, &bytes), DT_OK);
    cr_assert_gt(bytes, 100);
    cr_assert_eq(bytes, strlen(data));
    free(data);
}

Test(base, a_failed_write_leaves_the_old_file_and_no_litter, .init = make_folder, .fini = remove_folder)
{
    char *data;
    size_t bytes;
    cr_assert_eq(dt_dir_make(in_folder("a/taken")), DT_OK);
    cr_assert_eq(dt_file_write_atomic(in_folder("a"), "new", 3), DT_ERR_IO); // a folder cannot be replaced
    cr_assert_not_null(strstr(dt_error_text(), in_folder("a")));
    cr_assert_eq(dt_dir_remove(in_folder("a")), DT_OK);
    cr_assert_eq(rmdir(folder), 0, "something was left behind");
    cr_assert_eq(dt_dir_make(folder), DT_OK);
    cr_assert_eq(dt_file_write_atomic(in_folder("none/b"), "new", 3), DT_ERR_IO);

    // a write that stops half-way
    static const char large[1 << 16];
    cr_assert_eq(dt_file_write_atomic(in_folder("c"), "old", 3), DT_OK);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){sizeof large / 2, RLIM_INFINITY}), 0);
    cr_assert_eq(dt_file_write_atomic(in_folder("c"), large, sizeof large), DT_ERR_IO);
    cr_assert_eq(dt_file_read(in_folder("c"), &data, &bytes), DT_OK);
    cr_assert_str_eq(data, "old");
    free(data);
    cr_assert_eq(unlink(in_folder("c")), 0);
    cr_assert_eq(rmdir(folder), 0, "something was left behind");
}

Test(base, mappings_are_private, .init = make_folder, .fini = remove_folder)
{
    dt_map map;
    char *data;
    size_t bytes;
    cr_assert_eq(dt_file_write_atomic(in_folder("a"), "frozen", 6), DT_OK);
    cr_assert_eq(dt_map_open(in_folder("a"), &map), DT_OK);
    cr_assert_eq(map.bytes, 6);
    map.data[0] = 'c';
    cr_assert_eq(dt_file_read(in_folder("a"), &data, &bytes), DT_OK);
    cr_assert_str_eq(data, "frozen");
    free(data);
    dt_map_close(&map);
    cr_assert_null(map.data);

    cr_assert_eq(dt_file_write_atomic(in_folder("empty"), "", 0), DT_OK);
    cr_assert_eq(dt_map_open(in_folder("empty"), &map), DT_OK);
    cr_assert_eq(map.bytes, 0);
    dt_map_close(&map);
    cr_assert_eq(dt_map_open(folder, &map), DT_ERR_IO);
    cr_assert_not_null(strstr(dt_error_text(), "folder"));
}

/* Only whole pages inside are given back: what lies beside them stays as it was written. */
Test(base, a_mapping_forgets_whole_pages, .init = make_folder, .fini = remove_folder)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 4 * page;
    char *text = malloc(bytes);
    dt_map map;
    memset(text, 'a', bytes);
    cr_assert_eq(dt_file_write_atomic(in_folder("a"), text, bytes), DT_OK);
    cr_assert_eq(dt_map_open(in_folder("a"), &map), DT_OK);
    memset(map.data, 'b', bytes);
    dt_map_forget(map.data + 1, 2 * page + 1); /* of pages 0 to 2, page 1 is whole */
    for (size_t i = 0; i < bytes; i++) cr_assert_eq(map.data[i], i / page == 1 ? 'a' : 'b', "byte %zu", i);
    dt_map_forget(map.data + page + 1, page - 1);
    dt_map_forget(map.data, 0);
    cr_assert_eq(map.data[0], 'b');
    dt_map_close(&map);
    free(text);
}

Test(base, folders_are_made_and_removed_whole, .init = make_folder, .fini = remove_folder)
{
    cr_assert_eq(dt_dir_make(in_folder("a/b//c/")), DT_OK);
    cr_assert_eq(dt_dir_make(in_folder("a/b/c")), DT_OK);
    cr_assert(dt_path_is_dir(in_folder("a/b/c")));
    cr_assert_eq(dt_file_write_atomic(in_folder("a/file"), "x", 1), DT_OK);
    cr_assert(dt_path_exists(in_folder("a/file")) && !dt_path_is_dir(in_folder("a/file")));
    cr_assert_eq(dt_dir_make(in_folder("a/file/d")), DT_ERR_IO);

    cr_assert_eq(dt_dir_make(in_folder("kept")), DT_OK);
    cr_assert_eq(symlink(in_folder("kept"), in_folder("a/b/link")), 0);
    cr_assert_eq(dt_dir_remove(in_folder("a")), DT_OK);
    cr_assert_not(dt_path_exists(in_folder("a")));
    cr_assert(dt_path_is_dir(in_folder("kept")), "a link was followed");
    cr_assert_eq(dt_dir_remove(in_folder("a")), DT_OK);
}

/* ---- JSON ---- */

#define FAILS_WITH(call, status, text)                                                                                 \
    do {                                                                                                               \
        dt_error_clear();                                                                                              \
        cr_assert_eq((call), status);                                                                                  \
        cr_assert_str_eq(dt_error_text(), text);                                                                       \
    } while (0)

static dt_status parse(const char *text, dt_json *out)
{
    return dt_json_parse(text, strlen(text), "f.json", DT_ERR_MODEL, out);
}

Test(base, json_getters_give_values_and_defaults)
{
    dt_json doc, sub, list;
    cr_assert_eq(
        parse(" {\"n\": -3, \"x\": 1e-5, \"b\": true, \"s\": \"t\", \"o\": {\"deep\": [1, 2]}, \"z\": null}\n", &doc),
        DT_OK);
    int64_t n;
    double x;
    int b;
    const char *s;
    cr_assert(dt_json_i64(&doc, "n", &n) == DT_OK && n == -3);
    cr_assert(dt_json_f64(&doc, "x", &x) == DT_OK && x == 1e-5);
    cr_assert(dt_json_f64(&doc, "n", &x) == DT_OK && x == -3);
    cr_assert(dt_json_bool(&doc, "b", &b) == DT_OK && b == 1);
    cr_assert(dt_json_string(&doc, "s", &s) == DT_OK && strcmp(s, "t") == 0);
    cr_assert(dt_json_has(&doc, "n") && !dt_json_has(&doc, "z") && !dt_json_has(&doc, "N"));
    cr_assert(dt_json_i64_or(&doc, "z", 9, &n) == DT_OK && n == 9);
    cr_assert(dt_json_i64_or(&doc, "n", 9, &n) == DT_OK && n == -3);
    cr_assert(dt_json_f64_or(&doc, "none", 0.5, &x) == DT_OK && x == 0.5);
    cr_assert(dt_json_bool_or(&doc, "none", 1, &b) == DT_OK && b == 1);
    cr_assert(dt_json_string_or(&doc, "none", "d", &s) == DT_OK && strcmp(s, "d") == 0);
    cr_assert(dt_json_object(&doc, "o", &sub) == DT_OK && dt_json_array(&sub, "deep", &list) == DT_OK);
    cr_assert_str_eq(list.path, "o.deep");
    cr_assert_str_eq(dt_json_child(&list, list.node->child->next, 1).path, "o.deep[1]");
    dt_json_free(&doc);
}

Test(base, json_errors_name_file_and_key)
{
    dt_json doc, sub;
    int64_t n;
    double x;
    const char *s;
    cr_assert_eq(parse("{\"a\": {\"n\": 1.5, \"s\": [], \"big\": 1e999, \"far\": 1e17}}", &doc), DT_OK);
    FAILS_WITH(dt_json_i64(&doc, "m", &n), DT_ERR_MODEL, "f.json: m: is missing, expected an integer");
    FAILS_WITH(dt_json_i64(&doc, "a", &n), DT_ERR_MODEL, "f.json: a: is an object, expected an integer");
    cr_assert_eq(dt_json_object(&doc, "a", &sub), DT_OK);
    FAILS_WITH(dt_json_i64_or(&sub, "n", 2, &n), DT_ERR_MODEL, "f.json: a.n: is 1.5, expected an integer");
    FAILS_WITH(dt_json_string(&sub, "s", &s), DT_ERR_MODEL, "f.json: a.s: is an array, expected a string");
    FAILS_WITH(dt_json_f64(&sub, "big", &x), DT_ERR_MODEL, "f.json: a.big: is out of a double's range");
    FAILS_WITH(dt_json_i64(&sub, "far", &n), DT_ERR_MODEL, "f.json: a.far: is 1e+17, expected an integer");
    FAILS_WITH(dt_json_fail(&doc, NULL, "no"), DT_ERR_MODEL, "f.json: no");
    FAILS_WITH(dt_json_fail(&sub, NULL, "no %d", 1), DT_ERR_MODEL, "f.json: a: no 1");
    dt_json_free(&doc);
}

Test(base, json_that_is_not_whole_is_an_error)
{
    dt_json doc;
    FAILS_WITH(parse("", &doc), DT_ERR_MODEL, "f.json:1: not valid JSON");
    FAILS_WITH(parse("{\n\"a\": 1,\n\"b\" 2}", &doc), DT_ERR_MODEL, "f.json:3: not valid JSON");
    FAILS_WITH(parse("{}\n\n{}", &doc), DT_ERR_MODEL, "f.json:3: more text after the JSON value");
    cr_assert_eq(dt_json_parse("{}\0", 3, "f.json", DT_ERR_DATA, &doc), DT_ERR_DATA);
    for (const char *cut = "{\"1\":[1,\"\\u00e9\\ud83d\\ude00\",-"; *cut; cut++) {
        size_t bytes = strlen(cut);
        for (size_t n = 0; n <= bytes; n++) { // each in a buffer of exactly its size, for the address sanitizer
            char *text = malloc(n + !n);
            memcpy(text, cut, n);
            if (dt_json_parse(text, n, "f.json", DT_ERR_MODEL, &doc) == DT_OK) dt_json_free(&doc);
            free(text);
        }
    }
    static char deep[200000];
    memset(deep, '[', sizeof deep - 1);
    cr_assert_eq(parse(deep, &doc), DT_ERR_MODEL);
}
