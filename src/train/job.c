/* Opening and closing a job. */
#include "train/job.h"
#include "base/log.h"      // dt_log
#include "device/module.h" // dt_device_cuda
#include "train/sets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // sysconf

static dt_status divides(const char *what, int64_t value, int by)
{
    if (value % by == 0) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "parallel.tensor: %d does not divide the backbone's %s, %lld", by, what,
                   (long long)value);
}

dt_status dt_job_mesh(const Dtrain__Config *config, const dt_model_info *info, int rank, int ranks, dt_mesh *out)
{
    int tensor = config->parallel->tensor;
    DT_TRY(divides("attention heads", info->heads, tensor));
    DT_TRY(divides("feed-forward width", info->ffn, tensor));
    return dt_mesh_make(rank, ranks, tensor, (int)info->kv_heads, out);
}

/* One thread a rank, more where the node has idle cores. OMP_NUM_THREADS decides where it is set. */
static int threads_of_rank(int ranks_of_node)
{
    const char *set = getenv("OMP_NUM_THREADS");
    if (set != NULL && atoi(set) > 0) return atoi(set);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = (int)cores / ranks_of_node;
    return threads > 1 ? threads : 1;
}

/* `plans`: for figures only, on a machine that need not have the GPU. */
static dt_status open_gpu(dt_cuda_precision precision, bool plans, dt_device *out)
{
    return dt_fail_in(plans ? dt_device_cuda_plan(precision, out)
                            : dt_device_cuda(dt_world_node_rank(), precision, out),
                      "device: CUDA");
}

static dt_status open_device(const Dtrain__Config *config, bool on_gpu, int ranks_of_node, bool plans, dt_device *out)
{
    static const char *const name[] = {[DTRAIN__PRECISION__BF16] = "BF16", [DTRAIN__PRECISION__FP8] = "FP8"};
    static const dt_cuda_precision of_gpu[] = {[DTRAIN__PRECISION__NATIVE] = DT_CUDA_BF16,
                                               [DTRAIN__PRECISION__FP32] = DT_CUDA_FP32,
                                               [DTRAIN__PRECISION__BF16] = DT_CUDA_BF16,
                                               [DTRAIN__PRECISION__FP8] = DT_CUDA_FP8};
    const Dtrain__Precision precision = config->backbone->precision;
    if (on_gpu) return open_gpu(of_gpu[precision], plans, out);
    if (precision == DTRAIN__PRECISION__BF16 || precision == DTRAIN__PRECISION__FP8)
        return dt_fail(DT_ERR_CONFIG, "backbone.precision: %s is of GPUs; expected NATIVE or FP32 on CPUs%s",
                       name[precision],
                       config->device == DTRAIN__DEVICE__AUTO ? ", which device: AUTO has chosen here" : "");
    return dt_device_cpu(threads_of_rank(ranks_of_node), out);
}

/* Evaluations, checkpoints and the end must come when the data ranks agree. */
static dt_status check_local_steps(const Dtrain__Config *c, const dt_deltas *deltas)
{
    int64_t n = 1;
    DT_TRY(dt_deltas_local_steps(deltas, &n));
    const struct {
        const char *field;
        int64_t value;
    } multiple[] = {{"train.steps", c->train->steps},
                    {"train.eval_every", c->train->eval_every},
                    {"checkpoint.every", c->checkpoint->every}};
    for (size_t i = 0; i < sizeof multiple / sizeof *multiple; i++)
        if (multiple[i].value % n != 0)
            return dt_fail(DT_ERR_CONFIG, "%s: %lld is no multiple of local_steps %lld", multiple[i].field,
                           (long long)multiple[i].value, (long long)n);
    return DT_OK;
}

/* What graphs are made of: backbone, mesh, deltas, device, length of a sequence. */
static dt_status open_model(dt_job *job, int rank, int ranks, int ranks_of_node, bool plans, bool load_weights)
{
    const Dtrain__Config *c = job->config;
    if (c->backbone->path == NULL)
        return dt_fail(DT_ERR_CONFIG, "backbone.path: missing; expected the folder of a Hugging Face checkpoint");
    DT_TRY(dt_backbone_open(c->backbone->path, c->backbone->random_init, (uint64_t)c->run->seed, load_weights,
                            &job->backbone));
    DT_TRY(dt_job_mesh(c, &job->backbone->info, rank, ranks, &job->mesh));
    DT_TRY(dt_deltas_create(c, &job->deltas));
    DT_TRY(check_local_steps(c, &job->deltas));
    DT_TRY(open_device(c, job->on_gpu, ranks_of_node, plans, &job->device));
    /* Sequence parallelism splits tokens over the tensor ranks: sequences are padded to a length that divides. */
    int64_t tensor = c->parallel->sequence ? c->parallel->tensor : 1;
    job->seq = (c->data->seq_len + tensor - 1) / tensor * tensor;
    return DT_OK;
}

static dt_status check_length(const dt_job *job)
{
    if (job->config->data->seq_len <= job->backbone->info.max_positions) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "data.seq_len: %d is more than the backbone's %lld positions",
                   job->config->data->seq_len, (long long)job->backbone->info.max_positions);
}

static bool fetches(const Dtrain__Config *config)
{
    return config->backbone->read != DTRAIN__READ__EACH && !config->backbone->random_init;
}

static bool is_reader(const Dtrain__Config *config)
{
    return (config->backbone->read == DTRAIN__READ__NODE ? dt_world_node_rank() : dt_world_rank()) == 0;
}

