/* dtrain inspect: what is in a backbone, a checkpoint or a file of tensors. */
#include "base/file.h"
#include "base/units.h" // dt_words_count
#include "cli/cli.h"
#include "cli/tree.h"
#include "comm/comm.h"
#include "train/job.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h> // isatty

static bool in_colour(void)
{
    const char *off = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && (off == NULL || *off == '\0');
}

static bool has_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return dt_path_exists(path);
}

/* Files of a folder whose names begin and end so: how many, and their bytes. */
static int count_files(const char *folder, const char *prefix, const char *suffix, int64_t *bytes)
{
    int n = 0;
    DIR *dir = opendir(folder);
    *bytes = 0;
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        size_t length = strlen(e->d_name), tail = strlen(suffix);
        char path[4096];
        struct stat s;
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        if (length < tail || strcmp(e->d_name + length - tail, suffix) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (stat(path, &s) == 0) *bytes += (int64_t)s.st_size;
        n++;
    }
    if (dir != NULL) closedir(dir);
    return n;
}

static dt_leaf leaf_of(const dt_st_tensor *t)
{
    dt_leaf leaf = {.name = t->name, .type = dt_st_type_name(t->type), .ndim = t->ndim, .selected = -1};
    memcpy(leaf.dim, t->dim, sizeof leaf.dim);
    leaf.bytes = (int64_t)t->bytes;
    return leaf;
}

/* ---- a file of tensors, or a folder that no family knows ---- */

static dt_status add_tensors(dt_tree *tree, const dt_st *st, int64_t *values, int64_t *bytes)
{
    for (int64_t i = 0; i < dt_st_count(st); i++) {
        const dt_leaf leaf = leaf_of(dt_st_at(st, i));
        int64_t n = 1;
        for (int d = 0; d < leaf.ndim; d++) n *= leaf.dim[d];
        *values += n;
        *bytes += leaf.bytes;
        DT_TRY(dt_tree_add(tree, &leaf));
    }
    return DT_OK;
}

static dt_status inspect_tensors(const char *path, dt_tree *tree)
{
    dt_st *st = NULL;
    int64_t values = 0, bytes = 0;
    DT_TRY(dt_st_open(path, &st));
    dt_status status = add_tensors(tree, st, &values, &bytes);
    if (status == DT_OK) status = dt_tree_print(tree, in_colour());
    if (status == DT_OK)
        printf("%s tensors, %s values, %s\n", dt_words_count(dt_st_count(st)).text, dt_words_count(values).text,
               dt_words_bytes((double)bytes).text);
    dt_st_close(st);
    return status;
}

/* ---- a backbone ---- */

typedef struct summary {
    int64_t tensors, values, bytes, missing, unused;
} summary;

/* The weights of the family's graph, as the files have them: a tensor of its own each, or part of one. */
static dt_status add_weights(dt_tree *tree, const dt_backbone *bb, const dt_graph *g, summary *sum)
{
    for (dt_val v = 0; v < g->values; v++) {
        const dt_value *val = &g->value[v];
        if (val->kind != DT_KIND_WEIGHT) continue;
        bool fits = true;
        const dt_st_tensor *t = bb->weights != NULL ? dt_weights_find(bb, val, &fits) : NULL;
        dt_leaf leaf = {.name = val->name, .type = "", .ndim = val->ndim, .selected = -1};
        memcpy(leaf.dim, val->dim, (size_t)val->ndim * sizeof *leaf.dim);
        if (t != NULL && !fits) leaf = leaf_of(t);
        if (t != NULL) {
            leaf.type = dt_st_type_name(t->type);
            leaf.bytes = dt_value_count(g, v) * (int64_t)dt_st_type_size(t->type);
        }
        if (bb->weights != NULL && (t == NULL || !fits)) {
            leaf.mark = DT_MARK_WRONG;
            leaf.note = t == NULL ? "missing" : "another shape than config.json says";
            sum->missing++;
        }
        sum->tensors++;
        sum->values += dt_value_count(g, v);
        sum->bytes += leaf.bytes;
        DT_TRY(dt_tree_add(tree, &leaf));
    }
    return DT_OK;
}

static bool is_used(const dt_backbone *bb, const dt_graph *g, const dt_st_tensor *t)
{
    for (dt_val v = 0; v < g->values; v++)
        if (g->value[v].kind == DT_KIND_WEIGHT && dt_weights_find(bb, &g->value[v], NULL) == t) return true;
    return false;
}

static dt_status add_unused(dt_tree *tree, const dt_backbone *bb, const dt_graph *g, summary *sum)
{
    for (int64_t i = 0; bb->weights != NULL && i < dt_st_count(bb->weights); i++) {
        if (is_used(bb, g, dt_st_at(bb->weights, i))) continue;
        dt_leaf leaf = leaf_of(dt_st_at(bb->weights, i));
        leaf.note = "not used";
        sum->unused++;
        DT_TRY(dt_tree_add(tree, &leaf));
    }
    return DT_OK;
}

