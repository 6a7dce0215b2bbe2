/* Which rows lie in which sequence. */
#include "data/pack.h"
#include "base/memory.h" // dt_alloc, dt_grow
#include "base/rng.h"    // dt_rng_words

#include <stdlib.h> // qsort, free

typedef struct sort_key {
    uint64_t random;
    int64_t row;
} sort_key;

static int by_random_then_row(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->random != y->random) return x->random < y->random ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static dt_status order_rows(dt_pack *pack, int64_t epoch, int64_t *order)
{
    size_t n = (size_t)pack->n_rows;
    if (!pack->options.shuffle) {
        for (size_t i = 0; i < n; i++) order[i] = (int64_t)i;
        return DT_OK;
    }
    if (!pack->keys) DT_TRY(dt_alloc(n, sizeof(sort_key), &pack->keys));
    sort_key *keys = pack->keys;
    for (size_t i = 0; i < n; i++) {
        uint32_t word[4];
        dt_rng_words(pack->options.seed, DT_RNG_SHUFFLE, (uint64_t)epoch, i, word);
        keys[i] = (sort_key){(uint64_t)word[0] << 32 | word[1], (int64_t)i};
    }
    qsort(keys, n, sizeof *keys, by_random_then_row);
    for (size_t i = 0; i < n; i++) order[i] = keys[i].row;
    return DT_OK;
}

static dt_status build(dt_pack *pack, int64_t number, dt_pack_epoch *e)
{
    e->epoch = -1;
    e->n = 0;
    if (!e->order) DT_TRY(dt_alloc((size_t)pack->n_rows, sizeof *e->order, &e->order));
    DT_TRY(order_rows(pack, number, e->order));
    int64_t room = 0;
    for (int64_t i = 0; i < pack->n_rows; i++) {
        int64_t row = e->order[i], length = pack->offset[row + 1] - pack->offset[row];
        if (!pack->options.packing || length > room) {
            DT_TRY(dt_grow(&e->first, &e->first_cap, e->n + 2, sizeof *e->first));
            e->first[e->n++] = i;
            room = pack->options.seq_len;
        }
        room -= length;
    }
    e->first[e->n] = pack->n_rows;
    e->epoch = number;
    return DT_OK;
}

/* The tables of an epoch; kept until the next but one is built. */
static dt_status epoch_at(dt_pack *pack, int64_t number, dt_pack_epoch **out)
{
    *out = &pack->kept[number & 1];
    return (*out)->first && (*out)->epoch == number ? DT_OK : build(pack, number, *out);
}

dt_status dt_pack_find(dt_pack *pack, int64_t sequence, const dt_pack_epoch **epoch, int64_t *within)
{
    if (!pack->before) DT_TRY(dt_grow(&pack->before, &pack->before_cap, 1, sizeof *pack->before));
    dt_pack_epoch *e;
    while (pack->before[pack->n_epochs] <= sequence) { // how many an epoch has is known once it was built
        DT_TRY(dt_grow(&pack->before, &pack->before_cap, pack->n_epochs + 2, sizeof *pack->before));
        DT_TRY(epoch_at(pack, pack->n_epochs, &e));
        pack->before[pack->n_epochs + 1] = pack->before[pack->n_epochs] + e->n;
        pack->n_epochs++;
    }
    int64_t low = 0, high = pack->n_epochs; // before[low] <= sequence < before[high]
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (pack->before[middle] <= sequence) low = middle;
        else high = middle;
    }
    DT_TRY(epoch_at(pack, low, &e));
    *epoch = e;
    *within = sequence - pack->before[low];
    return DT_OK;
}

void dt_pack_free(dt_pack *pack)
{
    for (int i = 0; i < 2; i++) {
        free(pack->kept[i].order);
        free(pack->kept[i].first);
    }
    free(pack->before);
    free(pack->keys);
    *pack = (dt_pack){0};
}
