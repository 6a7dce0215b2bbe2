/* A configuration as binary: the same reader, which finds out by itself which of the two it has, from other seeds. */
#include "driver/config_again.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Dtrain__Config *config;
    if (fuzz_took(dt_config_parse("config.pb", (const char *)data, size, NULL, 0, &config))) {
        check_again(config);
        dt_config_free(config);
    }
    return 0;
}
