/* Token embedding on CUDA. */
#include "op/cuda.cuh"
extern "C" {
#include "op/embed.h"
}

struct row_of {
    const int32_t *tokens;
    floats w;
    int64_t width, first, rows;
    __device__ float operator()(float a, float b, int64_t i) const
    {
        int64_t row = tokens[i / width] - first;
        return row >= 0 && row < rows ? w[row * width + i % width] : 0.0f;
    }
};

/* map() reads its operands: y, whose old values the functor does not look at, stands in for them. */
dt_status DT_CUDA_KERNEL(embed)(const dt_call *call)
{
    const dt_tensor *w = &call->in[1];
    floats y = DT_OUT(call, 0);
    row_of f = {DT_IN_I32(call, 0), DT_IN(call, 1), call->out[0].dim[1], w->off[0], w->dim[0]};
    return map(call, count_of(&call->out[0]), y, y, y, f);
}

/* A block to each token: the first one of its kind adds up the gradients of all of them, in their order. */
static __global__ void embed_backward(int64_t tokens, int64_t width, int64_t first, int64_t rows, const int32_t *token,
                                      floats dy, floats dw)
{
    const int64_t n = blockIdx.x, row = token[n] - first;
    if (row < 0 || row >= rows) return;
    for (int64_t base = 0; base < n; base += blockDim.x) {
        int64_t i = base + threadIdx.x;
        if (__syncthreads_or(i < n && token[i] == token[n])) return;
    }
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        float s = dy[n * width + j];
        for (int64_t i = n + 1; i < tokens; i++)
            if (token[i] == token[n]) s += dy[i * width + j];
        dw.set(row * width + j, s);
    }
}

dt_status DT_CUDA_KERNEL(embed_grad)(const dt_call *call)
{
    const dt_tensor *dw = &call->out[0];
    const int64_t N = call->in[1].dim[0];
    DT_TRY(dt_cuda_check(cudaMemsetAsync(dw->data, 0, (size_t)count_of(dw) * sizeof(float), stream_of(call)),
                         "cudaMemsetAsync"));
    if (N == 0) return DT_OK;
    embed_backward<<<(unsigned)N, 256, 0, stream_of(call)>>>(N, dw->dim[1], dw->off[0], dw->dim[0], DT_IN_I32(call, 0),
                                                             DT_IN(call, 1), DT_OUT(call, 0));
    return launched();
}
