/* What holds of every configuration that a reader took. */
#ifndef DT_TESTS_FUZZ_CONFIG_AGAIN_H
#define DT_TESTS_FUZZ_CONFIG_AGAIN_H

#include "config/config.h" // dt_config_parse
#include "fuzz.h"
#include <stdlib.h> // free
#include <string.h> // memcmp

/** Printed as text and packed as binary it is read again as the same message; the checks for a number of ranks end. */
static inline void check_again(const Dtrain__Config *config)
{
    unsigned char *packed, *packed_again;
    size_t bytes, bytes_again;
    FUZZ_CHECK(dt_config_pack(&config->base, &packed, &bytes) == DT_OK);
    for (int all = 0; all < 2; all++) {
        char *text;
        Dtrain__Config *again;
        FUZZ_CHECK(dt_config_print(&config->base, all, &text) == DT_OK);
        FUZZ_CHECK(dt_config_parse("printed", text, strlen(text), NULL, 0, &again) == DT_OK);
        FUZZ_CHECK(dt_config_pack(&again->base, &packed_again, &bytes_again) == DT_OK);
        if (!all) FUZZ_CHECK(bytes == bytes_again && memcmp(packed, packed_again, bytes) == 0);
        free(packed_again);
        free(text);
        dt_config_free(again);
    }
    Dtrain__Config *again;
    FUZZ_CHECK(dt_config_parse("packed", (const char *)packed, bytes, NULL, 0, &again) == DT_OK);
    dt_config_free(again);
    free(packed);
    fuzz_took(dt_config_check(config, 4, 1));
}

#endif
