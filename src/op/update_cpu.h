/* What the optimizers' kernels on the CPU share. */
#ifndef DT_OP_UPDATE_CPU_H
#define DT_OP_UPDATE_CPU_H
#include "op/cpu.h"
#include "op/update.h"

/* A value that several ranks hold is updated by each of them, and must come out the same on all; but it lies elsewhere
 * in each one's flat buffer, here in the vectorised part of a loop, there in its tail. Without fused multiply-adds,
 * which a compiler places as it likes, both round alike. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

enum { CHUNK = 4096 /* values of one piece of work */ };

/* What a gradient is multiplied with: its scale, and the clip factor. False: not finite, no update. */
static inline bool gradient_factor(const real *hyper, real normsq, double *factor)
{
    if (!isfinite(normsq)) return false;
    double scale = (double)hyper[DT_HYPER_SCALE], clip = (double)hyper[DT_HYPER_CLIP];
    *factor = scale;
    if (clip > 0) *factor = scale * fmin(1, clip / (scale * sqrt((double)normsq) + 1e-6));
    return true;
}

#endif
