/* Devices that only plan: what a plan asks of a device is the size of its elements and its threads. */
#ifndef DT_TESTS_UNIT_SIZES_H
#define DT_TESTS_UNIT_SIZES_H

#include "device/device.h"

static const dt_device_ops ops_fp32 = {.act_size = 4, .acc_size = 4}, ops_bf16 = {.act_size = 2, .acc_size = 4};
static const dt_device device_fp32 __attribute__((unused)) = {.ops = &ops_fp32, .threads = 1};
static const dt_device device_bf16 __attribute__((unused)) = {.ops = &ops_bf16, .threads = 1};

#endif
