/* A graph as text, for people and for tests. */
#define _GNU_SOURCE
#include "graph/graph.h"
#include "graph/op.h"
#include <stdio.h>
#include <stdlib.h>

static void put_place(FILE *f, const dt_graph *g, const dt_value *v)
{
    static const char axis_letter[] = {'d', 't', 'r'};
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        if (g->mesh.size[a] <= 1) continue;
        switch (v->place[a].kind) {
        case DT_SPLIT: fprintf(f, " %c:split%d", axis_letter[a], v->place[a].dim); break;
        case DT_PARTIAL: fprintf(f, " %c:sum", axis_letter[a]); break;
        case DT_PARTIAL_LSE: fprintf(f, " %c:lse", axis_letter[a]); break;
        default: break;
        }
    }
}

static void put_value(FILE *f, const dt_graph *g, dt_val v)
{
    static const char *const type_name[] = {"act", "acc", "i32"};
    const dt_value *val = &g->value[v];
    fprintf(f, "%s:%s[", val->name, type_name[val->type]);
    for (int i = 0; i < val->ndim; i++) fprintf(f, "%s%lld", i != 0 ? "," : "", (long long)val->dim[i]);
    fputc(']', f);
    put_place(f, g, val);
}

/* The sites whose output a node makes. */
static void put_sites(FILE *f, const dt_graph *g, const dt_node *n)
{
    for (int k = 0; k < n->nout; k++)
        for (int64_t s = 0; s < g->sites && n->out[k] != DT_NONE; s++)
            if (g->site[s].y == n->out[k]) fprintf(f, " @%s", g->site[s].role);
}

dt_status dt_graph_dump(const dt_graph *g, char **text)
{
    static const char *const kind_name[] = {"temp", "input", "const", "weight", "param", "state"};
    static const char *const program_name[] = {"prologue", "micro", NULL, "epilogue", "sync", "save"};
    size_t bytes = 0;
    FILE *f = open_memstream(text, &bytes);
    if (f == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    for (int64_t v = 0; v < g->values; v++) {
        if (g->value[v].kind == DT_KIND_TEMP) continue;
        fprintf(f, "%s ", kind_name[g->value[v].kind]);
        put_value(f, g, (dt_val)v);
        fputc('\n', f);
    }
    for (int64_t s = 0; s < g->sites; s++)
        fprintf(f, "site %s %s y=%s\n", g->site[s].path, g->site[s].role,
                g->site[s].y != DT_NONE ? g->value[g->site[s].y].name : "-");
    for (int p = 0; p < DT_PROGRAM_COUNT; p++) {
        if (program_name[p] == NULL) continue; /* the last micro-batch's stand among all micro-batches' */
        fprintf(f, "%s:\n", program_name[p]);
        DT_FOR_NODES (g, i) {
            const dt_node *n = &g->node[i];
            if (n->program != (dt_program)p && !(p == DT_MICRO && n->program == DT_LAST)) continue;
            fputs("  ", f);
            for (int k = 0; k < n->nout; k++) {
                if (k != 0) fputs(", ", f);
                if (n->out[k] == DT_NONE) fputc('-', f);
                else put_value(f, g, n->out[k]);
            }
            fprintf(f, " = %s(", n->op->name);
            for (int k = 0; k < n->nin; k++)
                fprintf(f, "%s%s", k != 0 ? ", " : "", n->in[k] != DT_NONE ? g->value[n->in[k]].name : "-");
            fprintf(f, ")%s", n->backward ? " <-" : n->program == DT_LAST ? " last" : "");
            put_sites(f, g, n);
            fputc('\n', f);
        }
    }
    if (fclose(f) != 0) return dt_fail(DT_ERR_MEMORY, "out of memory");
    return DT_OK;
}
