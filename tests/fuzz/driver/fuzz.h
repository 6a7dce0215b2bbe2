/* What the fuzz targets share. A target is one function, LLVMFuzzerTestOneInput, that gives a reader arbitrary bytes.
 * It runs under libFuzzer (tests/fuzz.sh), and under driver/replay.c over the corpus with any compiler. */
#ifndef DT_TESTS_FUZZ_H
#define DT_TESTS_FUZZ_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // uint8_t

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A folder of this process, made at the first call and removed at exit. */
const char *fuzz_folder(void);
/** Writes data[size] as the file `name` of that folder. */
void fuzz_put(const char *name, const void *data, size_t size);

/** Ends the process, which is a finding: a property does not hold. */
void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))

/** Whether the reader took the input. What it refuses it must explain, and must not call its own mistake, nor a lack of
 *  memory: inputs are small. */
int fuzz_took(dt_status st);
/** Print what is refused, and why. */
extern int fuzz_verbose;

#endif
