/* A configuration as text: what is read, printed and read again is the same message. */
#include "driver/config_again.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Dtrain__Config *config;
    if (fuzz_took(dt_config_parse("config.pbtxt", (const char *)data, size, NULL, 0, &config))) {
        check_again(config);
        dt_config_free(config);
    }
    return 0;
}
