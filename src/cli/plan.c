/* dtrain plan: what each rank will hold, compute and send. */
#include "base/memory.h" // dt_alloc
#include "base/units.h"  // dt_words_count
#include "cli/cli.h"
#include "comm/comm.h"
#include "train/report.h"
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A figure of a rank: its key in JSON, its line in the table. */
typedef enum figure_kind { COUNT, BYTES, FLOPS, MOVED } figure_kind;
typedef struct figure {
    const char *heading; /* of the lines from here on; NULL: the same */
    const char *key, *label;
    figure_kind kind; /* COUNT, BYTES: an int64_t; FLOPS, MOVED: a double */
    size_t offset;    /* in dt_rank_report */
    bool optional;    /* no line where it is 0 */
} figure;
#define AT(field) offsetof(dt_rank_report, field)
static const figure figures[] = {
    {"values", "frozen_values", "frozen", COUNT, AT(frozen), false},
    {NULL, "trainable_values", "trainable", COUNT, AT(trainable), false},
    {"memory", "weight_bytes", "frozen weights", BYTES, AT(weights), false},
    {NULL, "param_bytes", "trainable values", BYTES, AT(params), false},
    {NULL, "grad_bytes", "their gradients", BYTES, AT(grads), false},
    {NULL, "optimizer_bytes", "state of the optimizer", BYTES, AT(moments), false},
    {NULL, "arena_bytes", "arena: activations of a micro-batch", BYTES, AT(arena), false},
    {NULL, "workspace_bytes", "workspace of kernels", BYTES, AT(workspace), false},
    {NULL, "evaluation_bytes", "evaluation", BYTES, AT(evaluation), true},
    {NULL, "saving_bytes", "copy that a save writes", BYTES, AT(saving), true},
    {NULL, "other_bytes", "inputs, constants, indices", BYTES, AT(other), false},
    {NULL, "total_bytes", "together", BYTES, AT(total), false},
    {NULL, "selection_bytes", "before training: selection", BYTES, AT(selection), true},
    {"compute, a step", "forward_flops", "forward", FLOPS, AT(forward), false},
    {NULL, "backward_flops", "backward", FLOPS, AT(backward), false},
    {NULL, "update_flops", "update", FLOPS, AT(update), false},
    {NULL, "moved_bytes", "memory read and written", MOVED, AT(moved), false},
    {"wire, payload of a step", "tp_comm_bytes", "tensor ranks", BYTES, AT(tensor_bytes), false},
    {NULL, "delta_comm_bytes", "data ranks: the delta", BYTES, AT(delta_bytes), false},
    {NULL, "full_comm_bytes", "  full fine-tuning would send", BYTES, AT(full_bytes), false},
};
enum { FIGURES = sizeof figures / sizeof *figures, COLUMNS = 4, LABEL = 40, WIDTH = 15 };

static double number(const dt_rank_report *r, const figure *f)
{
    const void *at = (const char *)r + f->offset;
    return f->kind == COUNT || f->kind == BYTES ? (double)*(const int64_t *)at : *(const double *)at;
}

/* Ranks that are alike. */
typedef struct class
{
    const dt_rank_report *like;
    int ranks;
} group;
typedef struct folded {
    group *list; /* in the order of their first ranks */
    int n;
    int *of_rank;
} folded;

static dt_status fold(const dt_report *report, folded *out)
{
    const size_t ranks = (size_t)report->mesh.ranks;
    DT_TRY(dt_alloc(ranks, sizeof *out->list, &out->list));
    DT_TRY(dt_alloc(ranks, sizeof *out->of_rank, &out->of_rank));
    for (size_t r = 0; r < ranks; r++) {
        int c = 0;
        while (c < out->n && memcmp(out->list[c].like, &report->rank[r], sizeof report->rank[r]) != 0) c++;
        if (c == out->n) out->list[out->n++].like = &report->rank[r];
        out->list[c].ranks++;
        out->of_rank[r] = c;
    }
    return DT_OK;
}

