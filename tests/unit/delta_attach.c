/* Which sites a delta selects, what it says where it selects none, and how deltas stack. */
#include "op/add.h"
#include "op/dropout.h"
#include "op/matmul.h"
#include "unit/tiny.h"
#include <math.h>
#include <stdlib.h>

static tiny t;

/* The paths that the first delta of a configuration selects, a blank behind each. */
static dt_status select_sites(const char *config, char *text, size_t bytes)
{
    tiny_open(&t, (tiny_model){.layers = 12}, config);
    dt_deltas all = t.job.deltas;
    t.job.deltas.n = 0;
    tiny_build(&t, DT_FOR_EVAL);
    t.job.deltas = all;
    cr_assert_eq(t.g->sites, 3 + 12 * 9);
    bool *selected = calloc((size_t)t.g->sites, sizeof *selected);
    dt_status st = dt_delta_select_sites(&all.delta[0], t.g, selected);
    *text = '\0';
    for (int64_t i = 0; st == DT_OK && i < t.g->sites; i++)
        if (selected[i]) snprintf(text + strlen(text), bytes - strlen(text), "%s ", t.g->site[i].path);
    free(selected);
    tiny_close(&t);
    return st;
}

static void check_sites(const char *options, const char *expected)
{
    char config[512], text[4096];
    snprintf(config, sizeof config, "delta { %s }", options);
    OK(select_sites(config, text, sizeof text));
    cr_assert_str_eq(text, expected, "%s selects %s", options, text);
}

static void check_count(const char *options, int expected)
{
    char config[512], text[8192];
    int n = 0;
    snprintf(config, sizeof config, "delta { %s }", options);
    OK(select_sites(config, text, sizeof text));
    for (const char *c = text; *c != '\0'; c++) n += *c == ' ';
    cr_assert_eq(n, expected, "%s selects %d: %s", options, n, text);
}

static void check_error(const char *options, const char *expected)
{
    char config[512], text[4096];
    snprintf(config, sizeof config, "delta { name: \"d\" %s }", options);
    cr_assert_eq(select_sites(config, text, sizeof text), DT_ERR_CONFIG, "%s selects %s", options, text);
    cr_assert(strstr(dt_error_text(), expected) != NULL, "%s", dt_error_text());
}

Test(delta_attach, targets_are_names_suffixes_roles_or_expressions)
{
    check_sites("lora {} target: \"model.layers.3.self_attn.q_proj\"", "model.layers.3.self_attn.q_proj ");
    check_sites("lora {} target: \"layers.1.mlp.up_proj\"", "model.layers.1.mlp.up_proj ");
    check_sites("lora {} target: \"block.11.ffn.down\"", "model.layers.11.mlp.down_proj ");
    check_sites("lora {} target: \"1.mlp.up_proj\"", "model.layers.1.mlp.up_proj "); /* not of layer 11 */
    check_count("lora {} target: \"attn.v\"", 12);
    check_count("lora {} target: \"v_proj\"", 12);
    check_sites("lora {} target: \"re:block\\\\.[02]\\\\.attn\\\\.k\"",
                "model.layers.0.self_attn.k_proj model.layers.2.self_attn.k_proj ");
    check_sites("full {} target: \"head\"", "lm_head ");
    check_sites("full {} target: \"embed\" target: \"final_norm\"", "model.embed_tokens model.norm ");
    check_count("full {} target: \"norm1\" target: \"re:.*norm2\"", 24);
}

Test(delta_attach, what_is_selected_twice_is_selected_once)
{
    check_count("lora {} target: \"q_proj\" target: \"attn.q\" target: \"re:.*q_proj\"", 12);
}

Test(delta_attach, methods_have_targets_of_their_own)
{
    check_count("lora {}", 24); /* q and v */
    check_count("full {}", 3 + 12 * 9);
    check_count("fish {}", 3 + 12 * 9);
}

/* An expression takes of what it matches only what the method can act on: linears, not their norms. */
Test(delta_attach, expressions_select_what_the_method_can_act_on)
{
    check_count("lora {} target: \"re:.*\"", 12 * 7);
    check_count("lora {} target: \"re:model\\\\.layers\\\\.4\\\\..*\"", 7);
}

Test(delta_attach, exclude_takes_away)
{
    check_count("lora {} target: \"re:.*_proj\" exclude: \"mlp.down_proj\" exclude: \"attn.o\"", 12 * 5);
    check_sites("lora {} target: \"q_proj\" exclude: \"re:.*[.](?!7[.])[0-9]+[.].*\"",
                "model.layers.7.self_attn.q_proj ");
    check_count("full {} exclude: \"re:.*norm.*\"", 2 + 12 * 7);
}

