/* Placement of every value on the mesh, and the collectives that follow from it. */
#include "graph/emit.h" // dt_all_reduce
#include "graph/passes.h"
#include <stdlib.h>
#include <string.h>

typedef struct dt_places {
    dt_place axis[DT_AXIS_COUNT];
} dt_places;

/* One value in another placement, kept for later readers. */
typedef struct conversion {
    dt_val from, to;
    dt_places places;
} conversion;

typedef struct shard_pass {
    dt_graph *g;
    const dt_mesh *mesh;
    dt_val *now; /* value -> what its readers read from here on: itself, or its reduced form */
    int64_t now_cap;
    conversion *made;
    int64_t n_made, made_cap;
} shard_pass;

static dt_places places_of(const dt_graph *g, dt_val v)
{
    dt_places p;
    memcpy(p.axis, g->value[v].place, sizeof p.axis);
    return p;
}

static bool places_equal(dt_places a, dt_places b)
{
    for (int i = 0; i < DT_AXIS_COUNT; i++)
        if (!dt_place_equal(a.axis[i], b.axis[i])) return false;
    return true;
}

/* Local shape and offset of a value from its placement: dimensions are split over the axes in the axes' order. */
static void set_local(shard_pass *p, dt_val id)
{
    dt_value *v = &p->g->value[id];
    for (int d = 0; d < v->ndim; d++) {
        if (v->ragged && d == 0) continue;
        int64_t parts = 1, index = 0;
        for (int a = 0; a < DT_AXIS_COUNT; a++) {
            if (v->place[a].kind != DT_SPLIT || v->place[a].dim != d) continue;
            parts *= p->mesh->size[a];
            index = index * p->mesh->size[a] + p->mesh->coord[a];
        }
        if (v->dim[d] % parts != 0) {
            dt_graph_fail(p->g, DT_ERR_CONFIG, "%s: dimension %d is %lld, which does not divide over %lld ranks",
                          v->name, d, (long long)v->dim[d], (long long)parts);
            return;
        }
        v->local[d] = v->dim[d] / parts;
        v->off[d] = index * v->local[d];
    }
}

static void set_places(shard_pass *p, dt_val id, dt_places places)
{
    memcpy(p->g->value[id].place, places.axis, sizeof places.axis);
    set_local(p, id);
}

/* Persistent values: as their split asks (left out where it does not divide), or as the values they are tied to. */
static void place_persistent(shard_pass *p, dt_val id)
{
    dt_graph *g = p->g;
    dt_value *v = &g->value[id];
    int64_t parts = v->split.dim >= 0 ? dt_mesh_group_size(p->mesh, v->split.axes) : 1;
    bool divides = v->split.dim < 0 || v->dim[v->split.dim] % parts == 0;
    dt_places places;
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        places.axis[a] = DT_PLACE_R;
        if (v->split.dim >= 0 && (v->split.axes >> a & 1) && divides) places.axis[a] = DT_PLACE_S(v->split.dim);
        for (int d = 0; d < v->ndim; d++) {
            if (v->tie[d].like == DT_NONE) continue;
            dt_place like = g->value[v->tie[d].like].place[a];
            if (like.kind == DT_SPLIT && (v->ragged || like.dim == v->tie[d].dim)) places.axis[a] = DT_PLACE_S(d);
        }
        /* An accumulator may hold partial sums: its first writer decides, where the parameter is replicated. */
        bool accumulates = v->kind == DT_KIND_STATE && v->type == DT_TYPE_ACC && v->tie[0].like != DT_NONE;
        if (accumulates && places.axis[a].kind == DT_REPLICATED) places.axis[a] = (dt_place){DT_PLACE_UNSET, 0};
        if (p->mesh->size[a] == 1) places.axis[a] = DT_PLACE_R;
    }
    set_places(p, id, places);
}

