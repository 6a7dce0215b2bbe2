/* dtrain: MPI, dispatch, exit code. */
#include "base/log.h"
#include "cli/cli.h"
#include "comm/comm.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    dt_status st = dt_world_init(&argc, &argv);
    if (st != DT_OK) {
        fprintf(stderr, "dtrain: %s\n", dt_error_text());
        return dt_status_exit_code(st);
    }
    dt_args args;
    st = dt_world_agree(dt_args_parse(argc, argv, &args));
    if (st == DT_OK && args.command != NULL) st = args.command->run(&args);
    if (fflush(stdout) != 0 && st == DT_OK) st = dt_fail(DT_ERR_IO, "standard output: %s", strerror(errno));
    if (st != DT_OK && dt_world_rank() == 0) dt_log(DT_LOG_ERROR, "%s", dt_error_text());
    dt_world_finalize();
    return dt_status_exit_code(st);
}
