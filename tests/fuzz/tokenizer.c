/* A tokenizer.json, and behind a NUL a text to encode and to decode again with what was loaded. */
#include "driver/tokens.h"
#include <string.h> // memchr

static const char usual[] = "Hello  <s>world</s>!\t It's 12345\r\n \xC3\xA9t\x65\xCC\x81 na\xC3\xAFve "
                            "\xE4\xBD\xA0\xE5\xA5\xBD\xF0\x9F\x98\x80\xEF\xBC\xA1 x\xE2\x96\x81y  ";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    const size_t head = nul ? (size_t)(nul - data) : size;
    fuzz_put("tokenizer.json", data, head);
    dt_tokenizer *tok;
    if (!fuzz_took(dt_tokenizer_load(fuzz_folder(), &tok))) return 0;
    check_tokens(tok, usual, sizeof usual - 1);
    if (nul) check_tokens(tok, (const char *)nul + 1, size - head - 1);
    dt_tokenizer_destroy(tok);
    return 0;
}
