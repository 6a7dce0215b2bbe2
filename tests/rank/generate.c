/* rank_generate PROMPT TOKENS CKPT|- CONFIG [SET]...: generates greedily behind PROMPT random ids, then computes the
 * whole sequence at once, without a cache, and compares the logits that each token was chosen from. */
#include "train/generate.h"
#include "base/rng.h"
#include "graph/passes.h"
#include "op/matmul.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(dt_status st)
{
    if (st != DT_OK) dt_world_abort(st);
}

/* logits[n, V] of a sequence by one forward pass, with the deltas as the job's store has them. */
static void whole_sequence(dt_job *job, const int32_t *ids, int64_t n, float *logits)
{
    dt_mesh mesh = job->mesh;
    mesh.size[DT_AXIS_DATA] = 1;
    mesh.coord[DT_AXIS_DATA] = 0;
    dt_graph *g = NULL;
    dt_exec *exec = NULL;
    int32_t pos[4096];
    for (int32_t i = 0; i < n; i++) pos[i] = i;
    must(dt_graph_create(&g));
    g->mesh = mesh;
    g->tokens = n;
    dt_val in = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &n, DT_NO_SPLIT);
    const dt_batch batch = {in, dt_graph_input(g, "pos", DT_TYPE_I32, 1, &n, DT_NO_SPLIT), n, 0, DT_NONE};
    const dt_backbone *bb = job->backbone;
    dt_val head = DT_NONE, hidden = bb->family->build(g, bb->own, &bb->info, &batch, &head);
    dt_graph_mark_output(g, dt_matmul(g, hidden, head, false, true, 1.0, DT_TYPE_ACC));
    must(dt_deltas_attach(&job->deltas, g, DT_NONE, DT_NONE));
    must(dt_pass_shard(g, &mesh));
    must(dt_pass_fuse(g));
    must(dt_exec_create(g, &job->device, job->comm, job->store, &exec));
    must(dt_exec_put_i32(exec, in, ids));
    must(dt_exec_put_i32(exec, batch.pos, pos));
    must(dt_exec_run(exec, DT_PROLOGUE));
    must(dt_exec_run(exec, DT_MICRO));
    must(dt_exec_get_f32(exec, g->output[0], logits));
    dt_exec_destroy(exec);
    dt_graph_destroy(g);
}

static float largest(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

/* Whether `chosen` is the likeliest by both, or as good as it. Returns the largest difference relative to the logits.
 */
static double compare(const float *cached, const float *whole, int64_t vocab, int32_t chosen, int64_t at)
{
    float apart = 0, best = whole[0], scale = largest(whole, vocab);
    for (int64_t v = 0; v < vocab; v++) {
        apart = fmaxf(apart, fabsf(cached[v] - whole[v]));
        best = fmaxf(best, whole[v]);
    }
    if (best - whole[chosen] > 1e-5f * scale || !(apart <= 1e-5f * scale)) {
        printf("rank %d, token %lld: logits apart by %g of %g; chosen %d has %g, the best %g\n", dt_world_rank(),
               (long long)at, (double)apart, (double)scale, chosen, (double)whole[chosen], (double)best);
        exit(1);
    }
    return (double)(apart / scale);
}

int main(int argc, char **argv)
{
    Dtrain__Config *config = NULL;
    dt_job job = {0};
    dt_ckpt *ck = NULL;
    dt_generator *gen = NULL;
    const dt_choice greedy = {0, 1, 0};
    if (argc < 5) return 2;
    must(dt_world_init(&argc, &argv));
    int64_t prompt = atol(argv[1]), tokens = atol(argv[2]), n = prompt + tokens;
    must(dt_config_load(argv[4], (const char *const *)argv + 5, argc - 5, &config));
    must(dt_job_open(config, 0, &job));
    if (job.deltas.n != 0) must(dt_job_find_delta(&job, argv[3], &ck));
    must(dt_generator_create(&job, ck, prompt, n, &gen));

    int64_t vocab = job.backbone->info.vocab, known = prompt;
    int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
    float *cached = calloc((size_t)(tokens * vocab), sizeof *cached);
    float *whole = calloc((size_t)(n * vocab), sizeof *whole);
    for (int64_t i = 0; i < prompt; i++)
        ids[i] = (int32_t)(dt_rng_uniform(5, DT_RNG_SELECT, 0, (uint64_t)i) * (float)vocab);
    for (int64_t t = 0, fed = 0; t < tokens; t++) {
        const float *logits = NULL;
        /* The prompt in two parts: the second one starts where the first graph does not. */
        if (t == 0 && prompt > 4) must(dt_generator_feed(gen, ids, fed = prompt - 3, &logits));
        must(dt_generator_feed(gen, ids + fed, known - fed, &logits));
        memcpy(cached + t * vocab, logits, (size_t)vocab * sizeof *logits);
        must(dt_choose_token(logits, vocab, &greedy, known, &ids[known]));
        fed = known++;
    }
    double worst = 0;
    whole_sequence(&job, ids, n, whole);
    for (int64_t t = 0; t < tokens; t++)
        worst = fmax(worst, compare(cached + t * vocab, whole + (prompt + t - 1) * vocab, vocab, ids[prompt + t], t));
    if (dt_world_rank() == 0) printf("%lld tokens agree, logits within %.1e\n", (long long)tokens, worst);
    free(ids);
    free(cached);
    free(whole);
    dt_generator_destroy(gen);
    dt_ckpt_close(ck);
    dt_job_close(&job);
    dt_config_free(config);
    dt_world_finalize();
    return 0;
}
