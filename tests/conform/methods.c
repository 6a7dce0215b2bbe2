/* Every delta method on every kind of backbone: gradients of all that it trains against central finite differences in
 * float64, as built, fused and recomputed; and that training leaves alone what it does not train. */
#include "base/hash.h" // dt_hash_string
#include "base/rng.h"  // dt_rng_normal
#include "op/update.h" // DT_HYPER_*
#include "train/params.h"
#include "train/trainer.h"
#include "unit/tiny.h"
#include <math.h>
#include <stdlib.h>

/* What is trained. A new line in methods.def needs one here. */
static const char *const methods[] = {
    "delta { lora { rank: 2 } target: \"re:block.*\" }",
    "delta { lora { rank: 3 alpha: 4 rs: true dropout: 0.3 } target: \"attn.q\" target: \"ffn.down\" }",
    "delta { fish { keep: 0.05 } }",
    "delta { fish { keep: 0.3 } exclude: \"embed\" exclude: \"head\" }",
    "delta { full {} exclude: \"ffn.up\" }",
    "delta { bitfit { add: true } }",
    "delta { name: \"a\" lora { rank: 2 dropout: 0.5 } } delta { name: \"b\" fish { keep: 0.1 } }",
    "delta { name: \"a\" fish { keep: 0.2 } } delta { name: \"b\" fish { keep: 0.2 } target: \"attn.v\" }",
    "delta { name: \"a\" full {} target: \"attn.o\" } delta { name: \"b\" fish { keep: 0.2 } target: \"attn.o\" } "
    "delta { name: \"c\" lora { rank: 2 } target: \"attn.o\" }",
};
enum { METHODS = sizeof methods / sizeof *methods, SEQUENCES = 2, N = SEQUENCES * TINY_SEQ };

/* What it is trained on. A new line in families.def needs one here. */
#define SIZES                                                                                                          \
    "\"hidden_size\": 24, \"intermediate_size\": 28, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "           \
    "\"num_key_value_heads\": 2, \"vocab_size\": 19, \"initializer_range\": 0.3, "
static const tiny_model models[] = {
    {.heads = 2, .kv_heads = 1, .vocab = 21},
    {.heads = 2, .kv_heads = 2, .vocab = 19, .tied = true, .bias = true},
    {.json = "{\"model_type\": \"mistral\", " SIZES "\"head_dim\": 4, \"sliding_window\": 3}"},
    {.json = "{\"model_type\": \"qwen2\", " SIZES "\"tie_word_embeddings\": true}"},
    {.json = "{\"model_type\": \"qwen3\", " SIZES "\"head_dim\": 6}"},
    {.json = "{\"model_type\": \"gpt2\", \"n_embd\": 20, \"n_head\": 2, \"n_layer\": 2, \"n_inner\": 28, "
             "\"n_positions\": 16, \"vocab_size\": 23, \"initializer_range\": 0.3}"},
};
enum { MODELS = sizeof models / sizeof *models };

Test(methods, every_method_and_every_family_is_here)
{
    static const char *const known[] = {
#define DT_METHOD(name) #name " {",
#include "delta/methods.def"
#undef DT_METHOD
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool found = false;
        for (int m = 0; m < METHODS; m++) found |= strstr(methods[m], known[i]) != NULL;
        cr_assert(found, "%s is not tested", known[i]);
    }
    for (const dt_family *const *f = dt_families; *f != NULL; f++) {
        for (const char *const *type = (*f)->types; *type != NULL; type++) {
            bool found = false;
            for (int m = 0; m < MODELS; m++) {
                tiny one;
                tiny_open(&one, models[m], "");
                found |= strcmp(one.backbone.type, *type) == 0;
                tiny_close(&one);
            }
            cr_assert(found, "%s is not tested", *type);
        }
    }
}

/* ---- A job without files ---- */

static tiny t;

static void open_job(tiny_model m, const char *config, bool f64)
{
    tiny_open(&t, m, config);
    t.sequences = SEQUENCES;
    OK(f64 ? dt_device_cpu_f64(1, &t.job.device) : dt_device_cpu(1, &t.job.device));
    OK(dt_comm_create_host(&t.job.mesh, &t.job.host_comm));
    t.job.comm = &t.job.host_comm;
    OK(dt_store_create(&t.job.device, &t.job.store));
}

