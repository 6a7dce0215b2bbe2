/* Which rows lie in which sequence. */
#include "data/pack.h"
#include "base/memory.h" // dt_alloc, dt_grow

#include <stdlib.h> // free

static dt_status build(dt_pack *pack, int64_t number, dt_pack_epoch *e)
{
    const int64_t n_rows = pack->order->total;
    e->epoch = -1;
    e->n = 0;
    if (!e->order) DT_TRY(dt_alloc((size_t)n_rows, sizeof *e->order, &e->order));
    DT_TRY(dt_order_epoch(pack->order, DT_RNG_SHUFFLE, number, e->order));
    int64_t room = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        int32_t length = pack->length(pack->set, e->order[i]);
        if (!pack->packing || length > room) {
            DT_TRY(dt_grow(&e->first, &e->first_cap, e->n + 2, sizeof *e->first));
            e->first[e->n++] = i;
            room = pack->seq_len;
        }
        room -= length;
    }
    e->first[e->n] = n_rows;
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
    *pack = (dt_pack){0};
}
