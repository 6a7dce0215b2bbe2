/* Layer normalisation on CUDA. Bound by memory: 4 bytes an element forward, 6 backward, in bf16; rows are read again
 * out of the cache. */
#include "op/rows.cuh"
extern "C" {
#include "op/layernorm.h"
}

static __global__ void layernorm_forward(int64_t rows, int64_t width, float eps, bool narrow, floats x, floats gain,
                                         floats bias, floats y, floats mean, floats rstd)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    float s = 0, square = 0;
    for (int64_t j = t.lane; j < width; j += t.lanes) s += x[at + j];
    const float m = team_sum(t, s, shared) / (float)width;
    for (int64_t j = t.lane; j < width; j += t.lanes) square += (x[at + j] - m) * (x[at + j] - m);
    const float r = rsqrtf(team_sum(t, square, shared) / (float)width + eps);
    if (t.lane == 0 && mean.data != NULL) mean.set(t.row, m);
    if (t.lane == 0 && rstd.data != NULL) rstd.set(t.row, r);
    if (y.data == NULL) return;
    for (int64_t j = t.lane; j < width; j += t.lanes) y.set(at + j, (x[at + j] - m) * r * gain[j] + bias[j]);
}

dt_status DT_CUDA_KERNEL(layernorm)(const dt_call *call)
{
    const int64_t N = call->in[0].dim[0], C = call->in[0].dim[1];
    if (N == 0) return DT_OK;
    layernorm_forward<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(
        N, C, (float)DT_ATTR(dt_layernorm_attr, call)->eps, rows_are_narrow(C), DT_IN(call, 0), DT_IN(call, 1),
        DT_IN(call, 2), DT_OUT(call, 0), DT_OUT(call, 1), DT_OUT(call, 2));
    return launched();
}

/* With z = (x - mean) r, r = rstd: dx = r (gain dy - mean(gain dy) - z mean(gain dy z)) + plus. */
static __global__ void layernorm_backward(int64_t rows, int64_t width, bool narrow, floats dy, floats x, floats gain,
                                          floats mean, floats rstd, floats plus, floats dx)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    const float m = mean[t.row], r = rstd[t.row];
    float s = 0, z = 0;
    for (int64_t j = t.lane; j < width; j += t.lanes) {
        float d = gain[j] * dy[at + j];
        s += d;
        z += d * (x[at + j] - m) * r;
    }
    const float whole = team_sum(t, s, shared) / (float)width, along = team_sum(t, z, shared) / (float)width;
    for (int64_t j = t.lane; j < width; j += t.lanes)
        dx.set(at + j, r * (gain[j] * dy[at + j] - whole - (x[at + j] - m) * r * along) +
                           (plus.data != NULL ? plus[at + j] : 0.0f));
}

struct gain_term {
    int64_t width;
    floats dy, x, mean, rstd;
    __device__ float operator()(int64_t n, int64_t j) const
    {
        return dy[n * width + j] * ((x[n * width + j] - mean[n]) * rstd[n]);
    }
};

extern "C" size_t DT_CUDA_WORKSPACE(layernorm_grad)(const dt_call *call)
{
    return column_workspace(call->in[1].dim[0], call->in[1].dim[1]);
}

dt_status DT_CUDA_KERNEL(layernorm_grad)(const dt_call *call)
{
    const int64_t N = call->in[1].dim[0], C = call->in[1].dim[1];
    floats dy = DT_IN(call, 0), x = DT_IN(call, 1), gain = DT_IN(call, 2), mean = DT_IN(call, 3), rstd = DT_IN(call, 4);
    floats plus = DT_IN(call, 5), dx = DT_OUT(call, 0), dgain = DT_OUT(call, 1), dbias = DT_OUT(call, 2);
    gain_term of_gain = {C, dy, x, mean, rstd};
    column_entry of_bias = {C, dy};
    if (dgain.data != NULL) DT_TRY(column_sums(call, N, C, of_gain, dgain)); // first: dx may be written over dy
    if (dbias.data != NULL) DT_TRY(column_sums(call, N, C, of_bias, dbias));
    if (dx.data == NULL || N == 0) return DT_OK;
    layernorm_backward<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(N, C, rows_are_narrow(C), dy, x,
                                                                                      gain, mean, rstd, plus, dx);
    return launched();
}