static void close_job(void)
{
    dt_store_destroy(t.job.store);
    dt_device_destroy(&t.job.device);
    dt_comm_destroy(&t.job.host_comm);
    tiny_close(&t);
}

/* Methods that choose by scores get random ones. */
static void choose(void)
{
    dt_deltas all = t.job.deltas;
    t.job.deltas.n = 0;
    tiny_build(&t, DT_FOR_EVAL);
    t.job.deltas = all;
    bool *selected = calloc((size_t)t.g->sites, sizeof *selected);
    dt_score *score = calloc(2 * (size_t)t.g->sites, sizeof *score);
    for (int i = 0; i < all.n; i++) {
        dt_delta *d = &all.delta[i];
        int n = 0;
        if (d->method->choose == NULL) continue;
        OK(dt_delta_select_sites(d, t.g, selected));
        for (int64_t s = 0; s < 2 * t.g->sites; s++) {
            dt_val w = s % 2 == 0 ? t.g->site[s / 2].w : t.g->site[s / 2].b;
            if (!selected[s / 2] || w == DT_NONE) continue;
            int64_t count = dt_value_count(t.g, w);
            float *value = calloc((size_t)count, sizeof *value);
            for (int64_t k = 0; k < count; k++)
                value[k] = dt_rng_uniform(9, DT_RNG_SELECT, dt_hash_string(t.g->value[w].name), (uint64_t)k);
            score[n] = dt_job_slice(t.g, w);
            score[n++].value = value;
        }
        OK(d->method->choose(d, score, n, &t.job.host_comm));
        for (int k = 0; k < n; k++) free((void *)(uintptr_t)score[k].value);
    }
    free(selected);
    free(score);
}

/* Sequences from `first` on: two packed rows, and a short one with padding. Some tokens carry no loss. */
static void put_batch(dt_exec *to, const dt_program_io *io, int first)
{
    static const int32_t pos[N] = {0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 0}, step = 3;
    int32_t tokens[N], targets[N], key[N];
    for (int i = 0; i < N; i++) {
        tokens[i] = (i * 7 + i / 3 + 2) % 18;
        targets[i] = i % 5 == 4 || i > 13 ? -1 : (i * 5 + 1) % 18;
        key[i] = 100 + i;
    }
    OK(dt_exec_put_i32(to, io->tokens, tokens + first * TINY_SEQ));
    OK(dt_exec_put_i32(to, io->pos, pos + first * TINY_SEQ));
    OK(dt_exec_put_i32(to, io->targets, targets + first * TINY_SEQ));
    OK(dt_exec_put_i32(to, io->key, key + first * TINY_SEQ));
    OK(dt_exec_put_i32(to, io->step, &step));
}

/* ---- Gradients ---- */

static dt_exec *exec;

static double loss(void)
{
    double *sum = dt_exec_data(exec, t.io.loss);
    *sum = 0;
    OK(dt_job_apply_updates(&t.job, t.g));
    OK(dt_exec_run(exec, DT_PROLOGUE));
    OK(dt_exec_run(exec, DT_MICRO));
    return *sum;
}

static double *stored(dt_val v)
{
    return dt_store_find(t.job.store, t.g->value[v].name)->data;
}

/* Where values start at zero their gradients, or those of their partners, would be zero too. */
static void perturb_params(void)
{
    for (dt_val v = 0; v < t.g->values; v++) {
        if (t.g->value[v].kind != DT_KIND_PARAM) continue;
        uint64_t name = dt_hash_string(t.g->value[v].name);
        for (int64_t i = 0; i < dt_value_local_count(t.g, v); i++)
            stored(v)[i] += 0.05 * (double)dt_rng_normal(4, DT_RNG_INIT, name, (uint64_t)i);
    }
}

/* The gradient of a parameter, copied: every further run adds to what is there, and to what is collected of values that
 * the prologue computes. */
