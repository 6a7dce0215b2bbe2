/* Generation: two graphs over one key-value cache. */
#include "train/generate.h"
#include "graph/passes.h"
#include "op/matmul.h" // dt_matmul
#include "train/params.h"
#include <stdlib.h>
#include <string.h>

/* Most tokens of a prompt that are computed at once. */
#define PREFILL_TOKENS 256

/* A graph that takes a fixed number of tokens. */
typedef struct stage {
    dt_graph *g;
    dt_exec *exec;
    int64_t tokens;
    dt_val token, pos, start;
    bool ready; /* its prologue has run */
} stage;

struct dt_generator {
    dt_job *job;
    dt_mesh mesh;          /* the job's, without its data axis: no value is split over it */
    stage prefill, decode; /* prefill.exec NULL: the prompt is too short for one */
    int64_t positions, count;
    int32_t *ids; /* [positions], `count` of them known */
    int32_t *pos; /* 0, 1, 2 ... */
    float *logits;
};

/* Without logits nothing is read but what the caches get: pruning takes away the rest of the last block. */
static void build(dt_generator *gen, dt_graph *g, bool want_logits, stage *s)
{
    const int64_t one = 1;
    const dt_backbone *bb = gen->job->backbone;
    g->mesh = gen->mesh;
    g->tokens = s->tokens;
    g->seed = (uint64_t)gen->job->config->run->seed;
    s->token = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &s->tokens, DT_NO_SPLIT);
    s->pos = dt_graph_input(g, "pos", DT_TYPE_I32, 1, &s->tokens, DT_NO_SPLIT);
    s->start = dt_graph_input(g, "start", DT_TYPE_I32, 1, &one, DT_NO_SPLIT);
    const dt_batch batch = {s->token, s->pos, s->tokens, gen->positions, s->start};
    dt_val head = DT_NONE, hidden = bb->family->build(g, bb->own, &bb->info, &batch, &head);
    if (want_logits) dt_graph_mark_output(g, dt_matmul(g, hidden, head, false, true, 1.0, DT_TYPE_ACC)); // (1, V)
}

static dt_status make_stage(dt_generator *gen, int64_t tokens, bool want_logits, stage *s)
{
    s->tokens = tokens;
    DT_TRY(dt_graph_create(&s->g));
    build(gen, s->g, want_logits, s);
    DT_TRY(dt_deltas_attach(&gen->job->deltas, s->g, DT_NONE, DT_NONE));
    DT_TRY(dt_pass_merge(s->g));
    DT_TRY(dt_pass_shard(s->g, &gen->mesh));
    return dt_pass_fuse(s->g);
}

static dt_status bind_stage(dt_generator *gen, stage *s)
{
    dt_job *job = gen->job;
    return dt_exec_create(s->g, &job->device, job->comm, job->store, &s->exec);
}

static dt_status create(dt_generator *gen, const dt_ckpt *ck, int64_t prompt)
{
    int64_t chunk = prompt - 1 < PREFILL_TOKENS ? prompt - 1 : PREFILL_TOKENS;
    DT_TRY(dt_alloc((size_t)gen->positions, sizeof *gen->ids, &gen->ids));
    DT_TRY(dt_alloc((size_t)gen->positions, sizeof *gen->pos, &gen->pos));
    DT_TRY(dt_alloc((size_t)gen->job->backbone->info.vocab, sizeof *gen->logits, &gen->logits));
    for (int64_t i = 0; i < gen->positions; i++) gen->pos[i] = (int32_t)i;
    DT_TRY(make_stage(gen, 1, true, &gen->decode));
    DT_TRY(dt_job_load_delta(gen->job, ck, gen->decode.g));
    DT_TRY(bind_stage(gen, &gen->decode));
    if (chunk < 2) return DT_OK;
    DT_TRY(make_stage(gen, chunk, false, &gen->prefill));
    return bind_stage(gen, &gen->prefill);
}

dt_status dt_generator_create(dt_job *job, const dt_ckpt *ck, int64_t prompt, int64_t positions, dt_generator **out)
{
    dt_generator *gen = NULL;
    if (positions < 1 || positions > job->backbone->info.max_positions)
        return dt_fail(DT_ERR_CONFIG, "a sequence of %lld tokens does not fit the backbone's %lld positions",
                       (long long)positions, (long long)job->backbone->info.max_positions);
    DT_TRY(dt_alloc(1, sizeof *gen, &gen));
    gen->job = job;
    gen->positions = positions;
    gen->mesh = job->mesh;
    gen->mesh.size[DT_AXIS_DATA] = 1;
    gen->mesh.coord[DT_AXIS_DATA] = 0;
    dt_status st = create(gen, ck, prompt);
    if (st == DT_OK) *out = gen;
    else dt_generator_destroy(gen);
    return st;
}

static void destroy_stage(stage *s)
{
    dt_exec_destroy(s->exec);
    dt_graph_destroy(s->g);
}

void dt_generator_destroy(dt_generator *gen)
{
    if (gen == NULL) return;
    destroy_stage(&gen->prefill);
    destroy_stage(&gen->decode);
    free(gen->ids);
    free(gen->pos);
    free(gen->logits);
    free(gen);
}

/* Computes the tokens at [at, at + s->tokens). */
static dt_status run(dt_generator *gen, stage *s, int64_t at)
{
    if (!s->ready) DT_TRY(dt_exec_run(s->exec, DT_PROLOGUE));
    s->ready = true;
    DT_TRY(dt_exec_put_i32(s->exec, s->token, gen->ids + at));
    DT_TRY(dt_exec_put_i32(s->exec, s->pos, gen->pos + at));
    DT_TRY(dt_exec_put_i32(s->exec, s->start, gen->pos + at));
    return dt_exec_run(s->exec, DT_MICRO);
}

dt_status dt_generator_feed(dt_generator *gen, const int32_t *ids, int64_t n, const float **logits)
{
    stage *many = &gen->prefill, *one = &gen->decode;
    int64_t last = gen->count + n - 1;
    if (n < 1 || last >= gen->positions)
        return dt_fail(DT_ERR_INTERNAL, "%lld tokens behind %lld do not fit %lld positions", (long long)n,
                       (long long)gen->count, (long long)gen->positions);
    memcpy(gen->ids + gen->count, ids, (size_t)n * sizeof *ids);
    for (int64_t at = gen->count; at < last;) {
        stage *s = many->exec != NULL && last >= many->tokens && last - at > 1 ? many : one;
        /* A rest that is shorter than the graph: some tokens in front of it are computed again. */
        int64_t from = at + s->tokens <= last ? at : last - s->tokens;
        DT_TRY(run(gen, s, from));
        at = from + s->tokens;
    }
    DT_TRY(run(gen, one, last));
    DT_TRY(dt_exec_get_f32(one->exec, one->g->output[0], gen->logits));
    gen->count += n;
    *logits = gen->logits;
    return DT_OK;
}
