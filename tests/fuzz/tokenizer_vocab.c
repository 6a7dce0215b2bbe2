/* A vocab.txt; behind a first NUL a tokenizer_config.json (if it is not empty), behind a second a text. */
#include "driver/tokens.h"
#include <stdio.h>  // snprintf
#include <string.h> // memchr
#include <unistd.h> // unlink

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *at[3] = {data, data + size, data + size}, *end = data + size;
    size_t n[3] = {0};
    for (int i = 0; i < 3; i++) {
        const uint8_t *nul = at[i] < end ? memchr(at[i], '\0', (size_t)(end - at[i])) : NULL;
        n[i] = (size_t)((nul && i < 2 ? nul : end) - at[i]);
        if (nul && i < 2) at[i + 1] = nul + 1;
        else break;
    }
    char config[4200];
    snprintf(config, sizeof config, "%s/tokenizer_config.json", fuzz_folder());
    fuzz_put("vocab.txt", at[0], n[0]);
    if (n[1]) fuzz_put("tokenizer_config.json", at[1], n[1]);
    else unlink(config);
    dt_tokenizer *tok;
    if (!fuzz_took(dt_tokenizer_load(fuzz_folder(), &tok))) return 0;
    check_tokens(tok, "hello, unaffable World! [MASK] \xC3\xA9", 31);
    check_tokens(tok, (const char *)at[2], n[2]);
    dt_tokenizer_destroy(tok);
    return 0;
}
