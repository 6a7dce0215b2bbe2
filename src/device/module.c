/* Finds, opens and asks the CUDA module. */
#include "device/module.h"
#include <dlfcn.h>
#include <limits.h> // PATH_MAX
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // readlink, access

#define MODULE "libdtrain_cuda.so"

/* Beside the program, in ../lib or in .. (a test of a build); else the bare name, which the loader looks for. */
static void find_module(char path[PATH_MAX])
{
    static const char *const places[] = {"", "../lib/", "../"};
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    for (size_t i = 0; slash != NULL && i < sizeof places / sizeof *places; i++) {
        int used = snprintf(path, PATH_MAX, "%.*s%s" MODULE, (int)(slash + 1 - program), program, places[i]);
        if (used < PATH_MAX && access(path, R_OK) == 0) return;
    }
    snprintf(path, PATH_MAX, "%s", MODULE);
}

static void *library;

/* GPUs that the driver shows this process. Asked of the driver itself, which is small beside the module's libraries. */
static int gpus_of_driver(void)
{
    int gpus = 0;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == NULL) return 0;
    int (*init)(unsigned) = dlsym(driver, "cuInit");
    int (*count)(int *) = dlsym(driver, "cuDeviceGetCount");
    if (init == NULL || count == NULL || init(0) != 0 || count(&gpus) != 0) gpus = 0;
    dlclose(driver);
    return gpus;
}

static dt_status open_module(const dt_cuda_module **out)
{
    static const dt_cuda_module *module;
    char path[PATH_MAX];
    if (module == NULL) {
        find_module(path);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) return dt_fail(DT_ERR_DEVICE, "the CUDA module cannot be opened: %s", dlerror());
        const dt_cuda_module *found = dlsym(library, "dt_cuda_module_v3");
        if (found == NULL || found->version != DT_CUDA_MODULE_VERSION)
            return dt_fail(DT_ERR_DEVICE, "%s: made for another version of dtrain", path);
        module = found;
    }
    *out = module;
    return DT_OK;
}

dt_status dt_device_cuda(int node_rank, dt_cuda_precision precision, dt_device *out)
{
    const dt_cuda_module *module = NULL;
    int gpus = 0;
    DT_TRY(open_module(&module));
    DT_TRY(module->gpus(&gpus));
    return module->open(node_rank % gpus, precision, out);
}

dt_status dt_device_cuda_plan(dt_cuda_precision precision, dt_device *out)
{
    const dt_cuda_module *module = NULL;
    DT_TRY(open_module(&module));
    return module->open(-1, precision, out);
}

int dt_device_cuda_gpus(void)
{
    const dt_cuda_module *module = NULL;
    int gpus = 0;
    if (gpus_of_driver() > 0 && open_module(&module) == DT_OK && module->gpus(&gpus) == DT_OK) return gpus;
    dt_error_clear();
    return 0;
}

void *dt_device_module_symbol(const char *name)
{
    return library != NULL ? dlsym(library, name) : NULL;
}