static double *gradient_of(dt_val param)
{
    dt_val acc = dt_grad_of(t.g, param);
    cr_assert_neq(acc, DT_NONE, "%s is not trained", t.g->value[param].name);
    size_t bytes = (size_t)dt_value_local_count(t.g, acc) * sizeof(double);
    double *copy = malloc(bytes);
    for (dt_val v = 0; v < t.g->values; v++) {
        const dt_value *val = &t.g->value[v];
        if (val->kind == DT_KIND_STATE && strncmp(val->name, "grad:", 5) == 0)
            memset(dt_exec_data(exec, v), 0, (size_t)dt_value_local_count(t.g, v) * sizeof(double));
    }
    loss();
    OK(dt_exec_run(exec, DT_EPILOGUE));
    memcpy(copy, dt_exec_data(exec, acc), bytes);
    return copy;
}

/* (d loss / d x[i]) by central differences. */
static double difference_at(double *x)
{
    const double h = 1e-5, at = *x;
    *x = at + h;
    double above = loss();
    *x = at - h;
    double below = loss();
    *x = at;
    return (above - below) / (2 * h);
}

/* A bias of keys that are not rotated adds the same to all scores of a query. */
static bool has_no_effect(dt_val v)
{
    return strstr(t.g->value[v].name, "c_attn.k.bias") != NULL;
}

/* Of a dozen values spread over a parameter: |gradient - difference| against |difference|. */
static void check_gradient(dt_val param, const char *config)
{
    int64_t count = dt_value_local_count(t.g, param), step = count / 12 + 1;
    double *grad = gradient_of(param), error = 0, norm = 0;
    for (int64_t i = 0; i < count; i += step) {
        double difference = difference_at(&stored(param)[i]);
        error += (grad[i] - difference) * (grad[i] - difference);
        norm += difference * difference;
    }
    cr_assert(sqrt(error) <= 1e-6 * sqrt(norm) + 1e-8, "%s: gradient of %s is off by %g of %g", config,
              t.g->value[param].name, sqrt(error), sqrt(norm));
    cr_assert(norm > 0 || has_no_effect(param), "%s: %s has no gradient", config, t.g->value[param].name);
    free(grad);
}

static void build(dt_purpose purpose, bool fuse)
{
    dt_graph_destroy(t.g);
    t.g = NULL;
    OK(dt_job_build(&t.job, &t.job.mesh, purpose, SEQUENCES, TINY_SEQ, false, &t.g, &t.io));
    if (fuse) OK(dt_pass_fuse(t.g));
}

static void check_gradients(tiny_model m, const char *method, const char *how, bool fuse)
{
    char config[512];
    int params = 0;
    snprintf(config, sizeof config, "%s %s", method, how);
    open_job(m, config, true);
    choose();
    build(DT_FOR_TRAINING, fuse);
    OK(dt_job_provide(&t.job, t.g));
    OK(dt_job_bind_params(&t.job, t.g));
    OK(dt_exec_create(t.g, &t.job.device, t.job.comm, t.job.store, &exec));
    put_batch(exec, &t.io, 0);
    perturb_params();
    for (dt_val v = 0; v < t.g->values; v++) {
        if (t.g->value[v].kind != DT_KIND_PARAM) continue;
        check_gradient(v, config);
        params++;
    }
    cr_assert_gt(params, 0);
    dt_exec_destroy(exec);
    close_job();
}

Test(methods, gradients_match_finite_differences)
{
    for (int m = 0; m < MODELS; m++)
        for (int d = 0; d < METHODS; d++) check_gradients(models[m], methods[d], "", true);
}

Test(methods, gradients_do_without_the_rewrites)
{
    for (int d = 0; d < METHODS; d++) check_gradients(models[d % MODELS], methods[d], "", false);
}

Test(methods, gradients_survive_recomputation)
{
    for (int d = 0; d < METHODS; d++)
        check_gradients(models[(d + 3) % MODELS], methods[d], "train { recompute: true }", true);
}

/* ---- What is frozen stays so ---- */

