/* libcuda.so.1 of the emulated GPU, as far as dtrain asks a driver itself: is there a GPU? */
int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);

int cuInit(unsigned flags)
{
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = 1;
    return 0;
}
