// What a device can move at most: 16 bytes a load, four loads in flight before the first is stored.
// Blocks of 256 threads copy 1024 words each.
extern "C" __global__ void copy_words(const uint4* __restrict__ from, uint4* __restrict__ to, int words) {
    const int first = blockIdx.x * 1024 + threadIdx.x;
    uint4 held[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (first + 256 * i < words) held[i] = from[first + 256 * i];
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (first + 256 * i < words) to[first + 256 * i] = held[i];
}
