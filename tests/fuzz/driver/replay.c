/* replay FOLDER...: runs a target over every file of the folders. With it the corpus, in which what a fuzzer found is
 * kept, is a test for any compiler. */
#include "base/file.h" // dt_file_read
#include "fuzz.h"

#include <dirent.h> // scandir
#include <stdio.h>  // printf
#include <stdlib.h> // malloc, free
#include <string.h> // memcpy

static int is_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static dt_status replay(const char *path)
{
    char *data;
    size_t bytes;
    DT_TRY(dt_file_read(path, &data, &bytes));
    uint8_t *exact = malloc(bytes); // without the NUL behind it: a sanitizer sees a read past the end
    if (bytes) memcpy(exact, data, bytes);
    free(data);
    LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    return DT_OK;
}

int main(int argc, char **argv)
{
    int inputs = 0;
    fuzz_verbose = 1;
    for (int i = 1; i < argc; i++) {
        struct dirent **entry;
        int n = scandir(argv[i], &entry, is_file, alphasort);
        for (int k = 0; k < n; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry[k]->d_name);
            printf("%s\n", path);
            fflush(stdout); // the last line names the input that ended the process
            if (replay(path) != DT_OK) {
                fprintf(stderr, "%s\n", dt_error_text());
                return 1;
            }
            inputs++;
            free(entry[k]);
        }
        if (n >= 0) free(entry);
    }
    if (inputs == 0) fprintf(stderr, "no inputs\n");
    return inputs == 0;
}
