/* e4m3 on the host: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, largest 448, NaN is 0x7f. */
#ifndef DT_EMULATE_FP8_H
#define DT_EMULATE_FP8_H

#include "cuda_language.h"
#include <cmath>

struct __nv_fp8_e4m3 {
    unsigned char bits;

    __nv_fp8_e4m3() = default;
    /* To the nearest, ties to even; what is too large becomes the largest. */
    explicit __nv_fp8_e4m3(float x)
    {
        const unsigned char sign = std::signbit(x) ? 0x80 : 0;
        const float magnitude = std::fabs(x);
        if (x != x) {
            bits = 0x7f;
        } else if (magnitude >= 448.0f) {
            bits = (unsigned char)(sign | 0x7e);
        } else {
            int exponent = -5;                                        // of zero: the smallest steps
            if (magnitude > 0) std::frexp(magnitude, &exponent);      // magnitude in [2^(exponent-1), 2^exponent)
            const int lowest = exponent - 4 > -9 ? exponent - 4 : -9; // the last bit stands for 2^lowest
            const int steps = (int)std::nearbyint(std::ldexp(magnitude, -lowest));
            bits = (unsigned char)(sign | (unsigned char)(lowest == -9 ? steps : steps + (lowest + 9) * 8));
        }
    }
    explicit operator float() const
    {
        const int exponent = bits >> 3 & 15, mantissa = bits & 7;
        if ((bits & 0x7f) == 0x7f) return NAN;
        const float magnitude =
            exponent == 0 ? std::ldexp((float)mantissa, -9) : std::ldexp((float)(8 + mantissa), exponent - 10);
        return bits & 0x80 ? -magnitude : magnitude;
    }
};

#endif
