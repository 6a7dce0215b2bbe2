/* nll, its gradient, and sampled labels on the CPU. */
#include "base/rng.h" // dt_rng_words
#include "op/cpu.h"
#include "op/xent.h"

dt_status DT_CPU_KERNEL(nll)(const dt_call *call)
{
    const real *lse = DT_IN(call, 0), *target = DT_IN(call, 1);
    for (int64_t n = 0; n < call->in[0].dim[0]; n++)
        DT_OUT(call, 0)[n] = DT_IN_I32(call, 2)[n] >= 0 ? lse[n] - target[n] : 0;
    return DT_OK;
}

dt_status DT_CPU_KERNEL(nll_grad)(const dt_call *call)
{
    real *dlse = DT_OUT(call, 0), *dtarget = DT_OUT(call, 1);
    for (int64_t n = 0; n < call->in[0].dim[0]; n++) {
        real d = DT_IN_I32(call, 1)[n] >= 0 ? DT_IN(call, 0)[n] : 0;
        if (dlse != NULL) dlse[n] = d;
        if (dtarget != NULL) dtarget[n] = -d;
    }
    return DT_OK;
}

/* argmax over v of logits[v] - log(-log u_v), u uniform in (0, 1): distributed as softmax(logits) (Gumbel 1954). */
static int32_t draw(const real *logits, int64_t entries, uint64_t seed, int32_t key)
{
    uint32_t word[4] = {0};
    double best = -INFINITY;
    int32_t label = 0;
    for (int64_t v = 0; v < entries; v++) {
        if (v % 4 == 0) dt_rng_words(seed, DT_RNG_SAMPLE, (uint32_t)key, (uint64_t)v / 4, word);
        double u = ((double)word[v % 4] + 0.5) * 0x1p-32, score = (double)logits[v] - log(-log(u));
        if (score <= best) continue;
        best = score;
        label = (int32_t)v;
    }
    return label;
}

dt_status DT_CPU_KERNEL(sample)(const dt_call *call)
{
    uint64_t seed = DT_ATTR(dt_sample_attr, call)->seed;
    int64_t tokens = call->in[0].dim[0], entries = call->in[0].dim[1];
    int32_t *label = call->out[0].data;
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, tokens, entries))
    for (int64_t n = 0; n < tokens; n++)
        label[n] =
            DT_IN_I32(call, 1)[n] < 0 ? -1 : draw(DT_IN(call, 0) + n * entries, entries, seed, DT_IN_I32(call, 2)[n]);
    return DT_OK;
}
