/* dtrain eval against per-token references: for each text its ids, and -log p of each id but the first. */
#ifndef DT_TESTS_LAUNCH_NLL_H
#define DT_TESTS_LAUNCH_NLL_H

/** Evaluates the backbone on the texts of `golden` (JSON: [{"text", "ids", "nll"}]) with so many ranks and further
 *  options of dtrain eval. Asserts that the ids are equal, that each token's value is within 1e-4 and that the mean
 * that is printed is theirs. Writes into `folder`. Returns the mean. */
double nll_check(const char *folder, const char *backbone, const char *golden, int ranks, const char *options);

#endif