/* The backbone's own graph, for its names in their order. */
static dt_status build_graph(const Dtrain__Config *config, dt_backbone *bb, dt_graph **g)
{
    const int64_t seq = 8;
    dt_job job = {.config = config, .backbone = bb, .seq = seq};
    dt_program_io io;
    DT_TRY(dt_mesh_make(0, 1, 1, 1, &job.mesh));
    return dt_job_build(&job, &job.mesh, DT_FOR_EVAL, 1, seq, false, g, &io);
}

static dt_status add_backbone(dt_tree *tree, const Dtrain__Config *config, dt_backbone *bb, summary *sum)
{
    dt_graph *g = NULL;
    DT_TRY(build_graph(config, bb, &g));
    dt_status st = add_weights(tree, bb, g, sum);
    if (st == DT_OK) st = add_unused(tree, bb, g, sum);
    dt_graph_destroy(g);
    return st;
}

static void print_backbone(const char *path, const dt_backbone *bb)
{
    const dt_model_info *m = &bb->info;
    printf(
        "%s: %s, %lld layers, width %lld, %lld heads (%lld of keys and values) of %lld, feed-forward %lld, vocabulary "
        "%lld, %lld positions\n",
        path, bb->type, (long long)m->layers, (long long)m->width, (long long)m->heads, (long long)m->kv_heads,
        (long long)m->head_dim, (long long)m->ffn, (long long)m->vocab, (long long)m->max_positions);
}

static bool has_weights(const char *path)
{
    int64_t bytes;
    return count_files(path, "", ".safetensors", &bytes) > 0;
}

static dt_status inspect_backbone(const char *path, dt_tree *tree)
{
    Dtrain__Config *config = NULL;
    dt_backbone *bb = NULL;
    summary sum = {0};
    dt_status st;
    bool weights = has_weights(path);
    DT_TRY(dt_config_parse("defaults", "", 0, NULL, 0, &config));
    st = dt_backbone_open(path, false, 0, weights, &bb);
    if (st == DT_ERR_MODEL && weights) { /* of a family that is not known here: its tensors all the same */
        printf("%s\n", dt_error_text());
        st = inspect_tensors(path, tree);
        goto done;
    }
    if (st != DT_OK) goto done;
    DT_GOTO(add_backbone(tree, config, bb, &sum), done);
    print_backbone(path, bb);
    DT_GOTO(dt_tree_print(tree, in_colour()), done);
    printf("%s tensors, %s values", dt_words_count(sum.tensors).text, dt_words_count(sum.values).text);
    if (weights) printf(", %s; fingerprint %s", dt_words_bytes((double)sum.bytes).text, bb->fingerprint);
    else printf("; no weights here: the shapes are those that config.json asks for");
    if (sum.missing != 0) printf("; %lld missing or misshapen", (long long)sum.missing);
    if (sum.unused != 0) printf("; %lld not used", (long long)sum.unused);
    putchar('\n');
done:
    dt_backbone_close(bb);
    dt_config_free(config);
    return st;
}

/* ---- a checkpoint ---- */

/* Does the tensor's name begin with the delta's? */
static bool bears_name(const Dtrain__Delta *delta, const char *tensor)
{
    size_t prefix = strlen(delta->name);
    return strncmp(tensor, delta->name, prefix) == 0 && tensor[prefix] == '.';
}

/* Which delta a tensor belongs to. Values of the backbone that are trained where they are keep their names: they belong
 * to a delta that no tensor is called after. *rest: the name in the backbone. */
static const Dtrain__Delta *owner_of(const Dtrain__Config *config, const dt_ckpt *ck, const char *name,
                                     const char **rest)
{
    for (size_t d = 0; d < config->n_delta; d++) {
        if (!bears_name(config->delta[d], name)) continue;
        *rest = name + strlen(config->delta[d]->name) + 1;
        return config->delta[d];
    }
    *rest = name;
    for (size_t d = 0; d < config->n_delta; d++) {
        bool any = false;
        dt_ckpt_tensor t;
        for (int64_t i = 0; !any && i < dt_ckpt_count(ck, DT_CKPT_DELTA); i++)
            any = dt_ckpt_describe(ck, DT_CKPT_DELTA, i, &t) == DT_OK && bears_name(config->delta[d], t.name);
        if (!any) return config->delta[d];
    }
    return NULL;
}

static const char *method_of(const Dtrain__Delta *delta)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&dtrain__delta__descriptor, (unsigned)delta->method_case);
    return field != NULL ? field->name : "?";
}