/* Weights of the store as they are now, by value of the graph; NULL: no weight. */
static float **copy_weights(const dt_graph *g)
{
    float **copy = calloc((size_t)g->values, sizeof *copy);
    for (dt_val v = 0; v < g->values; v++) {
        if (g->value[v].kind != DT_KIND_WEIGHT) continue;
        size_t bytes = (size_t)dt_value_count(g, v) * sizeof **copy;
        copy[v] = malloc(bytes);
        memcpy(copy[v], dt_store_find(t.job.store, g->value[v].name)->data, bytes);
    }
    return copy;
}

/* Marks the entries of a weight that updates in place write: w[idx] = w0 + the sum of all val there. */
static void add_updates(const dt_graph *g, dt_val w, bool *chosen, double *sum)
{
    for (int64_t u = 0; u < g->updates; u++) {
        if (g->update[u].w != w) continue;
        const int32_t *idx = dt_store_find(t.job.store, g->value[g->update[u].idx].name)->data;
        const float *val = dt_store_find(t.job.store, g->value[g->update[u].val].name)->data;
        for (int64_t i = 0; i < g->value[g->update[u].val].local[0]; i++) {
            chosen[idx[i]] = true;
            sum[idx[i]] += (double)val[i];
        }
    }
}

static void check_weights(const dt_graph *g, float **before, const char *config)
{
    for (dt_val v = 0; v < g->values; v++) {
        if (before[v] == NULL) continue;
        int64_t count = dt_value_count(g, v);
        const float *now = dt_store_find(t.job.store, g->value[v].name)->data;
        bool *chosen = calloc((size_t)count, sizeof *chosen);
        double *sum = calloc((size_t)count, sizeof *sum);
        add_updates(g, v, chosen, sum);
        for (int64_t i = 0; i < count; i++) {
            double expected = (double)before[v][i] + sum[i];
            if (chosen[i]) cr_assert_float_eq(now[i], expected, 1e-6 * (1 + fabs(expected)), "%s", g->value[v].name);
            else
                cr_assert_eq(memcmp(&now[i], &before[v][i], sizeof *now), 0, "%s: %s[%lld] was frozen", config,
                             g->value[v].name, (long long)i);
        }
        free(chosen);
        free(sum);
        free(before[v]);
    }
    free(before);
}

static double run_step(dt_trainer *trainer, int number)
{
    float hyper[DT_HYPER_COUNT] = {0}, sum = 0;
    const Dtrain__Optim *optim = t.config->optim;
    trainer->optimizer->hyper(optim, number, hyper);
    hyper[DT_HYPER_LR] = 0.01f;
    hyper[DT_HYPER_SCALE] = 1.0f / 11;
    memset(dt_exec_data(trainer->exec, trainer->flat.grads), 0, (size_t)trainer->flat.count * sizeof(float));
    memset(dt_exec_data(trainer->exec, trainer->io.loss), 0, sizeof(float));
    OK(dt_exec_put_f32(trainer->exec, trainer->hyper, hyper));
    OK(dt_exec_run(trainer->exec, DT_PROLOGUE));
    OK(dt_exec_run(trainer->exec, DT_MICRO));
    OK(dt_exec_run(trainer->exec, DT_EPILOGUE));
    OK(dt_exec_get_f32(trainer->exec, trainer->io.loss, &sum));
    return (double)sum;
}

/* The held-out loss of the same batch, from the same store. */
static double evaluate(void)
{
    float sum = 0;
    build(DT_FOR_EVAL, true);
    OK(dt_exec_create(t.g, &t.job.device, t.job.comm, t.job.store, &exec));
    put_batch(exec, &t.io, 0);
    memset(dt_exec_data(exec, t.io.loss), 0, sizeof sum);
    OK(dt_exec_run(exec, DT_PROLOGUE));
    OK(dt_exec_run(exec, DT_MICRO));
    OK(dt_exec_get_f32(exec, t.io.loss, &sum));
    dt_exec_destroy(exec);
    return (double)sum;
}

