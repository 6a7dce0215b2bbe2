/* rank_fetch PATH TENSOR PIECE_BYTES node|job [FILE]: the weights that one rank reads for all are, bit by bit, those
 * that each rank reads itself. FILE is cut to half its length when it has been opened. */
#include "base/log.h"
#include "graph/passes.h"
#include "model/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h> // truncate

static dt_backbone *own, *handed;
static dt_graph *g;

/* The bare backbone's graph, as this rank holds it. */
static dt_status build(int tensor)
{
    const int64_t n = 4;
    dt_mesh mesh;
    DT_TRY(dt_mesh_make(dt_world_rank(), dt_world_size(), tensor, (int)own->info.kv_heads, &mesh));
    DT_TRY(dt_graph_create(&g));
    g->tokens = n;
    const dt_batch batch = {.tokens = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &n, DT_NO_SPLIT),
                            .pos = dt_graph_input(g, "pos", DT_TYPE_I32, 1, &n, DT_NO_SPLIT),
                            .seq = n,
                            .start = DT_NONE};
    dt_val targets = dt_graph_input(g, "targets", DT_TYPE_I32, 1, &n, DT_NO_SPLIT), head = DT_NONE, nll;
    dt_val hidden = own->family->build(g, own->own, &own->info, &batch, &head);
    dt_head_next_token(g, hidden, head, targets, &nll);
    dt_graph_mark_output(g, nll);
    return dt_pass_shard(g, &mesh);
}

/* Values of which the two differ; *compared: how many were compared, of how many bits in all. */
static dt_status compare(int64_t *weights, int64_t *values, int64_t *differ)
{
    dt_device device;
    dt_store *store = NULL;
    DT_TRY(dt_device_cpu(1, &device));
    DT_TRY(dt_store_create(&device, &store));
    dt_status st = dt_weights_load(handed, g, &device, store);
    for (dt_val v = 0; v < g->values && st == DT_OK; v++) {
        if (g->value[v].kind != DT_KIND_WEIGHT) continue;
        const int64_t n = dt_value_local_count(g, v);
        float *expected = calloc((size_t)n + 1, sizeof(float)), *got = calloc((size_t)n + 1, sizeof(float));
        st = dt_weights_read(own, g, v, expected);
        if (st == DT_OK) st = dt_weights_read(handed, g, v, got);
        const float *stored = dt_store_find(store, g->value[v].name)->data;
        for (int64_t i = 0; i < n; i++)
            *differ += memcmp(&expected[i], &got[i], sizeof(float)) != 0 || memcmp(&got[i], &stored[i], 4) != 0;
        *values += n;
        ++*weights;
        free(expected);
        free(got);
    }
    if (st == DT_OK && dt_store_owned_bytes(store) != 0) st = dt_fail(DT_ERR_INTERNAL, "weights are held twice");
    dt_store_destroy(store);
    dt_device_destroy(&device);
    return st;
}

static dt_status run(char **argv, int64_t *sums)
{
    const char *path = argv[1];
    const bool of_node = strcmp(argv[4], "node") == 0;
    const int reads = (of_node ? dt_world_node_rank() : dt_world_rank()) == 0;
    dt_team *team = NULL;
    dt_status st = dt_backbone_open(path, false, 0, true, &own);
    if (st == DT_OK) st = dt_backbone_open(path, false, 0, reads, &handed);
    if (st == DT_OK) st = build(atoi(argv[2]));
    DT_TRY(dt_world_agree(st));
    DT_TRY(dt_world_agree(dt_team_open(of_node, &team)));
    struct stat file;
    if (argv[5] != NULL && reads && (stat(argv[5], &file) != 0 || truncate(argv[5], file.st_size / 2) != 0))
        return dt_fail(DT_ERR_INTERNAL, "%s cannot be cut", argv[5]);
    st = dt_weights_fetch(handed, g, team, atoi(argv[3]));
    if (st == DT_OK) st = dt_world_agree(compare(&sums[0], &sums[1], &sums[2]));
    if (st == DT_OK) sums[2] += strcmp(own->fingerprint, handed->fingerprint) != 0;
    if (st == DT_OK) st = dt_world_all_reduce(sums, 3, DT_COMM_I64, DT_COMM_SUM);
    dt_team_close(team);
    return st;
}

int main(int argc, char **argv)
{
    int64_t sums[3] = {0, 0, 0};
    if (argc < 5 || dt_world_init(&argc, &argv) != DT_OK) return 2;
    dt_status st = run(argv, sums);
    if (st != DT_OK && dt_world_rank() == 0) dt_log(DT_LOG_ERROR, "%s", dt_error_text());
    if (st == DT_OK && dt_world_rank() == 0)
        printf("%lld weights, %lld values, %lld differ\n", (long long)sums[0], (long long)sums[1], (long long)sums[2]);
    dt_graph_destroy(g);
    dt_backbone_close(own);
    dt_backbone_close(handed);
    dt_world_finalize();
    return dt_status_exit_code(st);
}
