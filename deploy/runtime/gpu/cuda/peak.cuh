// The highest of many values, found by a warp or a block. NaN never wins, and ties go to the lowest index.
#pragma once
#include "numbers.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int NOWHERE = 0x7fffffff;

struct Peak {
    float height;
    int at;

    __device__ __forceinline__ bool tops(const Peak& other) const {
        return height > other.height || (height == other.height && at < other.at);
    }
};

__device__ __forceinline__ Peak no_peak() { return {-INFINITY, NOWHERE}; }

// A row without a number stands at its first value and scores 0; so does a peak of infinite height, where it is.
__device__ __forceinline__ Peak settled(Peak peak) {
    if (peak.at == NOWHERE) return {0.0f, 0};
    return {is_finite(peak.height) ? peak.height : 0.0f, peak.at};
}

// The highest peak of the 32 lanes, in all of them.
__device__ __forceinline__ Peak highest_of_warp(Peak peak) {
    for (int distance = 16; distance > 0; distance /= 2) {
        const Peak other = {__shfl_xor_sync(ALL_LANES, peak.height, distance),
                            __shfl_xor_sync(ALL_LANES, peak.at, distance)};
        if (other.tops(peak)) peak = other;
    }
    return peak;
}

// The highest peak of the block, in all threads; `of_warps` holds one peak a warp and may be used again afterwards.
__device__ __forceinline__ Peak highest_of_block(Peak peak, Peak* of_warps) {
    peak = highest_of_warp(peak);
    __syncthreads();  // of_warps may still be read from the call before
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = peak;
    __syncthreads();
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp)
        if (of_warps[warp].tops(peak)) peak = of_warps[warp];
    return peak;
}

// The highest of `count` values as seen by one of `workers` threads; each goes upwards, so that > keeps the first.
template <class T>
__device__ __forceinline__ Peak highest_of_share(Stored<T> row, int count, int worker, int workers) {
    constexpr int A_LOAD = Sixteen<T>::COUNT;
    Peak best = no_peak();
    if (count % A_LOAD == 0) {
        const Sixteen<T>* loads = (const Sixteen<T>*)row.first;
        for (int load = worker; load < count / A_LOAD; load += workers) {
            const Sixteen<T> sixteen = loads[load];
#pragma unroll
            for (int i = 0; i < A_LOAD; ++i) {
                const float value = row.scale * to_float(sixteen.values[i]);
                if (value > best.height) best = {value, load * A_LOAD + i};
            }
        }
    } else {
        for (int i = worker; i < count; i += workers) {
            const float value = row.at(i);
            if (value > best.height) best = {value, i};
        }
    }
    return best;
}
