/* Root-mean-square normalisation on CUDA. Bound by memory: 4 bytes an element forward, 6 backward, in bf16. */
#include "op/rows.cuh"
extern "C" {
#include "op/rmsnorm.h"
}

static __global__ void rmsnorm_forward(int64_t rows, int64_t width, float eps, bool narrow, bool wide, floats x,
                                       floats gain, floats y, floats rstd)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return; // whole teams only: with a block to a row there is no such row
    const int64_t at = t.row * width;
    float square = 0;
    if (wide) {
        for (int64_t j = 8 * t.lane; j < width; j += 8 * t.lanes) {
            float v[8];
            x.load8(at + j, v);
#pragma unroll
            for (int k = 0; k < 8; k++) square += v[k] * v[k];
        }
    } else {
        for (int64_t j = t.lane; j < width; j += t.lanes) square += x[at + j] * x[at + j];
    }
    const float r = rsqrtf(team_sum(t, square, shared) / (float)width + eps);
    if (t.lane == 0 && rstd.data != NULL) rstd.set(t.row, r);
    if (y.data == NULL) return;
    if (wide) {
        for (int64_t j = 8 * t.lane; j < width; j += 8 * t.lanes) {
            float v[8], g[8];
            x.load8(at + j, v);
            gain.load8(j, g);
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] *= r * g[k];
            y.store8(at + j, v);
        }
    } else {
        for (int64_t j = t.lane; j < width; j += t.lanes) y.set(at + j, x[at + j] * r * gain[j]);
    }
}

dt_status DT_CUDA_KERNEL(rmsnorm)(const dt_call *call)
{
    const int64_t C = call->in[1].dim[0], N = count_of(&call->in[0]) / C;
    floats x = DT_IN(call, 0), gain = DT_IN(call, 1), y = DT_OUT(call, 0), rstd = DT_OUT(call, 1);
    bool narrow = rows_are_narrow(C), wide = C % 8 == 0 && x.wide && gain.wide && y.wide;
    if (N == 0) return DT_OK;
    rmsnorm_forward<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(
        N, C, (float)DT_ATTR(dt_rmsnorm_attr, call)->eps, narrow, wide, x, gain, y, rstd);
    return launched();
}

/* dx = r (gain dy - x r^2 mean(gain dy x)), r = rstd. dx may be written over dy: a row is read before it is written, by
 * the same team. */
static __global__ void rmsnorm_backward(int64_t rows, int64_t width, bool narrow, bool wide, floats dy, floats x,
                                        floats gain, floats rstd, floats dx)
{
    __shared__ float shared[32];
    team t = team_of(narrow);
    if (t.row >= rows) return;
    const int64_t at = t.row * width;
    const float r = rstd[t.row];
    float along = 0;
    if (wide) {
        for (int64_t j = 8 * t.lane; j < width; j += 8 * t.lanes) {
            float d[8], v[8], g[8];
            dy.load8(at + j, d);
            x.load8(at + j, v);
            gain.load8(j, g);
#pragma unroll
            for (int k = 0; k < 8; k++) along += g[k] * d[k] * v[k];
        }
    } else {
        for (int64_t j = t.lane; j < width; j += t.lanes) along += gain[j] * dy[at + j] * x[at + j];
    }
    const float mean = team_sum(t, along, shared) / (float)width * r * r;
    if (wide) {
        for (int64_t j = 8 * t.lane; j < width; j += 8 * t.lanes) {
            float d[8], v[8], g[8];
            dy.load8(at + j, d);
            x.load8(at + j, v);
            gain.load8(j, g);
#pragma unroll
            for (int k = 0; k < 8; k++) d[k] = r * (g[k] * d[k] - v[k] * mean);
            dx.store8(at + j, d);
        }
    } else {
        for (int64_t j = t.lane; j < width; j += t.lanes) dx.set(at + j, r * (gain[j] * dy[at + j] - x[at + j] * mean));
    }
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
    floats dx = DT_OUT(call, 0), dgain = DT_OUT(call, 1);
    if (dgain.data != NULL) { // first: dx may be written over dy
        gain_term f = {C, dy, x, rstd};
        DT_TRY(column_sums(call, N, C, f, dgain));
    }
    if (dx.data == NULL || N == 0) return DT_OK;
    bool narrow = rows_are_narrow(C), wide = C % 8 == 0 && dy.wide && x.wide && gain.wide && dx.wide;
    rmsnorm_backward<<<blocks_for_rows(N, C), DT_ROW_THREADS, 0, stream_of(call)>>>(N, C, narrow, wide, dy, x, gain,
                                                                                    rstd, dx);
    return launched();
}
