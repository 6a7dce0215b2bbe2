/* --set: each line of the input is an argument, applied one after the other to a small configuration. */
#include "driver/config_again.h"

static const char base[] = "run { dir: \"r\" } backbone { path: \"b\" } delta { lora { rank: 8 } target: \"q_proj\" "
                           "target: \"v_proj\" } optim { sgd { lr: 0.1 } }"
                           "data { train { jsonl: \"a\" } }";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 64 };
    const char *sets[MOST];
    int n = 0;
    char *text = malloc(size + 1), *rest = text;
    memcpy(text, data, size);
    text[size] = '\0';
    while (rest && n < MOST) sets[n++] = strsep(&rest, "\n");
    Dtrain__Config *config;
    if (fuzz_took(dt_config_parse("base", base, strlen(base), sets, n, &config))) {
        check_again(config);
        dt_config_free(config);
    }
    free(text);
    return 0;
}
