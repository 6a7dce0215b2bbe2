/* Weights that one rank of a team reads for all: tensor after tensor as they lie in the files, in pieces that the
 * reader hands to the whole team, from each of which every rank takes what belongs to its slices. So the files are read
 * once, front to back, and beside its slices a rank holds one piece. */
#include "base/file.h" // dt_reader
#include "model/weights.h"
#include <stdlib.h>
#include <string.h>

/* One value to be filled; of several that are parts of one stored tensor, the first reads it for all. */
typedef struct step {
    int64_t fetched;  /* index */
    int64_t elements; /* of the tensor; 0: the tensor of the step before */
    int64_t type;     /* dt_st_type */
} step;

/* The reader's side of a step. */
typedef struct source {
    const dt_st_tensor *tensor;
    int64_t fetched;
} source;

typedef struct fetch {
    dt_backbone *bb;
    dt_team *team;
    int64_t n, piece_bytes;
    dt_fetched *fetched; /* [n], in the graph's order */
    step *step;          /* [n], in the files' order */
    source *source;      /* [n], likewise; the reader's */
    dt_status taken;     /* a rank that cannot take its slices still takes part in the stream */
    struct piece {       /* piece_bytes of data behind it */
        int64_t status;  /* of the reader: anything but DT_OK ends the stream */
        unsigned char data[];
    } * piece;
} fetch;

static bool is_reader(const fetch *f)
{
    return dt_team_rank(f->team) == 0;
}

static int by_place(const void *a, const void *b)
{
    const source *x = a, *y = b;
    int order = strcmp(x->tensor->file, y->tensor->file);
    if (order != 0) return order;
    if (x->tensor->offset != y->tensor->offset) return x->tensor->offset < y->tensor->offset ? -1 : 1;
    return (x->fetched > y->fetched) - (x->fetched < y->fetched);
}

/* Room for this rank's slice of each weight; the reader finds all of them before anybody waits for the first. */
static dt_status prepare(fetch *f, const dt_graph *g)
{
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *f->fetched, &f->fetched));
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *f->step, &f->step));
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *f->source, &f->source));
    DT_TRY(dt_alloc(sizeof *f->piece + (size_t)f->piece_bytes, 1, &f->piece));
    for (int64_t i = 0; i < g->values; i++) {
        const dt_value *v = &g->value[i];
        if (v->kind != DT_KIND_WEIGHT || v->base != DT_NONE) continue;
        dt_fetched *out = &f->fetched[f->n];
        *out = (dt_fetched){.name = dt_region_strdup(&f->bb->region, v->name), .slice = dt_weights_slice(v)};
        if (out->name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
        DT_TRY(dt_alloc((size_t)(out->slice.rows * out->slice.cols) + 1, sizeof(float), &out->data));
        source *from = &f->source[f->n];
        from->fetched = f->n++;
        if (!is_reader(f)) continue;
        DT_TRY(dt_weights_tensor(f->bb, v, &from->tensor));
        DT_TRY(dt_fail_in(dt_st_to_f32(from->tensor->type, NULL, 0, 0, 1, 1, NULL), "%s: %s", from->tensor->file,
                          from->tensor->name));
    }
    return DT_OK;
}

/* The reader's order, and the fingerprint that only it could take. */
static dt_status share_order(fetch *f)
{
    if (is_reader(f)) {
        qsort(f->source, (size_t)f->n, sizeof *f->source, by_place);
        for (int64_t i = 0; i < f->n; i++) {
            const dt_st_tensor *t = f->source[i].tensor;
            bool same = i > 0 && t == f->source[i - 1].tensor;
            int64_t elements = same ? 0 : (int64_t)(t->bytes / dt_st_type_size(t->type));
            f->step[i] = (step){f->source[i].fetched, elements, t->type};
        }
    }
    DT_TRY(dt_team_broadcast(f->team, f->bb->fingerprint, sizeof f->bb->fingerprint));
    return dt_team_broadcast(f->team, f->step, f->n * (int64_t)sizeof *f->step);
}

