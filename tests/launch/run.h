/* Training runs for tests: a folder with two tiny backbones, rows and a configuration, dtrain on a number of ranks, and
 * comparisons of what two runs left behind.
 *
 *     TestSuite(thing, .init = run_set_up, .fini = run_tear_down);
 *
 *     run_config("delta { lora { rank: 4 } target: \"re:.*_proj\" } train { steps: 8 global_batch: 8 }");
 *     run_train("one", "-np 1", "");
 *     run_train("four", "-np 4", "parallel.tensor=2 parallel.sequence=true");
 *     run_compare("one", "four", "1e-5", "1e-5"); */
#ifndef DT_TESTS_LAUNCH_RUN_H
#define DT_TESTS_LAUNCH_RUN_H

#include "launch/spawn.h" // dt_spawn
#include <stdint.h>       // int64_t

#define RUN_DIFF DT_BINARY_DIR "/run_diff"
#define RUN_STORIES DT_SOURCE_DIR "/../shared/data/stories260k"
#define RUN_E2E DT_SOURCE_DIR "/../shared/data/e2e/train.jsonl"
#define RUN_NAME 256

/** Makes the test's folder: kv4/ and kv2/, Llamas of 8 heads and 4 or 2 kv heads with random weights; rows.jsonl. */
void run_set_up(void);
void run_tear_down(void);
/** Path of something in the folder (printf style). Valid until eight calls later. */
const char *run_path(const char *fmt, ...) DT_PRINTF(1, 2);
/** Writes a file of the folder. */
void run_write(const char *name, const char *text);

/** Writes config.pbtxt: run, backbone (kv4) and training rows, and behind them `text`. */
void run_config(const char *text);
/** Skips the test where stories260k and e2e are not there; else writes a configuration over them. */
void run_config_stories(const char *text);

/** The program that is started from now on, instead of dtrain. */
void run_program(const char *path);
/** Starts training into run `name`: `mpirun`: arguments of mpirun; `sets`: words "field=value" for --set. */
dt_spawn run_start(const char *name, const char *mpirun, const char *sets);
/** Trains and asserts that it ends well. */
void run_train(const char *name, const char *mpirun, const char *sets);
/** Trains, and asserts that it fails with this exit code and one message that contains `expected`. */
void run_fails(const char *mpirun, const char *sets, int exit_code, const char *expected);
/** Asserts what run_diff checks of two runs: tolerances of metrics and checkpoints, "0" for equal bits, "-" for not. */
void run_compare(const char *a, const char *b, const char *metrics, const char *checkpoint);
/** Asserts that the last checkpoints' files of delta and optimizer are the same bytes. */
void run_same_files(const char *a, const char *b, int step, int tensor_ranks);

/** A number of one step, from metrics.jsonl. */
double run_metric(const char *name, int step, const char *key);
/** How often `text` stands in metrics.jsonl. */
int run_count(const char *name, const char *text);
/** Trainable values in tensor rank 0's file of the delta. */
int64_t run_values_of_rank_0(const char *name, int step, int tensor_ranks);

/** Starts training that goes on until it is stopped: whoever waits for one of its steps cannot come too late. */
dt_spawn run_start_endless(const char *name, const char *mpirun, const char *sets);
/** Waits until `text` stands in metrics.jsonl so many times: 1, or 0 if the job ended before. */
int run_await(dt_spawn *job, const char *name, const char *text, int times);
/** Waits until the run has done this step. */
int run_await_step(dt_spawn *job, const char *name, int step);
/** The job's processes of dtrain on this machine, children of mpirun in no order; how many. */
int run_ranks(const dt_spawn *job, pid_t *pid, int room);
/** Kills one of the job's ranks (the victim'th that /proc lists), upon which the job has ten seconds to end with an
 *  error. Returns when none of its ranks is left, and frees the job. */
void run_kill(dt_spawn *job, int ranks, int victim);

#endif