static int tensor_of(const dt_report *p)
{
    return dt_mesh_group_size(&p->mesh, DT_AXES_TENSOR);
}

/* ---- as JSON ---- */

static cJSON *group_json(const folded *all, int c, int ranks)
{
    const dt_rank_report *r = all->list[c].like;
    cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "ranks");
    for (int i = 0; i < ranks; i++)
        if (all->of_rank[i] == c) cJSON_AddItemToArray(list, cJSON_CreateNumber(i));
    for (int i = 0; i < FIGURES; i++) cJSON_AddNumberToObject(o, figures[i].key, number(r, &figures[i]));
    cJSON *wires = cJSON_AddArrayToObject(o, "tensor_comm");
    for (int64_t i = 0; i < r->wires; i++) {
        cJSON *w = cJSON_CreateObject();
        cJSON_AddStringToObject(w, "op", r->wire[i].op);
        cJSON_AddNumberToObject(w, "calls", (double)r->wire[i].calls);
        cJSON_AddNumberToObject(w, "bytes", (double)r->wire[i].bytes);
        cJSON_AddItemToArray(wires, w);
    }
    return o;
}

static dt_status print_json(const dt_report *p, const Dtrain__Config *config, const folded *all)
{
    const struct {
        const char *key;
        double value;
    } of_job[] = {
        {"ranks", p->mesh.ranks},
        {"data", p->mesh.size[DT_AXIS_DATA]},
        {"tensor", tensor_of(p)},
        {"threads", p->threads},
        {"backbone_values", (double)p->backbone},
        {"trainable_values", (double)p->trainable},
        {"seq_len", config->data->seq_len},
        {"micro_batch", config->train->micro_batch},
        {"micro_batches", (double)p->micro_batches},
        {"forward_nodes", (double)p->forward},
        {"backward_nodes", (double)p->backward},
        {"once_nodes", (double)p->once},
        {"delta_comm_every", (double)p->delta_every},
    };
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof of_job / sizeof *of_job; i++)
        cJSON_AddNumberToObject(o, of_job[i].key, of_job[i].value);
    cJSON_AddBoolToObject(o, "selection_assumed", p->assumed);
    cJSON *deltas = cJSON_AddArrayToObject(o, "deltas"), *groups = cJSON_AddArrayToObject(o, "groups");
    for (int i = 0; i < p->deltas; i++) {
        cJSON *d = cJSON_CreateObject();
        cJSON_AddStringToObject(d, "name", p->delta[i].name);
        cJSON_AddStringToObject(d, "method", p->delta[i].method);
        cJSON_AddNumberToObject(d, "values", (double)p->delta[i].values);
        cJSON_AddItemToArray(deltas, d);
    }
    for (int i = 0; i < all->n; i++) cJSON_AddItemToArray(groups, group_json(all, i, p->mesh.ranks));
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (text == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    puts(text);
    cJSON_free(text);
    return DT_OK;
}

/* ---- as a table ---- */

static const char *who_reads(Dtrain__Read read)
{
    switch (read) {
    case DTRAIN__READ__NODE: return "one rank of each node reads the files once and hands out the slices";
    case DTRAIN__READ__JOB: return "one rank reads the files once and hands out the slices";
    default: return "every rank reads its slices of the files";
    }
}