Test(delta_attach, a_target_that_selects_nothing_names_the_nearest)
{
    check_error("lora {} target: \"q_prog\"", "delta d: target \"q_prog\" selects no site; nearest: q_proj");
    check_error("lora {} target: \"self_atn.q_proj\"", "nearest: self_attn.q_proj");
    check_error("lora {} target: \"attn.w\"", "nearest: attn.");
    check_error("lora {} target: \"model.layers.12.mlp.up_proj\"", "nearest: model.layers.1");
    check_error("lora {} target: \"proj\"", "selects no site");      /* no suffix on a boundary */
    check_error("lora {} target: \"re:q_proj\"", "selects no site"); /* an expression matches whole names */
    check_error("lora {} target: \"zzzzzzzzzzzzzzzzz\"", "selects no site; sites are such as model.layers.0.");
    check_error("lora {} target: \"q_proj\" target: \"nothing.here\"", "\"nothing.here\" selects no site");
    check_error("lora {} target: \"q_proj\" exclude: \"re:.*\"", "exclude takes away every site");
    check_error("lora {} target: \"re:.*norm.*\"", "selects no site");
}

Test(delta_attach, a_site_that_the_method_cannot_act_on_is_an_error)
{
    check_error("lora {} target: \"lm_head\"", "delta d: lora cannot act on lm_head, which is no linear layer");
    check_error("lora {} target: \"model.norm\"", "lora cannot act on model.norm");
}

/* ---- Nodes ---- */

static const dt_node *node_of(dt_val v)
{
    cr_assert_neq(t.g->value[v].producer, DT_NONE);
    return &t.g->node[t.g->value[v].producer];
}

static void open_tiny(const char *config, dt_purpose purpose)
{
    tiny_open(&t, (tiny_model){0}, config);
    tiny_build(&t, purpose);
}

static dt_val o_input(void)
{
    for (int64_t i = 0; i < t.g->sites; i++)
        if (strcmp(t.g->site[i].role, "block.0.attn.o") == 0) return t.g->site[i].x;
    return DT_NONE;
}

static dt_val delta_of(dt_val v, const char *delta, double alpha)
{
    const dt_node *n = node_of(v);
    char name[128];
    cr_assert_eq(n->op, &dt_op_add);
    const dt_node *up = node_of(n->in[1]);
    cr_assert_eq(up->op, &dt_op_matmul);
    cr_assert_float_eq(DT_ATTR(dt_matmul_attr, up)->alpha, alpha, 1e-12);
    snprintf(name, sizeof name, "%s.model.layers.0.self_attn.o_proj.lora_B.weight", delta);
    cr_assert_eq(up->in[1], value_named(t.g, name));
    snprintf(name, sizeof name, "%s.model.layers.0.self_attn.o_proj.lora_A.weight", delta);
    const dt_node *parts = node_of(up->in[0]); /* both deltas read the site's input: merged */
    cr_assert_eq(parts->op, &dt_op_parts);
    const dt_node *down = node_of(parts->in[0]), *stack = node_of(down->in[1]);
    cr_assert_eq(down->in[0], o_input(), "each delta reads the site's input");
    cr_assert_eq(stack->op, &dt_op_concat);
    for (int i = 0; i < parts->nout; i++)
        if (parts->out[i] == up->in[0]) cr_assert_eq(stack->in[i], value_named(t.g, name));
    return n->in[0];
}

/* y = ((x W^T + a) + b): each reads the site's input, the next block reads the sum. */
Test(delta_attach, two_deltas_stack_on_one_site)
{
    open_tiny("delta { name: \"a\" lora { rank: 4 alpha: 8 } target: \"attn.o\" } "
              "delta { name: \"b\" lora { rank: 9 alpha: 6 rs: true } target: \"block.0.attn.o\" }",
              DT_FOR_EVAL);
    const dt_site *o = NULL, *norm = NULL;
    for (int64_t i = 0; i < t.g->sites; i++) {
        if (strcmp(t.g->site[i].role, "block.0.attn.o") == 0) o = &t.g->site[i];
        if (strcmp(t.g->site[i].role, "block.0.norm2") == 0) norm = &t.g->site[i];
    }
    dt_val inner = delta_of(o->y, "b", 2), base = delta_of(inner, "a", 2);
    cr_assert_eq(node_of(base)->op, &dt_op_matmul);
    cr_assert_eq(node_of(base)->in[1], o->w);
    cr_assert_eq(node_of(base)->in[0], o->x);
    cr_assert_eq(node_of(norm->x)->in[1], o->y, "the residual sum reads the last sum");
    cr_assert_eq(dt_graph_use_count(t.g, base), 1);
    cr_assert_eq(dt_graph_use_count(t.g, inner), 1);
    tiny_close(&t);
}

