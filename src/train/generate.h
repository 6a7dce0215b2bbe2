/* Generation: one sequence, token by token, with a key-value cache; and the choice of the token that follows. */
#ifndef DT_TRAIN_GENERATE_H
#define DT_TRAIN_GENERATE_H

#include "train/job.h" // dt_job

typedef struct dt_generator dt_generator;

/** Plans the generation of one sequence of up to `positions` tokens that starts with about `prompt` of them; loads
 *  weights and deltas (as `ck` has them; NULL: first values). Two graphs share weights and caches through the job's
 *  store: one takes many tokens and only fills the caches, one takes one token and gives logits. Every data rank makes
 *  the same sequence, its tensor ranks together. One a job. DT_ERR_CONFIG if the backbone has fewer positions. Local.
 */
dt_status dt_generator_create(dt_job *job, const dt_ckpt *ck, int64_t prompt, int64_t positions,
                              dt_generator **out) DT_WARN_UNUSED;
void dt_generator_destroy(dt_generator *gen);

/** Appends ids[n], n >= 1, to the sequence. *logits[V]: of the token that follows; a view until the next call, the same
 *  bits on every tensor rank. Collective over the tensor ranks. */
dt_status dt_generator_feed(dt_generator *gen, const int32_t *ids, int64_t n, const float **logits) DT_WARN_UNUSED;

/** How a token is chosen from logits. */
typedef struct dt_choice {
    double temperature; /* 0: the likeliest */
    double top_p;       /* only the likeliest tokens that together have this probability; 1: all */
    uint64_t seed;
} dt_choice;

/** The token for position `position`: the likeliest (the lowest of equals), or one drawn from
 *  softmax(logits[vocab] / temperature), cut to top_p (Holtzman et al. 2020) by a number that depends on seed and
 *  position alone. DT_ERR_MODEL if no logit is a number. Local. */
dt_status dt_choose_token(const float *logits, int64_t vocab, const dt_choice *choice, int64_t position,
                          int32_t *token) DT_WARN_UNUSED;

#endif