static void print_job(const dt_report *p, const Dtrain__Config *config)
{
    const dt_model_info *m = &p->model;
    const Dtrain__Train *train = config->train;
    printf("%d rank%s: data %d x tensor %d%s, %d thread%s each; device: %s\n", p->mesh.ranks,
           p->mesh.ranks == 1 ? "" : "s", p->mesh.size[DT_AXIS_DATA], tensor_of(p),
           config->parallel->sequence ? " with sequence parallelism" : "", p->threads, p->threads == 1 ? "" : "s",
           p->device);
    printf(
        "backbone: %s, %s values; %lld layers, width %lld, %lld heads (%lld of keys and values) of %lld, feed-forward "
        "%lld, vocabulary %lld\n",
        p->family, dt_words_count(p->backbone).text, (long long)m->layers, (long long)m->width, (long long)m->heads,
        (long long)m->kv_heads, (long long)m->head_dim, (long long)m->ffn, (long long)m->vocab);
    printf("weights: %s\n", config->backbone->random_init ? "drawn, not read" : who_reads(config->backbone->read));
    for (int i = 0; i < p->deltas; i++)
        printf("delta %s: %s, %s trainable values, %.3g%% of the backbone's\n", p->delta[i].name, p->delta[i].method,
               dt_words_count(p->delta[i].values).text, 100.0 * (double)p->delta[i].values / (double)p->backbone);
    printf("a step: %d sequences of %d tokens; a data rank computes %lld of them, %d at a time\n", train->global_batch,
           config->data->seq_len, (long long)(p->micro_batches * train->micro_batch), train->micro_batch);
    printf("graph: %lld nodes forward, %lld backward in a micro-batch; %lld once a step\n", (long long)p->forward,
           (long long)p->backward, (long long)p->once);
    if (p->assumed) printf("what the ranks train is chosen from data later: an even share is assumed here\n");
}

/* "0-3, 8-11" */
static void print_ranks(const folded *all, int c, int ranks)
{
    const char *comma = "";
    for (int from = 0, to; from < ranks; from = to) {
        for (to = from; to < ranks && all->of_rank[to] == c;) to++;
        if (to == from) {
            to++;
            continue;
        }
        printf("%s%d", comma, from);
        if (to - from > 1) printf("-%d", to - 1);
        comma = ", ";
    }
}

static dt_words words_of(const figure *f, double x)
{
    if (f->kind == COUNT) return dt_words_count((int64_t)x);
    return dt_words_scaled(x, f->kind == FLOPS ? "FLOP" : "B");
}

/* The collectives of tensor ranks, one a line under the line of their sum. */
static void print_wires(const group *groups, int n)
{
    const dt_rank_report *first = groups[0].like; /* tensor ranks run the same collectives */
    for (int64_t i = 0; i < first->wires; i++) {
        char label[64];
        snprintf(label, sizeof label, "    %s x %s", first->wire[i].op, dt_words_count(first->wire[i].calls).text);
        printf("%-*s", LABEL, label);
        for (int c = 0; c < n; c++)
            printf("%*s", WIDTH,
                   i < groups[c].like->wires ? dt_words_bytes((double)groups[c].like->wire[i].bytes).text : "");
        putchar('\n');
    }
}

/* Up to COLUMNS groups side by side. */
static void print_block(const dt_report *p, const group *groups, int first, int n)
{
    printf("\n%-*s", LABEL, "");
    for (int c = 0; c < n; c++) {
        char name[24];
        snprintf(name, sizeof name, "group %d", first + c + 1);
        printf("%*s", WIDTH, groups[c].ranks == p->mesh.ranks ? "every rank" : name);
    }
    putchar('\n');
    for (int i = 0; i < FIGURES; i++) {
        const figure *f = &figures[i];
        bool any = !f->optional;
        for (int c = 0; c < n; c++) any |= number(groups[c].like, f) != 0;
        if (f->heading != NULL) printf("%s\n", f->heading);
        if (!any) continue;
        printf("  %-*s", LABEL - 2, f->label);
        for (int c = 0; c < n; c++) printf("%*s", WIDTH, words_of(f, number(groups[c].like, f)).text);
        putchar('\n');
        if (f->offset == AT(tensor_bytes)) print_wires(groups, n);
    }
}