static bool reserve(shard_pass *p)
{
    dt_graph *g = p->g;
    int64_t from = p->now_cap;
    if (g->status != DT_OK) return false;
    dt_status st = dt_grow(&p->now, &p->now_cap, g->values, sizeof *p->now);
    if (st != DT_OK) {
        dt_graph_fail(g, st, "%s", dt_error_text());
        return false;
    }
    for (int64_t i = from; i < p->now_cap; i++) p->now[i] = (dt_val)i;
    return true;
}

/* Gives a freshly emitted value its placement. */
static dt_val placed(shard_pass *p, dt_val v, dt_places places)
{
    if (v == DT_NONE || !reserve(p)) return DT_NONE;
    set_places(p, v, places);
    return v;
}

/* Axes along which partial sums become whole on every rank. */
static dt_axes axes_to_sum(const shard_pass *p, dt_places have, dt_places want)
{
    dt_axes axes = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (p->mesh->size[a] > 1 && have.axis[a].kind == DT_PARTIAL && want.axis[a].kind == DT_REPLICATED)
            axes |= 1u << a;
    return axes;
}

/* Axes along which slices of dimension `dim` are put together: where the split goes, and inside of an axis whose split
 * of the same dimension comes or goes, since the rows would interleave. */
static dt_axes axes_to_gather(const shard_pass *p, dt_places have, dt_places want, int dim)
{
    dt_axes axes = 0;
    bool moves = false;
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        if (p->mesh->size[a] == 1) continue;
        bool has = dt_place_equal(have.axis[a], DT_PLACE_S(dim)), wants = dt_place_equal(want.axis[a], DT_PLACE_S(dim));
        moves |= has != wants;
        if (has && moves) axes |= 1u << a;
    }
    return axes;
}

/* The outermost axes that are still to be split, as many as one collective does: of one kind, along one dimension, with
 * no axis of another kind in between that is to be split along it too. */
static dt_axes axes_to_split(const shard_pass *p, dt_places have, dt_places want, dt_place *from, int *dim)
{
    dt_axes axes = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        dt_place h = have.axis[a], w = want.axis[a];
        if (p->mesh->size[a] == 1 || w.kind != DT_SPLIT || (h.kind != DT_REPLICATED && h.kind != DT_PARTIAL)) continue;
        if (axes == 0) {
            *from = h;
            *dim = w.dim;
        }
        if (w.dim != *dim) continue;
        if (h.kind != from->kind) break;
        axes |= 1u << a;
    }
    return axes;
}

static dt_places changed(dt_places p, dt_axes axes, dt_place to)
{
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (axes >> a & 1) p.axis[a] = to;
    return p;
}

/* Logarithm of the summed exponentials over `axes`, stable: the maximum first. */
static dt_val resolve_lse(shard_pass *p, dt_val v, dt_places have, dt_axes axes)
{
    dt_places whole = changed(have, axes, DT_PLACE_R), partial = changed(have, axes, DT_PLACE_P);
    dt_val m = placed(p, dt_all_reduce(p->g, v, axes, DT_COMM_MAX), whole);
    dt_val e = placed(p, dt_lse_finish(p->g, m, v, 0), partial);
    dt_val s = placed(p, dt_all_reduce(p->g, e, axes, DT_COMM_SUM), whole);
    return placed(p, dt_lse_finish(p->g, m, s, 1), whole);
}

