/* Between threads.cpp, which lets threads take turns, and hopper.cpp, which makes them wait for what is under way. */
#ifndef DT_EMULATE_THREADS_H
#define DT_EMULATE_THREADS_H

#include <stddef.h>
#include <stdint.h>

namespace emulate
{
enum { SHARED_MOST = 227 << 10 };

/** Of the running block: its shared memory's bytes, and the number of the running thread. */
size_t shared_size(void);
int self(void);
/** The running thread waits until another one, or deliver, releases it. */
void park(const char *what, int line);
void release(int thread);
/** The running thread goes on when no other one can. */
void step_aside(const char *what, int line);
/** A number of the order that DT_EMULATE_SEED draws. */
uint64_t draw(void);

/** hopper.cpp. deliver: nobody can go on; one copy arrives, if any is under way. */
void begin_asynchronous(void);
bool deliver(void);
void end_asynchronous(void);
} // namespace emulate

#endif
