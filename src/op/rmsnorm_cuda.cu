/* Root-mean-square normalisation on CUDA. Bound by memory: 4 bytes an element forward, 6 backward, in bf16; a
 * summand of dx is 2 more. */
#include "op/rows.cuh"
extern "C" {
#include "op/rmsnorm.h"
}

/* A row that fits the team's registers is read once. */
template <int PACKS>
static __global__ void forward(int64_t rows, int64_t width, float eps, bool narrow, floats x, floats gain, floats y,
                               floats rstd)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return; // whole teams only: with a block to a row there is no such row
    const int64_t at = t.row * width;
    float v[PACKS][8], square = 0;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
        const int64_t j = pack_at(t, p);
        if (j >= width) continue;
        x.load8(at + j, v[p]);
#pragma unroll
        for (int k = 0; k < 8; k++) square += v[p][k] * v[p][k];
    }
    const float r = rsqrtf(team_sum(t, square, shared) / (float)width + eps);
    if (t.lane == 0 && rstd.data != NULL) rstd.set(t.row, r);
    if (y.data == NULL) return;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
        const int64_t j = pack_at(t, p);
        if (j >= width) continue;
        float g[8];
        gain.load8(j, g);
#pragma unroll
        for (int k = 0; k < 8; k++) v[p][k] *= r * g[k];
        y.store8(at + j, v[p]);
    }
}

/* Any row: read twice. */
static __global__ void forward_any(int64_t rows, int64_t width, float eps, bool narrow, floats x, floats gain, floats y,
                                   floats rstd)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    float square = 0;
    for (int64_t j = t.lane; j < width; j += t.lanes) square += x[at + j] * x[at + j];
    const float r = rsqrtf(team_sum(t, square, shared) / (float)width + eps);
    if (t.lane == 0 && rstd.data != NULL) rstd.set(t.row, r);
    if (y.data == NULL) return;
    for (int64_t j = t.lane; j < width; j += t.lanes) y.set(at + j, x[at + j] * r * gain[j]);
}

dt_status DT_CUDA_KERNEL(rmsnorm)(const dt_call *call)
{
    const int64_t C = call->in[1].dim[0], N = count_of(&call->in[0]) / C;
    floats x = DT_IN(call, 0), gain = DT_IN(call, 1), y = DT_OUT(call, 0), rstd = DT_OUT(call, 1);
    const int packs = packs_of_row(C, x.wide && gain.wide && y.wide);
    auto kernel = packs == 1   ? forward<1>
                  : packs == 2 ? forward<2>
                  : packs == 4 ? forward<4>
                  : packs == 8 ? forward<8>
                               : forward_any;
    if (N == 0) return DT_OK;
    kernel<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(
        N, C, (float)DT_ATTR(dt_rmsnorm_attr, call)->eps, rows_are_narrow(C), x, gain, y, rstd);
    return launched();
}

/* dx = r (gain dy - x r^2 mean(gain dy x)) + plus, r = rstd. dx may be written over dy or over plus: a row is read
 * before it is written, by the same team, and plus by the same thread. */
template <int PACKS>
static __global__ void backward(int64_t rows, int64_t width, bool narrow, floats dy, floats x, floats gain, floats rstd,
                                floats plus, floats dx)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    const float r = rstd[t.row];
    float d[PACKS][8], v[PACKS][8], along = 0;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
        const int64_t j = pack_at(t, p);
        if (j >= width) continue;
        float g[8];
        dy.load8(at + j, d[p]);
        x.load8(at + j, v[p]);
        gain.load8(j, g);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            d[p][k] *= g[k];
            along += d[p][k] * v[p][k];
        }
    }
    const float mean = team_sum(t, along, shared) / (float)width * r * r;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
        const int64_t j = pack_at(t, p);
        if (j >= width) continue;
        float more[8] = {};
        if (plus.data != NULL) plus.load8(at + j, more);
#pragma unroll
        for (int k = 0; k < 8; k++) d[p][k] = r * (d[p][k] - v[p][k] * mean) + more[k];
        dx.store8(at + j, d[p]);
    }
}

static __global__ void backward_any(int64_t rows, int64_t width, bool narrow, floats dy, floats x, floats gain,
                                    floats rstd, floats plus, floats dx)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    const float r = rstd[t.row];
    float along = 0;
    for (int64_t j = t.lane; j < width; j += t.lanes) along += gain[j] * dy[at + j] * x[at + j];
    const float mean = team_sum(t, along, shared) / (float)width * r * r;
    for (int64_t j = t.lane; j < width; j += t.lanes)
        dx.set(at + j, r * (gain[j] * dy[at + j] - x[at + j] * mean) + (plus.data != NULL ? plus[at + j] : 0.0f));
}

struct gain_term {
    int64_t width;
    floats dy, x, rstd;
    __device__ float operator()(int64_t n, int64_t j) const
    {
        return dy[n * width + j] * (x[n * width + j] * rstd[n]);
    }
};

extern "C" size_t DT_CUDA_WORKSPACE(rmsnorm_grad)(const dt_call *call)
{
    const int64_t C = call->in[2].dim[0];
    return column_workspace(count_of(&call->in[1]) / C, C);
}

dt_status DT_CUDA_KERNEL(rmsnorm_grad)(const dt_call *call)
{
    const int64_t C = call->in[2].dim[0], N = count_of(&call->in[1]) / C;
    floats dy = DT_IN(call, 0), x = DT_IN(call, 1), gain = DT_IN(call, 2), rstd = DT_IN(call, 3);
    floats plus = DT_IN(call, 4), dx = DT_OUT(call, 0), dgain = DT_OUT(call, 1);
    if (dgain.data != NULL) { // first: dx may be written over dy
        gain_term f = {C, dy, x, rstd};
        DT_TRY(column_sums(call, N, C, f, dgain));
    }
    if (dx.data == NULL || N == 0) return DT_OK;
    const int packs = packs_of_row(C, dy.wide && x.wide && gain.wide && plus.wide && dx.wide);
    auto kernel = packs == 1   ? backward<1>
                  : packs == 2 ? backward<2>
                  : packs == 4 ? backward<4>
                  : packs == 8 ? backward<8>
                               : backward_any;
    kernel<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(N, C, rows_are_narrow(C), dy, x, gain, rstd,
                                                                          plus, dx);
    return launched();
}
