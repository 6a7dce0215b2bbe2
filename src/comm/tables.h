/* The communicator tables for host memory and what the control functions share; internal to src/comm. */
#ifndef DT_COMM_TABLES_H
#define DT_COMM_TABLES_H

#include "comm/comm.h" // dt_comm_ops

extern const dt_comm_ops dt_comm_none_ops;

/** The watchdog's thread. start reads DTRAIN_TIMEOUT (DT_ERR_CONFIG if it is no number of seconds > 0); stop is fine
 *  without start. Local. */
dt_status dt_watchdog_start(void) DT_WARN_UNUSED;
void dt_watchdog_stop(void);

/** Ends every rank of the job at once with this exit code, whatever state MPI is in. Any thread. */
void dt_world_end(int exit_code) __attribute__((noreturn));

#endif
