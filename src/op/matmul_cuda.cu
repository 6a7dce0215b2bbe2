/* Matrix product on CUDA. Operands that are ACC are rounded to ACT in the workspace first: a delta's masters where
 * nobody has rounded them before (optim/round.c). With a device that multiplies frozen weights in 8 bits, so is what
 * they are multiplied with. */
#include "op/cuda.cuh"
extern "C" {
#include "device/fp8.h"
#include "op/matmul.h"
}

/* Operand i goes in as ACT: unless all three are ACC, and the product is one of fp32. */
static bool is_rounded(const dt_call *call, int i)
{
    bool exact = call->in[0].type == DT_TYPE_ACC && call->in[1].type == DT_TYPE_ACC && call->out[0].type == DT_TYPE_ACC;
    return sizeof(act) != sizeof(float) && call->in[i].type == DT_TYPE_ACC && !exact;
}

static size_t padded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static size_t rounded_bytes(const dt_call *call, int i)
{
    return is_rounded(call, i) ? padded((size_t)count_of(&call->in[i]) * sizeof(act)) : 0;
}

/* x W^T or dy W of a frozen weight, in 8 bits. */
static bool is_8_bit(const dt_call *call)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, call);
    const dt_tensor *a = &call->in[0], *b = &call->in[1];
    return sizeof(act) == 2 && dt_cuda_of(call->device)->fp8 && b->frozen && b->type == DT_TYPE_ACT &&
           a->type == DT_TYPE_ACT && !attr->ta && dt_cuda_fp8_fits(b->dim[0], b->dim[1]);
}

/* The first operand in 8 bits, [m,k], and its factors, [m]. */
static size_t value_bytes(const dt_tensor *a)
{
    return padded((size_t)count_of(a));
}

static dt_status multiply_8_bit(const dt_call *call, dt_cuda_product p)
{
    const dt_tensor *a = &call->in[0], *b = &call->in[1];
    dt_cuda *cuda = dt_cuda_of(call->device);
    float *scale = (float *)((char *)call->workspace + value_bytes(a));
    const dt_cuda_fp8 *w = NULL;
    DT_TRY(dt_cuda_fp8_of(cuda, b->data, b->dim[0], b->dim[1], !p.tb, &w));
    DT_TRY(dt_cuda_fp8_quantise(cuda, a->data, a->dim[0], a->dim[1], call->workspace, scale));
    p.tb = true;
    p.a = call->workspace, p.scale_a = scale;
    p.b = w->value, p.scale_b = w->scale, p.ldb = w->columns;
    p.ab = CUDA_R_8F_E4M3;
    return multiply(call, p);
}

extern "C" size_t DT_CUDA_WORKSPACE(matmul)(const dt_call *call)
{
    if (is_8_bit(call)) return value_bytes(&call->in[0]) + padded((size_t)call->in[0].dim[0] * sizeof(float));
    return rounded_bytes(call, 0) + rounded_bytes(call, 1);
}

dt_status DT_CUDA_KERNEL(matmul)(const dt_call *call)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, call);
    const dt_tensor *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    const dt_tensor *c = call->nin > 2 && call->in[2].data != NULL ? &call->in[2] : NULL;
    const void *data[2] = {a->data, b->data};
    char *room = (char *)call->workspace;
    for (int i = 0; i < 2; i++) {
        if (!is_rounded(call, i)) continue;
        floats rounded = {room, true, true};
        DT_TRY(map(call, count_of(&call->in[i]), DT_IN(call, i), DT_IN(call, i), rounded, identity()));
        data[i] = room;
        room += rounded_bytes(call, i);
    }
    dt_cuda_product p = {attr->ta,
                         attr->tb,
                         y->dim[0],
                         y->dim[1],
                         a->dim[!attr->ta],
                         (float)attr->alpha,
                         data[0],
                         a->dim[1],
                         data[1],
                         b->dim[1],
                         c != NULL ? 1.0f : 0.0f,
                         y->data,
                         y->dim[1],
                         is_rounded(call, 0) ? DT_CUDA_ACT : type_of(a),
                         type_of(y)};
    if (c != NULL && c->data != y->data) p.addend = c->data;
    return is_8_bit(call) ? multiply_8_bit(call, p) : multiply(call, p);
}