Test(delta_attach, two_deltas_of_one_name_and_site_clash)
{
    tiny_open(&t, (tiny_model){0}, "delta { name: \"a\" lora {} } delta { name: \"b\" lora { dropout: 0.5 } }");
    t.job.deltas.delta[1].name = "a";
    cr_assert_eq(dt_job_build(&t.job, &t.job.mesh, DT_FOR_TRAINING, 1, TINY_SEQ, false, &t.g, &t.io), DT_ERR_CONFIG);
    cr_assert(strstr(dt_error_text(), "a.model.layers.0.self_attn.q_proj.lora_A.weight stands for two values") != NULL,
              "%s", dt_error_text());
    tiny_close(&t);
}

Test(delta_attach, dropout_is_for_training)
{
    for (int purpose = DT_FOR_TRAINING; purpose <= DT_FOR_EVAL; purpose++) {
        open_tiny("delta { lora { dropout: 0.5 } target: \"attn.q\" target: \"attn.k\" }", (dt_purpose)purpose);
        int n = 0;
        uint64_t site[8];
        DT_FOR_NODES (t.g, i)
            if (t.g->node[i].op == &dt_op_dropout && !t.g->node[i].backward)
                site[n++] = DT_ATTR(dt_dropout_attr, &t.g->node[i])->site;
        cr_assert_eq(n, purpose == DT_FOR_TRAINING ? 4 : 0);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < i; k++) cr_assert_neq(site[i], site[k], "two sites drop the same features");
        tiny_close(&t);
    }
}

/* ---- First values ---- */

Test(delta_attach, factors_start_as_their_paper_says)
{
    open_tiny("delta { lora { rank: 3 } target: \"ffn.down\" }", DT_FOR_EVAL);
    dt_val a = value_named(t.g, "lora.model.layers.1.mlp.down_proj.lora_A.weight");
    dt_val b = value_named(t.g, "lora.model.layers.1.mlp.down_proj.lora_B.weight");
    float x[3 * TINY_FFN], y[3 * TINY_FFN], zero[TINY_WIDTH * 3];
    dt_param_init(t.g, a, 5, x);
    dt_param_init(t.g, b, 5, zero);
    double sum = 0, squares = 0, bound = 1 / sqrt(TINY_FFN);
    for (int i = 0; i < 3 * TINY_FFN; i++) {
        cr_assert_leq(fabs((double)x[i]), bound);
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    cr_assert_lt(fabs(sum / (3 * TINY_FFN)), 0.2 * bound);
    cr_assert(fabs(squares / (3 * TINY_FFN) / (bound * bound / 3) - 1) < 0.2, "the variance of U(-bound, bound)");
    for (int i = 0; i < TINY_WIDTH * 3; i++) cr_assert_eq(zero[i], 0.0f);
    dt_param_init(t.g, a, 6, y);
    cr_assert_neq(memcmp(x, y, sizeof x), 0, "another seed");
    dt_param_init(t.g, value_named(t.g, "lora.model.layers.0.mlp.down_proj.lora_A.weight"), 5, y);
    cr_assert_neq(memcmp(x, y, sizeof x), 0, "another name");
    tiny_close(&t);
}

/* Every rank draws its slice of the same matrix. */
Test(delta_attach, first_values_do_not_depend_on_the_layout)
{
    float whole[3 * TINY_FFN], part[3 * TINY_FFN];
    const char *name = "lora.model.layers.1.mlp.down_proj.lora_A.weight";
    tiny_open(&t, (tiny_model){0}, "delta { lora { rank: 3 } target: \"ffn.down\" } parallel { tensor: 4 }");
    tiny_build(&t, DT_FOR_EVAL);
    dt_param_init(t.g, value_named(t.g, name), 5, whole);
    for (int rank = 0; rank < 8; rank++) {
        tiny_place(&t, rank, 8);
        tiny_build(&t, DT_FOR_EVAL);
        const dt_value *v = &t.g->value[value_named(t.g, name)];
        cr_assert_eq(v->local[1], TINY_FFN / 4);
        dt_param_init(t.g, value_named(t.g, name), 5, part);
        for (int64_t r = 0; r < 3; r++)
            for (int64_t c = 0; c < v->local[1]; c++)
                cr_assert_eq(part[r * v->local[1] + c], whole[r * TINY_FFN + v->off[1] + c]);
    }
    tiny_close(&t);
}
