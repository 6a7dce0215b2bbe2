/* What the optimizers' kernels on CUDA share. */
#ifndef DT_OP_UPDATE_CUH
#define DT_OP_UPDATE_CUH

#include "op/cuda.cuh"
extern "C" {
#include "op/update.h"
}

/* What a gradient is multiplied with: its scale, and the clip factor. False: not finite, no update. */
static __device__ inline bool gradient_factor(const float *hyper, float normsq, double *factor)
{
    if (!isfinite(normsq)) return false;
    double scale = (double)hyper[DT_HYPER_SCALE], clip = (double)hyper[DT_HYPER_CLIP];
    *factor = scale;
    if (clip > 0) *factor = scale * fmin(1.0, clip / (scale * sqrt((double)normsq) + 1e-6));
    return true;
}

#endif
