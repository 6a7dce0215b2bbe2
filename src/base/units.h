/* Numbers as people read them: 1,234,567; 1.5 MB; 2.1 GFLOP. */
#ifndef DT_BASE_UNITS_H
#define DT_BASE_UNITS_H

#include <stdint.h> // int64_t

/** Returned by value, so that several fit into one call of printf. */
typedef struct dt_words {
    char text[32];
} dt_words;

/** With a comma between groups of three digits: "-1,234". */
dt_words dt_words_count(int64_t n);
/** `n` of `unit` with a decimal prefix, about three digits: (1500, "B") is "1.5 kB", (2.1e9, "FLOP") "2.1 GFLOP". */
dt_words dt_words_scaled(double n, const char *unit);
static inline dt_words dt_words_bytes(double bytes)
{
    return dt_words_scaled(bytes, "B");
}

#endif
