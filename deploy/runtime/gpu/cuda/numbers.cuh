// What the numbers of a network's outputs are, 16 bytes at a time. Knows no map and no keypoint.
#pragma once

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)  // NVRTC has no math.h
#endif

#ifndef EMULATED
struct Half {
    unsigned short bits;
};
__device__ __forceinline__ float to_float(Half value) {  // without cuda_fp16.h, which NVRTC has no copy of
    float single;
    asm("cvt.f32.f16 %0, %1;" : "=f"(single) : "h"(value.bits));
    return single;
}
#endif

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(signed char value) { return (float)value; }

constexpr float LARGEST_FLOAT = 3.402823466e38f;

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= LARGEST_FLOAT; }

// As numpy.nan_to_num: NaN is 0, infinity the largest number.
__device__ __forceinline__ float without_nan(float value) {
    return value != value ? 0.0f : fminf(fmaxf(value, -LARGEST_FLOAT), LARGEST_FLOAT);
}

// As many values as one load of 16 bytes brings.
template <class T>
struct alignas(16) Sixteen {
    static constexpr int COUNT = 16 / sizeof(T);
    T values[COUNT];
};

// (N, ...) of a quantized or floating output: a value is `scale` times what is stored, with zero point 0.
template <class T>
struct Stored {
    const T* first;
    float scale;

    __device__ __forceinline__ float at(size_t index) const { return scale * to_float(first[index]); }
};

// Row-major 2 x 3 affine from cells, bins or input pixels to image pixels.
struct Point {
    float x, y;
};
__device__ __forceinline__ Point apply(const float* affine, float x, float y) {
    return {fmaf(affine[0], x, fmaf(affine[1], y, affine[2])), fmaf(affine[3], x, fmaf(affine[4], y, affine[5]))};
}