/* Emits what turns `v` into placement `want`, in front of the node at the cursor's successor. */
static dt_val convert(shard_pass *p, dt_val v, dt_places want)
{
    dt_graph *g = p->g;
    for (int64_t i = 0; i < p->n_made; i++)
        if (p->made[i].from == v && places_equal(p->made[i].places, want)) return p->made[i].to;
    dt_val from = v;
    dt_places have = places_of(g, v);
    dt_axes axes = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (have.axis[a].kind == DT_PARTIAL_LSE && want.axis[a].kind != DT_PARTIAL_LSE) axes |= 1u << a;
    if (axes != 0) v = resolve_lse(p, v, have, axes);
    if (v == DT_NONE) return v;
    have = places_of(g, v);

    axes = axes_to_sum(p, have, want);
    if (axes != 0) v = placed(p, dt_all_reduce(g, v, axes, DT_COMM_SUM), have = changed(have, axes, DT_PLACE_R));
    for (int dim = 0; dim < DT_DIMS && v != DT_NONE; dim++) {
        axes = axes_to_gather(p, have, want, dim);
        if (axes != 0) v = placed(p, dt_all_gather(g, v, axes, dim), have = changed(have, axes, DT_PLACE_R));
    }
    dt_place from_kind = DT_PLACE_R;
    int dim = 0;
    while (v != DT_NONE && (axes = axes_to_split(p, have, want, &from_kind, &dim)) != 0) {
        bool sums = from_kind.kind == DT_PARTIAL;
        dt_val part = sums ? dt_reduce_scatter(g, v, axes, dim) : dt_slice(g, v, axes, dim);
        v = placed(p, part, have = changed(have, axes, DT_PLACE_S(dim)));
    }
    if (v == DT_NONE) return v;
    if (!places_equal(have, want))
        return dt_graph_fail(g, DT_ERR_INTERNAL, "%s: no way from its placement to the one that is needed",
                             g->value[from].name);
    if (dt_grow(&p->made, &p->made_cap, p->n_made + 1, sizeof *p->made) != DT_OK)
        return dt_graph_fail(g, DT_ERR_MEMORY, "out of memory");
    p->made[p->n_made++] = (conversion){from, v, want};
    return v;
}

/* A gather over an outer axis of a dimension that stays split over an inner one would interleave its rows: gather over
 * the inner one too. Returns true if it changed `want`. */
static bool close_gathers(shard_pass *p, dt_places have, dt_places *want)
{
    bool changed_any = false;
    for (int outer = 0; outer < DT_AXIS_COUNT; outer++) {
        if (p->mesh->size[outer] == 1 || have.axis[outer].kind != DT_SPLIT) continue;
        if (dt_place_equal(have.axis[outer], want->axis[outer])) continue;
        for (int inner = outer + 1; inner < DT_AXIS_COUNT; inner++) {
            bool same = p->mesh->size[inner] > 1 && dt_place_equal(have.axis[inner], have.axis[outer]);
            if (!same || !dt_place_equal(have.axis[inner], want->axis[inner])) continue;
            want->axis[inner] = DT_PLACE_R;
            changed_any = true;
        }
    }
    return changed_any;
}

/* Asks the op axis by axis what it needs of its inputs, given `have`; out placements go to `out`. */
static void ask_op(shard_pass *p, const dt_node *n, const dt_places *have, dt_places *want, dt_places *out)
{
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        dt_place in[DT_MAX_IN], need[DT_MAX_IN], res[DT_MAX_OUT];
        for (int k = 0; k < DT_MAX_IN; k++) in[k] = need[k] = k < n->nin ? have[k].axis[a] : DT_PLACE_R;
        for (int k = 0; k < DT_MAX_OUT; k++) res[k] = DT_PLACE_R;
        dt_placing placing = {p->g, n, (dt_axis)a, in, need, res};
        if (p->mesh->size[a] > 1) {
            if (n->op->place != NULL) n->op->place(&placing);
            else dt_place_elementwise(&placing);
        }
        for (int k = 0; k < n->nin; k++) want[k].axis[a] = need[k];
        for (int k = 0; k < n->nout; k++) out[k].axis[a] = res[k];
    }
}

