"""What this device multiplies at: the large products of a model, timed by torch.matmul on random data.

    rate.py DEVICE TOKENS N,K [N,K]...     TOKENS: sizes of a micro-batch, joined by commas

[TOKENS,K] x [K,N] for each pair, in bfloat16 on cuda, float32 on cpu. Prints one JSON object: FLOP/s over all products of
the best size of a micro-batch.
"""
import json
import sys
import time

import torch

device, sizes, *products = sys.argv[1:]
gpu = device == "cuda"
ROUNDS = 20 if gpu else 2


def seconds(tokens, n, k):
    """Of one product, in the best of three series: clocks rise under load."""
    dtype = torch.bfloat16 if gpu else torch.float32
    x, w = torch.randn(tokens, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
    y = torch.empty(tokens, n, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(ROUNDS):
            torch.matmul(x, w.t(), out=y)
        if gpu:
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / ROUNDS)
    return best


rates = {}
for tokens in map(int, sizes.split(",")):
    pairs = [tuple(map(int, product.split(","))) for product in products]
    rates[tokens] = sum(2 * tokens * n * k for n, k in pairs) / sum(seconds(tokens, n, k) for n, k in pairs)
print(json.dumps({"flops": max(rates.values()), "by_tokens": rates,
                  "device": torch.cuda.get_device_name() if gpu else "CPU"}))