static void print_notes(const dt_report *p)
{
    int data = p->mesh.size[DT_AXIS_DATA];
    if (p->delta_every > 1) printf("\nThe delta's all-reduce comes every %lld steps.\n", (long long)p->delta_every);
    if (data == 1) printf("\nWith one data rank nothing of the delta goes over the network.\n");
    else
        printf("\nAn all-reduce over %d data ranks moves %.3g times its payload over each rank's link.\n", data,
               2.0 * (data - 1) / data);
    printf("Memory comes on top: the program itself, and, without data.cache, the tokenised rows (4 bytes a token).\n");
}

static dt_status print_plan(const Dtrain__Config *config, int ranks, bool json)
{
    dt_report report;
    folded all = {0};
    DT_TRY(dt_report_make(config, ranks, &report));
    dt_status st = fold(&report, &all);
    if (st == DT_OK && json) {
        st = print_json(&report, config, &all);
    } else if (st == DT_OK) {
        print_job(&report, config);
        for (int c = 0; all.n > 1 && c < all.n; c++) {
            printf("%sgroup %d: ranks ", c == 0 ? "\n" : "", c + 1);
            print_ranks(&all, c, ranks);
            putchar('\n');
        }
        for (int c = 0; c < all.n; c += COLUMNS)
            print_block(&report, all.list + c, c, all.n - c < COLUMNS ? all.n - c : COLUMNS);
        print_notes(&report);
    }
    free(all.list);
    free(all.of_rank);
    dt_report_free(&report);
    return st;
}

static dt_status print_graph(const Dtrain__Config *config, int ranks, int rank)
{
    char *text = NULL;
    DT_TRY(dt_report_graph(config, ranks, rank, &text));
    fputs(text, stdout);
    free(text);
    return DT_OK;
}

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    int64_t ranks = 0, graph = -1;
    DT_TRY(dt_args_count(args, "--ranks", 1, dt_world_size(), &ranks));
    if (ranks > 1 << 20) return dt_fail(DT_ERR_CONFIG, "--ranks: %lld is more than 1048576", (long long)ranks);
    DT_TRY(dt_args_count(args, "--graph", 0, -1, &graph));
    if (graph >= ranks)
        return dt_fail(DT_ERR_CONFIG, "--graph: there is no rank %lld of %lld", (long long)graph, (long long)ranks);
    DT_TRY(dt_args_config(args, (int)ranks, true, &config));
    dt_status st = DT_OK;
    if (dt_world_rank() == 0)
        st = graph >= 0 ? print_graph(config, (int)ranks, (int)graph)
                        : print_plan(config, (int)ranks, dt_args_get(args, "--json") != NULL);
    dt_config_free(config);
    return dt_world_agree(st);
}

const dt_command dt_command_plan = {
    .name = "plan",
    .arguments = "CONFIG",
    .summary = "what each rank will hold, compute and send",
    .text = "Builds and plans the graph of every rank of a job and prints values, memory, compute and wire of a\n"
            "step, in one column for ranks that are alike. Reads the backbone's config.json and no weights or data,\n"
            "so it runs anywhere at once. delta_comm_bytes and tp_comm_bytes of the run's metrics.jsonl are these\n"
            "figures.\n"
            "--graph prints instead the graph of a step as one rank runs it: values with type, shape and, along each\n"
            "axis (d: data, t: tensor, r: kv replicas), their placement; sites; and the nodes of each program in\n"
            "order, those of backward with an arrow, those of the last micro-batch of a step alone with the word\n"
            "last, with @ and the role where a site's output comes about.",
    .examples = "dtrain plan config.pbtxt --ranks 64\n"
                "dtrain plan config.pbtxt --ranks 64 --set parallel.tensor=8 --set train.recompute=true\n"
                "dtrain plan config.pbtxt --ranks 64 --json\n"
                "dtrain plan config.pbtxt --ranks 4 --graph 0",
    .options = (const dt_option[]){{"--ranks", "N", "ranks of the job (default: those that mpirun started)"},
                                   {"--json", NULL, "as one JSON object"},
                                   {"--graph", "RANK", "the graph that this rank runs, as text"},
                                   {0}},
    .run = run,
};
