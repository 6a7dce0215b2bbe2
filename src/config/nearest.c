/* The name that was meant: the nearest by edit distance. */
#include "config/config.h"

#include <string.h> // strlen

enum { LONGEST = 255 };

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, case aside. n <= LONGEST. */
static int distance(const char *a, int m, const char *b, int n)
{
    int rows[3][LONGEST + 1]; // distances of a[0..i) to every b[0..j), for the last three i
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; i <= m; i++) {
        int *oldest = before;
        before = above;
        above = row;
        row = oldest;
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int differs = lower(a[i - 1]) != lower(b[j - 1]);
            row[j] = min(min(above[j], row[j - 1]) + 1, above[j - 1] + differs);
            int swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
            if (swapped) row[j] = min(row[j], before[j - 2] + 1);
        }
    }
    return row[n];
}

const char *dt_nearest_name(const char *word, const char *const *names, int n)
{
    size_t length = strlen(word);
    if (length > LONGEST) return NULL;
    int allowed = length < 6 ? 1 + (length > 3) : (int)length / 3, best = allowed + 1;
    const char *nearest = NULL;
    for (int i = 0; i < n; i++) {
        size_t other = strlen(names[i]);
        size_t apart = other > length ? other - length : length - other;
        if (other > LONGEST || apart >= (size_t)best) continue;
        int d = distance(word, (int)length, names[i], (int)other);
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
