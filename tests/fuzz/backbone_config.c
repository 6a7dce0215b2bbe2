/* The config.json of a backbone: keys of every family, and the graph that is built of what they say. */
#include "driver/fuzz.h"
#include "graph/passes.h" // dt_pass_shard
#include "model/model.h"  // dt_backbone

/* The graph of a loss over a few tokens, for one rank. */
static dt_status build(dt_graph *g, const dt_backbone *bb)
{
    const int64_t n = 4;
    const dt_split by_data = {0, DT_AXES_DATA};
    dt_val nll, head = DT_NONE;
    DT_TRY(dt_mesh_make(0, 1, 1, (int)bb->info.kv_heads, &g->mesh));
    g->tokens = n;
    const dt_batch batch = {.tokens = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &n, by_data),
                            .pos = dt_graph_input(g, "pos", DT_TYPE_I32, 1, &n, by_data),
                            .seq = n,
                            .start = DT_NONE};
    dt_val targets = dt_graph_input(g, "targets", DT_TYPE_I32, 1, &n, by_data);
    dt_val hidden = bb->family->build(g, bb->own, &bb->info, &batch, &head);
    dt_val loss = dt_head_next_token(g, hidden, head, targets, &nll);
    DT_TRY(dt_graph_status(g));
    dt_graph_mark_output(g, loss);
    return dt_pass_shard(g, &g->mesh);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dt_backbone *bb;
    dt_graph *g;
    fuzz_put("config.json", data, size);
    if (!fuzz_took(dt_backbone_open(fuzz_folder(), true, 1, false, &bb))) return 0;
    if (bb->info.layers <= 4) {
        FUZZ_CHECK(dt_graph_create(&g) == DT_OK);
        fuzz_took(build(g, bb));
        dt_graph_destroy(g);
    }
    dt_backbone_close(bb);
    return 0;
}
