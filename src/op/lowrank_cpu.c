/* Low-rank addends on the CPU: tiles that fit the second-level cache, of which one thread computes the addends in the
 * workspace, each as one product. The operands themselves are read once, where they are used. */
#include "op/lowrank_cpu.h"
#include <omp.h>

/* Elements that a thread takes at once where nothing is added. */
#define SPAN 4096

enum { ROWS = DT_LOWRANK_ROWS, COLUMNS = DT_LOWRANK_COLUMNS };

typedef struct tile {
    int64_t row, column, rows, columns;
} tile;

/* The tile of operand i's addend, in rows of COLUMNS. */
static void multiply(const dt_call *call, int i, const tile *t, real *product)
{
    const dt_tensor *u = dt_lowrank_u(call, i), *b = dt_lowrank_b(call, i);
    const dt_lowrank how = DT_ATTR(dt_lowrank_attr, call)->of[i];
    const int64_t ldu = u->dim[1], ldb = b->dim[1];
    DT_CPU_KERNEL(gemm)
    (how.ta, how.tb, t->rows, t->columns, dt_lowrank_rank(call, i), (real)how.alpha,
     (const real *)u->data + (how.ta ? t->row : t->row * ldu), ldu,
     (const real *)b->data + (how.tb ? t->column * ldb : t->column), ldb, 0, product, COLUMNS, 1);
}

static void do_tile(const dt_call *call, const tile *t, real *room, dt_span span)
{
    static const real zeros[COLUMNS];
    const int operands = call->op->nin_max;
    const int64_t width = call->in[0].dim[1];
    const real *product[DT_LOWRANK_OPERANDS];
    for (int i = 0; i < operands; i++) {
        product[i] = NULL;
        if (!dt_lowrank_has(call, i)) continue;
        multiply(call, i, t, room);
        product[i] = room;
        room += ROWS * COLUMNS;
    }
    for (int64_t r = 0; r < t->rows; r++) {
        const int64_t at = (t->row + r) * width + t->column;
        const real *in[DT_LOWRANK_OPERANDS], *add[DT_LOWRANK_OPERANDS];
        real *out[DT_MAX_OUT];
        for (int i = 0; i < operands; i++) {
            in[i] = DT_IN(call, i) + at;
            add[i] = product[i] != NULL ? product[i] + r * COLUMNS : zeros;
        }
        for (int k = 0; k < call->nout; k++) out[k] = call->out[k].data != NULL ? DT_OUT(call, k) + at : NULL;
        span(t->columns, in, add, out);
    }
}

static void map_tiles(const dt_call *call, dt_span span)
{
    const int64_t N = call->in[0].dim[0], F = call->in[0].dim[1];
    const int64_t across = (F + COLUMNS - 1) / COLUMNS, tiles = (N + ROWS - 1) / ROWS * across;
    const size_t room = dt_lowrank_workspace(call, sizeof(real)) / (size_t)call->threads / sizeof(real);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, F))
    for (int64_t i = 0; i < tiles; i++) {
        tile t = {i / across * ROWS, i % across * COLUMNS, ROWS, COLUMNS};
        if (t.rows > N - t.row) t.rows = N - t.row;
        if (t.columns > F - t.column) t.columns = F - t.column;
        do_tile(call, &t, (real *)call->workspace + (size_t)omp_get_thread_num() * room, span);
    }
}

void DT_CPU_KERNEL(lowrank_map)(const dt_call *call, dt_span span)
{
    const int64_t count = dt_tensor_count(&call->in[0]);
    if (dt_lowrank_any(call)) {
        map_tiles(call, span);
        return;
    }
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN) {
        const real *in[DT_LOWRANK_OPERANDS];
        real *out[DT_MAX_OUT];
        for (int k = 0; k < call->op->nin_max; k++) in[k] = DT_IN(call, k) + i;
        for (int k = 0; k < call->nout; k++) out[k] = call->out[k].data != NULL ? DT_OUT(call, k) + i : NULL;
        span(count - i < SPAN ? count - i : SPAN, in, NULL, out);
    }
}