static dt_status open_local(dt_job *job, unsigned what)
{
    const Dtrain__Config *c = job->config;
    bool reads = !fetches(c) || is_reader(c);
    DT_TRY(open_model(job, dt_world_rank(), dt_world_size(), dt_world_node_size(), false, reads));
    if (what & (DT_JOB_TRAIN_DATA | DT_JOB_EVAL_DATA)) DT_TRY(check_length(job));
    if (what & (DT_JOB_TOKENIZER | DT_JOB_TRAIN_DATA | DT_JOB_EVAL_DATA)) {
        DT_TRY(dt_tokenizer_load(c->backbone->path, &job->tokenizer));
        if (dt_tokenizer_size(job->tokenizer) > job->backbone->info.vocab)
            return dt_fail(DT_ERR_MODEL, "%s: the tokenizer has %d ids, the backbone only %lld", c->backbone->path,
                           dt_tokenizer_size(job->tokenizer), (long long)job->backbone->info.vocab);
    }
    return dt_store_create(&job->device, &job->store);
}

/* Every rank's weights by way of those that read. */
static dt_status fetch_weights(dt_job *job)
{
    dt_graph *g = NULL;
    dt_team *team = NULL;
    dt_status st = dt_team_open(job->config->backbone->read == DTRAIN__READ__NODE, &team);
    if (st == DT_OK) st = dt_job_build_bare(job, &job->mesh, &g);
    st = dt_world_agree(st);
    if (st == DT_OK) st = dt_weights_fetch(job->backbone, g, team, DT_FETCH_BYTES);
    dt_graph_destroy(g);
    dt_team_close(team);
    return st;
}

/* AUTO: GPUs, where every rank has one of its own. Collective over the world. */
static dt_status choose_device(dt_job *job)
{
    const Dtrain__Device asked = job->config->device;
    const int gpus = asked == DTRAIN__DEVICE__AUTO ? dt_device_cuda_gpus() : 0, ranks = dt_world_node_size();
    int32_t all = asked == DTRAIN__DEVICE__CUDA || gpus >= ranks;
    if (gpus > 0 && gpus < ranks && dt_world_node_rank() == 0)
        dt_log(DT_LOG_INFO, "device: AUTO leaves the GPUs alone: %d for %d ranks of this node", gpus, ranks);
    DT_TRY(dt_world_all_reduce(&all, 1, DT_COMM_I32, DT_COMM_MIN));
    job->on_gpu = all != 0;
    return DT_OK;
}

dt_status dt_job_open(const Dtrain__Config *config, unsigned what, dt_job *out)
{
    *out = (dt_job){.config = config}; /* in place: the store keeps the address of the device */
    dt_status st = choose_device(out);
    if (st == DT_OK) st = dt_world_agree(open_local(out, what));
    if (st == DT_OK)
        st = dt_sets_open(config, out->tokenizer, what & DT_JOB_TRAIN_DATA, what & DT_JOB_EVAL_DATA, &out->train,
                          &out->eval);
    if (st == DT_OK) st = dt_world_agree(dt_comm_create_host(&out->mesh, &out->host_comm));
    if (st == DT_OK)
        st = dt_world_agree(dt_comm_create_device(&out->host_comm, &out->device, &out->device_comm, &out->comm));
    if (st == DT_OK && fetches(config)) st = fetch_weights(out);
    if (st != DT_OK) dt_job_close(out);
    return st;
}

dt_status dt_job_open_plan(const Dtrain__Config *config, int ranks, dt_job *out)
{
    *out = (dt_job){.config = config};
    out->on_gpu =
        config->device == DTRAIN__DEVICE__CUDA || (config->device == DTRAIN__DEVICE__AUTO && dt_device_cuda_gpus() > 0);
    dt_status st = open_model(out, 0, ranks, ranks, true, false);
    if (st == DT_OK) st = check_length(out);
    if (st != DT_OK) dt_job_close(out);
    return st;
}

/* Does a pass have a device of its own? */
static bool computes_apart(const dt_job *job, dt_scoring how)
{
    return job->on_gpu && !how.native && job->device.ops->act_size < job->device.ops->acc_size;
}

dt_status dt_job_open_pass(dt_job *job, dt_scoring how, bool plans, dt_job *pass)
{
    *pass = *job;
    if (!computes_apart(job, how)) return DT_OK;
    pass->device = (dt_device){0};
    pass->device_comm = (dt_comm){0};
    dt_status st = open_gpu(DT_CUDA_FP32, plans, &pass->device);
    if (plans) return st;
    st = dt_world_agree(st);
    if (st == DT_OK)
        st = dt_world_agree(dt_comm_create_device(&job->host_comm, &pass->device, &pass->device_comm, &pass->comm));
    if (st != DT_OK) dt_job_close_pass(job, pass);
    return st;
}

void dt_job_close_pass(const dt_job *job, dt_job *pass)
{
    if (pass->device.impl == job->device.impl) return;
    if (pass->device_comm.ops != NULL) dt_comm_destroy(&pass->device_comm);
    if (pass->device.ops != NULL) dt_device_destroy(&pass->device);
}

void dt_job_close(dt_job *job)
{
    dt_store_destroy(job->store);
    if (job->device_comm.ops != NULL) dt_comm_destroy(&job->device_comm);
    dt_device_destroy(&job->device);
    dt_deltas_destroy(&job->deltas);
    dt_dataset_destroy(job->train);
    dt_dataset_destroy(job->eval);
    dt_tokenizer_destroy(job->tokenizer);
    if (job->host_comm.ops != NULL) dt_comm_destroy(&job->host_comm);
    dt_backbone_close(job->backbone);
    *job = (dt_job){0};
}