Test(methods, training_changes_nothing_that_is_frozen)
{
    for (int c = 0; c < METHODS * MODELS; c++) {
        dt_trainer trainer;
        char config[512];
        snprintf(config, sizeof config, "%s train { micro_batch: 2 global_batch: 2 }", methods[c % METHODS]);
        open_job(models[c / METHODS], config, false);
        choose();
        OK(dt_trainer_create(&t.job, NULL, &trainer));
        put_batch(trainer.exec, &trainer.io, 0);
        float **before = copy_weights(trainer.g);
        double first = evaluate();
        for (int step = 1; step <= 3; step++) run_step(&trainer, step);
        check_weights(trainer.g, before, config);
        double last = evaluate();
        cr_assert_lt(last, first - 1e-3, "%s: the loss went from %g to %g", config, first, last);
        dt_trainer_destroy(&trainer);
        close_job();
    }
}

Test(methods, the_same_steps_leave_the_same_bits)
{
    for (int d = 0; d < METHODS; d++) {
        float *params = NULL;
        for (int run = 0; run < 2; run++) {
            dt_trainer trainer;
            char config[512];
            snprintf(config, sizeof config, "%s train { micro_batch: 2 global_batch: 2 }", methods[d]);
            open_job(models[0], config, false);
            choose();
            OK(dt_trainer_create(&t.job, NULL, &trainer));
            put_batch(trainer.exec, &trainer.io, 0);
            for (int step = 1; step <= 3; step++) run_step(&trainer, step);
            size_t bytes = (size_t)trainer.flat.count * sizeof *params;
            const void *now = dt_exec_data(trainer.exec, trainer.flat.params);
            if (run == 1) cr_assert_eq(memcmp(params, now, bytes), 0, "%s", config);
            else memcpy(params = malloc(bytes), now, bytes);
            dt_trainer_destroy(&trainer);
            close_job();
        }
        free(params);
    }
}

/* ---- Scores of a selection: sums over examples of squared gradients ---- */

Test(methods, fisher_information_is_the_sum_of_squared_gradients)
{
    for (int m = 0; m < MODELS; m++) {
        open_job(models[m], "delta { fish {} }", true);
        t.sequences = 1;
        tiny_build(&t, DT_FOR_FISHER);
        OK(dt_pass_fuse(t.g));
        for (dt_val v = 0; v < t.g->values; v++) /* scored weights are only read */
            if (t.g->value[v].kind == DT_KIND_PARAM) t.g->value[v].kind = DT_KIND_WEIGHT;
        OK(dt_weights_load(&t.backbone, t.g, &t.job.device, t.job.store));
        OK(dt_exec_create(t.g, &t.job.device, t.job.comm, t.job.store, &exec));
        for (int example = 0; example < SEQUENCES; example++) {
            put_batch(exec, &t.io, example);
            loss();
        }
        OK(dt_exec_run(exec, DT_EPILOGUE));
        double **score = calloc((size_t)t.g->values, sizeof *score); /* further runs add to what is there */
        for (dt_val v = 0; v < t.g->values; v++) {
            dt_val acc = t.g->value[v].kind == DT_KIND_WEIGHT ? dt_grad_of(t.g, v) : DT_NONE;
            size_t bytes = (size_t)dt_value_count(t.g, v) * sizeof **score;
            if (acc != DT_NONE) memcpy(score[v] = malloc(bytes), dt_exec_data(exec, acc), bytes);
        }
        for (dt_val v = 0; v < t.g->values; v++) {
            if (score[v] == NULL) continue;
            int64_t count = dt_value_count(t.g, v), step = count / 8 + 1;
            double error = 0, norm = 0;
            for (int64_t i = 0; i < count; i += step) {
                double expected = 0;
                for (int example = 0; example < SEQUENCES; example++) {
                    put_batch(exec, &t.io, example);
                    expected += pow(difference_at(&stored(v)[i]), 2);
                }
                error += pow(score[v][i] - expected, 2);
                norm += expected * expected;
            }
            cr_assert(has_no_effect(v) || (norm > 0 && sqrt(error) <= 1e-6 * sqrt(norm)), "%s is off by %g of %g",
                      t.g->value[v].name, sqrt(error), sqrt(norm));
            free(score[v]);
        }
        free(score);
        dt_exec_destroy(exec);
        close_job();
    }
}