static void place_node(shard_pass *p, int32_t id)
{
    dt_graph *g = p->g;
    const dt_node n = g->node[id];
    dt_places have[DT_MAX_IN], want[DT_MAX_IN], out[DT_MAX_OUT];
    dt_val in[DT_MAX_IN];
    for (int k = 0; k < n.nin; k++) {
        in[k] = n.in[k] == DT_NONE ? DT_NONE : p->now[n.in[k]];
        have[k] = in[k] != DT_NONE ? places_of(g, in[k]) : (dt_places){{DT_PLACE_R, DT_PLACE_R, DT_PLACE_R}};
    }
    ask_op(p, &n, have, want, out);
    bool closed = false;
    for (int k = 0; k < n.nin; k++) {
        if (in[k] == DT_NONE || !close_gathers(p, places_of(g, in[k]), &want[k])) continue;
        have[k] = want[k];
        closed = true;
    }
    if (closed) ask_op(p, &n, have, want, out); /* what it splits even so is gathered, then sliced */
    g->cursor = n.prev;
    g->program = n.program;
    g->backward = n.backward;
    g->block = n.block;
    for (int k = 0; k < n.nin; k++) {
        if (in[k] == DT_NONE) continue;
        dt_places is = places_of(g, in[k]);
        bool unset = false, reduces = false;
        for (int a = 0; a < DT_AXIS_COUNT; a++) {
            unset |= is.axis[a].kind == DT_PLACE_UNSET;
            reduces |= dt_place_is_partial(is.axis[a]) && !dt_place_is_partial(want[k].axis[a]);
        }
        if (unset || places_equal(is, want[k])) continue;
        dt_val to = convert(p, in[k], want[k]);
        if (to == DT_NONE) return;
        if (reduces && !dt_kind_is_persistent(g->value[in[k]].kind)) p->now[n.in[k]] = p->now[in[k]] = to;
        in[k] = to;
    }
    memcpy(g->node[id].in, in, sizeof(dt_val) * (size_t)n.nin);
    for (int k = 0; k < n.nout; k++) {
        if (n.out[k] == DT_NONE) continue;
        set_places(p, n.out[k], out[k]);
        dt_val base = n.op->inplace[k] != 0 && n.op->inplace[k] <= n.nin ? in[n.op->inplace[k] - 1] : DT_NONE;
        g->value[n.out[k]].base = base;
        if (base == DT_NONE) continue;
        dt_value *b = &g->value[base];
        for (int a = 0; a < DT_AXIS_COUNT; a++) { /* the first writer places an accumulator */
            if (b->place[a].kind == DT_PLACE_UNSET) b->place[a] = out[k].axis[a];
            if (dt_place_equal(b->place[a], out[k].axis[a])) continue;
            dt_graph_fail(g, DT_ERR_INTERNAL, "%s: two contributions differ in placement", b->name);
        }
        set_local(p, base);
    }
}

dt_status dt_pass_shard(dt_graph *g, const dt_mesh *mesh)
{
    DT_TRY(dt_graph_status(g));
    shard_pass p = {.g = g, .mesh = mesh};
    g->mesh = *mesh;
    if (!reserve(&p)) goto done;
    for (int64_t v = 0; v < g->values && g->status == DT_OK; v++)
        if (dt_kind_is_persistent(g->value[v].kind) && g->value[v].base == DT_NONE) place_persistent(&p, (dt_val)v);
    DT_FOR_NODES (g, i) {
        if (g->status != DT_OK) break;
        place_node(&p, i);
    }
    for (int64_t v = 0; v < g->values; v++) /* accumulators that nothing writes */
        for (int a = 0; a < DT_AXIS_COUNT; a++)
            if (g->value[v].place[a].kind == DT_PLACE_UNSET) g->value[v].place[a] = DT_PLACE_R;
    g->program = DT_MICRO;
    g->backward = false;
    g->block = DT_NONE;
    dt_graph_seek_end(g);
    for (int64_t i = 0; i < g->outputs && g->status == DT_OK;
         i++) { /* the host reads them whole, but for its data rank's share */
        dt_val v = p.now[g->output[i]];
        dt_places want = places_of(g, v);
        want.axis[DT_AXIS_TENSOR_MAJOR] = want.axis[DT_AXIS_TENSOR_MINOR] = DT_PLACE_R;
        g->output[i] = places_equal(places_of(g, v), want) ? v : convert(&p, v, want);
    }
done:
    free(p.now);
    free(p.made);
    return dt_graph_status(g);
}
