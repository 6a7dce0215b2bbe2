/* dtrain eval against a float64 reference: ids and negative log-likelihood of every token of five texts, on every
 * layout. The reference lies beside the backbone stories260k, which is not part of the repository. */
#include "base/file.h"
#include "launch/nll.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define BACKBONE DT_SOURCE_DIR "/../shared/data/stories260k"

static void check_layout(int ranks, const char *options)
{
    char folder[] = "/tmp/dtrain-golden-XXXXXX";
    if (!dt_path_exists(BACKBONE "/golden/nll.json")) cr_skip_test("skipped: no " BACKBONE);
    cr_assert(mkdtemp(folder));
    nll_check(folder, BACKBONE, BACKBONE "/golden/nll.json", ranks, options);
    cr_expect_eq(dt_dir_remove(folder), DT_OK, "%s", dt_error_text());
}

Test(golden, every_token_agrees_on_one_rank)
{
    check_layout(1, "");
}

Test(golden, every_token_agrees_over_four_tensor_ranks)
{
    check_layout(4, "--set parallel.tensor=4");
}

Test(golden, every_token_agrees_over_tensor_and_data_ranks_with_sequence_parallelism)
{
    check_layout(4, "--set parallel.tensor=2 --set parallel.sequence=true --set data.packing=false");
}
