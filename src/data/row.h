/* A row: token ids, and which of them carry loss. */
#ifndef DT_DATA_ROW_H
#define DT_DATA_ROW_H

#include <stdint.h> // int32_t, uint16_t, uint32_t

/** How ids lie in memory. Marked: an id in the lower bits, DT_ID_TARGET where it carries loss. Otherwise all do. */
typedef enum dt_id_type { DT_IDS_MARKED, DT_IDS_U16, DT_IDS_U32 } dt_id_type;
#define DT_ID_TARGET 0x80000000u

/** A view of ids[n]. */
typedef struct dt_row {
    const void *ids;
    dt_id_type type;
    int32_t n;
} dt_row;

/** Id number i. */
static inline int32_t dt_row_id(dt_row row, int32_t i)
{
    if (row.type == DT_IDS_U16) return ((const uint16_t *)row.ids)[i];
    uint32_t word = ((const uint32_t *)row.ids)[i];
    return (int32_t)(word & ~DT_ID_TARGET);
}

/** Is id number i predicted, with loss, from those in front of it? The first never is. */
static inline int dt_row_is_target(dt_row row, int32_t i)
{
    if (row.type != DT_IDS_MARKED) return i > 0;
    return i > 0 && (((const uint32_t *)row.ids)[i] & DT_ID_TARGET) != 0;
}

/** How many of its ids are targets. */
static inline int32_t dt_row_targets(dt_row row)
{
    int32_t count = 0;
    for (int32_t i = 1; i < row.n; i++) count += dt_row_is_target(row, i);
    return count;
}

#endif