/* Takes from elements [lo, hi) of the stored tensor, which lie at `piece`, what is of this slice. */
static dt_status take(const dt_fetched *out, dt_st_type type, const unsigned char *piece, int64_t lo, int64_t hi)
{
    dt_slice s = out->slice;
    if (s.rows == 1 || s.cols == s.ld) { /* contiguous: one row */
        s.cols *= s.rows;
        s.rows = 1;
    }
    int64_t first = s.rows == 1 || lo < s.offset ? 0 : (lo - s.offset) / s.ld;
    for (int64_t r = first; r < s.rows; r++) {
        int64_t row = s.offset + r * s.ld, from = row > lo ? row : lo, to = row + s.cols < hi ? row + s.cols : hi;
        if (row >= hi) break;
        if (from < to)
            DT_TRY(dt_st_to_f32(type, piece, from - lo, 1, to - from, to - from, out->data + r * s.cols + from - row));
    }
    return DT_OK;
}

/* One tensor for the steps i .. end - 1. A failure of the reader travels with the piece. */
static dt_status stream(fetch *f, int64_t i, int64_t end, dt_reader *file)
{
    const step *first = &f->step[i];
    const int64_t size = (int64_t)dt_st_type_size((dt_st_type)first->type), most = f->piece_bytes / size;
    for (int64_t lo = 0, hi; lo < first->elements; lo = hi) {
        hi = first->elements - lo < most ? first->elements : lo + most;
        const int64_t bytes = (hi - lo) * size;
        dt_status st = DT_OK;
        if (is_reader(f)) {
            const dt_st_tensor *t = f->source[i].tensor;
            st = dt_reader_read(file, t->file, t->offset + lo * size, f->piece->data, (size_t)bytes);
            f->piece->status = (int64_t)st;
        }
        DT_TRY(dt_team_broadcast(f->team, f->piece, (int64_t)sizeof *f->piece + bytes));
        if (f->piece->status != DT_OK)
            return is_reader(f) ? st : dt_fail((dt_status)f->piece->status, "the rank that reads the weights failed");
        for (int64_t k = i; k < end && f->taken == DT_OK; k++)
            f->taken = take(&f->fetched[f->step[k].fetched], (dt_st_type)first->type, f->piece->data, lo, hi);
    }
    return DT_OK;
}

static dt_status stream_all(fetch *f)
{
    dt_reader file = {0};
    dt_status st = DT_OK;
    for (int64_t i = 0, end; i < f->n && st == DT_OK; i = end) {
        for (end = i + 1; end < f->n && f->step[end].elements == 0;) end++;
        st = stream(f, i, end, &file);
    }
    dt_reader_close(&file);
    return st != DT_OK ? st : f->taken;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dt_fetched *)a)->name, ((const dt_fetched *)b)->name);
}

static void free_fetched(dt_fetched *list, int64_t n)
{
    for (int64_t i = 0; list != NULL && i < n; i++) free(list[i].data);
    free(list);
}

dt_status dt_weights_fetch(dt_backbone *bb, const dt_graph *g, dt_team *team, int64_t piece_bytes)
{
    fetch f = {.bb = bb, .team = team, .piece_bytes = piece_bytes};
    dt_status st;
    DT_GOTO(dt_world_agree(prepare(&f, g)), done);
    st = share_order(&f);
    if (st == DT_OK) st = stream_all(&f);
    DT_GOTO(dt_world_agree(st), done);
    qsort(f.fetched, (size_t)f.n, sizeof *f.fetched, by_name);
    bb->fetched = f.fetched;
    bb->n_fetched = f.n;
    f.fetched = NULL;
done:
    free_fetched(f.fetched, f.n);
    free(f.step);
    free(f.source);
    free(f.piece);
    return st;
}

dt_status dt_weights_fetched(const dt_backbone *bb, const dt_value *v, dt_fetched **out)
{
    const dt_fetched key = {.name = v->name};
    const dt_slice slice = dt_weights_slice(v);
    dt_fetched *found = bsearch(&key, bb->fetched, (size_t)bb->n_fetched, sizeof key, by_name);
    if (found == NULL || found->data == NULL || memcmp(&found->slice, &slice, sizeof slice) != 0)
        return dt_fail(DT_ERR_INTERNAL, "%s was %s", v->name,
                       found == NULL         ? "not fetched"
                       : found->data == NULL ? "released"
                                             : "fetched as another slice");
    *out = found;
    return DT_OK;
}

void dt_weights_release(dt_backbone *bb)
{
    for (int64_t i = 0; i < bb->n_fetched; i++) {
        if (bb->fetched[i].lent) continue;
        free(bb->fetched[i].data);
        bb->fetched[i].data = NULL;
    }
}

void dt_weights_forget(dt_backbone *bb)
{
    free_fetched(bb->fetched, bb->n_fetched);
    bb->fetched = NULL;
    bb->n_fetched = 0;
}