static dt_status add_trained(dt_tree *tree, const Dtrain__Config *config, const dt_ckpt *ck, int64_t *trained)
{
    for (int64_t i = 0; i < dt_ckpt_count(ck, DT_CKPT_DELTA); i++) {
        dt_ckpt_tensor t;
        const char *rest = NULL;
        char note[256] = "trained";
        bool found = false;
        DT_TRY(dt_ckpt_describe(ck, DT_CKPT_DELTA, i, &t));
        const Dtrain__Delta *delta = owner_of(config, ck, t.name, &rest);
        if (delta != NULL) snprintf(note, sizeof note, "%s (%s)", delta->name, method_of(delta));
        dt_leaf leaf = {
            .name = rest, .type = "F32", .ndim = t.ndim, .mark = DT_MARK_TRAINABLE, .note = note, .selected = t.count};
        int64_t values = 1;
        for (int d = 0; d < t.ndim; d++) values *= leaf.dim[d] = t.dim[d];
        leaf.bytes = values * (int64_t)sizeof(float);
        *trained += t.count >= 0 ? t.count : values;
        DT_TRY(dt_tree_mark(tree, rest, DT_MARK_TRAINABLE, note, t.count, &found));
        if (found) continue;
        if (t.count >= 0) leaf.bytes = 0; /* of the backbone's tensor only some values are here */
        DT_TRY(dt_tree_add(tree, &leaf));
    }
    return DT_OK;
}

static void print_checkpoint(const dt_ckpt *ck, int64_t trained, const summary *sum)
{
    const dt_ckpt_meta *meta = dt_ckpt_get_meta(ck);
    int64_t delta = 0, optimizer = 0;
    count_files(dt_ckpt_path(ck), "delta-", ".safetensors", &delta);
    count_files(dt_ckpt_path(ck), "optimizer-", ".safetensors", &optimizer);
    printf("%s trainable values", dt_words_count(trained).text);
    if (sum->values != 0)
        printf(", %.3g%% of the backbone's %s", 100.0 * (double)trained / (double)sum->values,
               dt_words_count(sum->values).text);
    printf("; on disk %s, and the optimizer's state %s\n", dt_words_bytes((double)delta).text,
           dt_words_bytes((double)optimizer).text);
    printf("after step %lld (%s sequences) on data %d x tensor %d ranks, seed %llu\n", (long long)meta->step,
           dt_words_count(meta->sequences).text, meta->data_ranks, meta->tensor_ranks, (unsigned long long)meta->seed);
}

static dt_status inspect_checkpoint(const char *path, dt_tree *tree)
{
    Dtrain__Config *config = NULL;
    dt_backbone *bb = NULL;
    dt_ckpt *ck = NULL;
    summary sum = {0};
    int64_t trained = 0;
    dt_status st;
    DT_TRY(dt_ckpt_open(path, &ck));
    const char *text = dt_ckpt_get_meta(ck)->config_text;
    DT_GOTO(dt_config_parse("its configuration", text, strlen(text), NULL, 0, &config), done);
    const char *backbone = config->backbone->path;
    /* The backbone's path may mean nothing from here: then the delta is shown by itself. */
    bool there = backbone != NULL && has_file(backbone, "config.json");
    bool weights = there && !config->backbone->random_init && has_weights(backbone);
    if (there) DT_GOTO(dt_backbone_open(backbone, !weights, 0, weights, &bb), done);
    if (there) DT_GOTO(add_backbone(tree, config, bb, &sum), done);
    DT_GOTO(add_trained(tree, config, ck, &trained), done);
    printf("%s: trained beside %s\n", dt_ckpt_path(ck), backbone != NULL ? backbone : "?");
    if (there) print_backbone(backbone, bb);
    else printf("that backbone cannot be found from here: the delta alone\n");
    DT_GOTO(dt_tree_print(tree, in_colour()), done);
    print_checkpoint(ck, trained, &sum);
done:
    dt_backbone_close(bb);
    dt_config_free(config);
    dt_ckpt_close(ck);
    return st;
}

static dt_status inspect(const char *path)
{
    dt_tree *tree = NULL;
    dt_status st;
    DT_TRY(dt_tree_create(&tree));
    if (has_file(path, "manifest.json") || has_file(path, "ckpt")) st = inspect_checkpoint(path, tree);
    else if (has_file(path, "config.json")) st = inspect_backbone(path, tree);
    else if (dt_path_is_dir(path) ? has_weights(path) : dt_path_exists(path)) st = inspect_tensors(path, tree);
    else
        st = dt_fail(DT_ERR_CONFIG,
                     "%s: nothing to inspect; expected a backbone's folder (with config.json), a run or checkpoint "
                     "folder, or a .safetensors file",
                     path);
    dt_tree_destroy(tree);
    return st;
}

static dt_status run(const dt_args *args)
{
    return dt_world_agree(dt_world_rank() == 0 ? inspect(args->positional) : DT_OK);
}

const dt_command dt_command_inspect = {
    .name = "inspect",
    .arguments = "PATH",
    .summary = "a backbone, a checkpoint or a file of tensors as a tree",
    .text = "PATH is a backbone's folder, a run folder (its newest checkpoint), a checkpoint folder, or a\n"
            ".safetensors file. Prints its tensors as a tree of their names in which layers that are alike are one;\n"
            "of a checkpoint, the backbone with what is trained marked by its delta (green on a terminal).",
    .examples = "dtrain inspect models/llama\n"
                "dtrain inspect runs/first\n"
                "dtrain inspect runs/first/ckpt/step-000100/delta-00000-of-00002.safetensors",
    .options = (const dt_option[]){{0}},
    .run = run,
};
