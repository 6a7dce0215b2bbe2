/* What the evaluations of a run have come to: the lowest loss, for the checkpoint that is kept, and how long none was
 * lower, for early stopping. Part of every checkpoint, so that a run that goes on decides as if it had never stopped.
 */
#ifndef DT_TRAIN_BEST_H
#define DT_TRAIN_BEST_H

#include <stdbool.h>
#include <stdint.h> // int64_t

typedef struct dt_best {
    int64_t evaluated; /* last step that was evaluated; -1: none */
    int64_t step;      /* of the lowest loss; -1: none. The evaluation before the first step does not count */
    double loss;
    double reference; /* the last loss that was lower than the one before it by more than min_delta */
    int64_t waited;   /* evaluations since then */
} dt_best;

/** Before the first evaluation. */
dt_best dt_best_none(void);
/** Takes the loss of one more evaluation. True: it is the lowest so far; of equal ones the first is. A loss that is no
 *  number is never lower. Local. */
bool dt_best_take(dt_best *best, int64_t step, double loss, double min_delta);

#endif
