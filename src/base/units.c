/* Numbers as people read them. */
#include "base/units.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

dt_words dt_words_count(int64_t n)
{
    dt_words w = {""};
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;
    for (int i = 0; i < length; i++) {
        int behind = length - i; /* digits from here on: a comma in front of each whole group of three */
        if (at > 0 && behind % 3 == 0 && w.text[at - 1] != '-') w.text[at++] = ',';
        w.text[at++] = digits[i];
    }
    return w;
}

dt_words dt_words_scaled(double n, const char *unit)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E"};
    dt_words w;
    int p = 0;
    /* 999.5 would print as 1000: the next prefix takes over there. */
    for (; fabs(n) >= 999.5 && p < 6; p++) n /= 1000;
    int decimals = fabs(n) >= 99.95 || n == floor(n) ? 0 : 1;
    snprintf(w.text, sizeof w.text, "%.*f %s%s", decimals, n, prefix[p], unit);
    return w;
}
