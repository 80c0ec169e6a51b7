// Keypoints (N, K, 3) as x, y in image pixels and score, from the outputs of a network that looks at one person.
// Each follows the codec of its name in edgekp/codecs, to rounding. One block per keypoint; blocks are (K, N).
#pragma once
#include "peak.cuh"

constexpr int MAP_THREADS = 128;
constexpr int LONGEST_REACH = 12;  // of DARK's blur: ceil(2.5 sigma), cells
constexpr int WIDEST = 2 * LONGEST_REACH + 5;
constexpr float LONGEST_STEP = 2.0f, LOWEST_LOG_OF = 1e-10f;

enum Refine { NONE, QUARTER, QUADRATIC, DARK };

struct HeatmapShared {
    Peak of_warps[MAP_THREADS / 32];
    float window[WIDEST * WIDEST];
    float blurred_across[WIDEST * 5];
    float logs[25];
};

struct MapSize {
    int height, width;

    __device__ __forceinline__ int cells() const { return height * width; }
};

// A quarter of a cell towards the higher neighbour, or to the top of the parabola through the three.
__device__ __forceinline__ float axis_offset(float before, float here, float after, Refine refine) {
    before = without_nan(before), here = without_nan(here), after = without_nan(after);
    if (refine == QUARTER) return after > before ? 0.25f : after < before ? -0.25f : 0.0f;
    const float bend = (here - before) + (here - after);
    return bend > 0 ? fminf(fmaxf(0.5f * (after - before) / bend, -0.5f), 0.5f) : 0.0f;
}

template <class T>
__device__ __forceinline__ Point neighbour_offset(Stored<T> map, MapSize size, int at, Refine refine) {
    const int x = at % size.width, y = at / size.width;
    Point offset = {0.0f, 0.0f};
    if (x > 0 && x < size.width - 1)
        offset.x = axis_offset(map.at(at - 1), map.at(at), map.at(at + 1), refine);
    if (y > 0 && y < size.height - 1)
        offset.y = axis_offset(map.at(at - size.width), map.at(at), map.at(at + size.width), refine);
    return offset;
}

// One Newton step on 5 x 5 logs to the top of the parabola; 0 where it lies further than two cells away.
__device__ __forceinline__ Point newton_step(const float* logs) {
    const float* here = logs + 12;
    const float x = 0.5f * (here[1] - here[-1]), y = 0.5f * (here[5] - here[-5]);
    const float xx = 0.25f * (here[2] - 2 * here[0] + here[-2]), yy = 0.25f * (here[10] - 2 * here[0] + here[-10]);
    const float xy = 0.25f * (here[6] - here[4] - here[-4] + here[-6]);
    const float determinant = xx * yy - xy * xy;
    if (determinant == 0) return {0.0f, 0.0f};
    const Point step = {(xy * y - yy * x) / determinant, (xy * x - xx * y) / determinant};
    return fabsf(step.x) <= LONGEST_STEP && fabsf(step.y) <= LONGEST_STEP ? step : Point{0.0f, 0.0f};
}

// The log of the smoothed map around its peak (Zhang et al., CVPR 2020); the result is that of thread 0 alone.
template <class T>
__device__ __forceinline__ Point dark_offset(Stored<T> map, MapSize size, int at, const float* taps, int reach,
                                             HeatmapShared& shared) {
    const int x = at % size.width, y = at / size.width, wide = 2 * reach + 5;
    if (x < 2 || x >= size.width - 2 || y < 2 || y >= size.height - 2) return {0.0f, 0.0f};  // the same in all threads
    for (int i = threadIdx.x; i < wide * wide; i += blockDim.x) {
        const int column = x - reach - 2 + i % wide, row = y - reach - 2 + i / wide;
        const bool inside = column >= 0 && column < size.width && row >= 0 && row < size.height;
        shared.window[i] = inside ? without_nan(map.at(row * size.width + column)) : 0.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < wide * 5; i += blockDim.x) {
        float sum = 0.0f;
        for (int tap = 0; tap <= 2 * reach; ++tap)
            sum = fmaf(taps[tap], shared.window[i / 5 * wide + i % 5 + tap], sum);
        shared.blurred_across[i] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 25) {
        float sum = 0.0f;
        for (int tap = 0; tap <= 2 * reach; ++tap)
            sum = fmaf(taps[tap], shared.blurred_across[threadIdx.x + 5 * tap], sum);
        shared.logs[threadIdx.x] = logf(fmaxf(sum, LOWEST_LOG_OF));
    }
    __syncthreads();
    return threadIdx.x == 0 ? newton_step(shared.logs) : Point{0.0f, 0.0f};
}

__device__ __forceinline__ void write_keypoint(float* keypoints, const float* to_image, float x, float y, float score) {
    const Point point = apply(to_image + 6 * blockIdx.y, x, y);
    float* place = keypoints + 3 * ((size_t)blockIdx.y * gridDim.x + blockIdx.x);
    place[0] = point.x, place[1] = point.y, place[2] = score;
}

template <class T>
__device__ __forceinline__ void decode_heatmap(Stored<T> maps, MapSize size, const float* cell_to_image, Refine refine,
                                               const float* taps, int reach, float* keypoints, HeatmapShared& shared) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const Stored<T> map = {maps.first + number * size.cells(), maps.scale};
    const Peak peak = settled(highest_of_block(highest_of_share(map, size.cells(), threadIdx.x, blockDim.x),
                                               shared.of_warps));
    Point offset = {0.0f, 0.0f};
    if (refine == DARK)
        offset = dark_offset(map, size, peak.at, taps, reach, shared);
    else if (refine != NONE && threadIdx.x == 0)
        offset = neighbour_offset(map, size, peak.at, refine);
    if (threadIdx.x == 0)
        write_keypoint(keypoints, cell_to_image, peak.at % size.width + offset.x, peak.at / size.width + offset.y,
                       peak.height);
}

// What the cells of a map weigh together, and the moments of their weights about the heaviest of them.
struct Mass {
    float weight, across, down;
};

struct MeanShared {
    Peak of_warps[MAP_THREADS / 32];
    Mass masses[MAP_THREADS];
};

template <class T>
__device__ __forceinline__ Peak highest_finite(Stored<T> map, int count) {
    Peak best = no_peak();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const float value = map.at(i);
        if (is_finite(value) && value > best.height) best = {value, i};
    }
    return best;
}

// The sum of all threads' masses, in thread 0: halves of the block are added until one is left.
__device__ __forceinline__ Mass mass_of_block(Mass mine, Mass* masses) {
    masses[threadIdx.x] = mine;
    for (unsigned half = MAP_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        const Mass other = masses[threadIdx.x + half];
        Mass& sum = masses[threadIdx.x];
        sum = {sum.weight + other.weight, sum.across + other.across, sum.down + other.down};
    }
    return masses[0];
}

// The mean cell under the softmax of a map of logits; a logit that is not finite has no weight. The score is the height
// of the softmax's peak as a share of the height, 1 / `sharpest`, that the sharpest map would have, and at most 1.
template <class T>
__device__ __forceinline__ void decode_mean(Stored<T> maps, MapSize size, const float* cell_to_image, float sharpest,
                                            float* keypoints, MeanShared& shared) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const Stored<T> map = {maps.first + number * size.cells(), maps.scale};
    const Peak peak = highest_of_block(highest_finite(map, size.cells()), shared.of_warps);
    if (peak.at == NOWHERE) {  // the same in all threads
        if (threadIdx.x == 0)
            write_keypoint(keypoints, cell_to_image, 0.5f * (size.width - 1), 0.5f * (size.height - 1), 0.0f);
        return;
    }
    const int column = peak.at % size.width, row = peak.at / size.width;
    Mass mass = {0.0f, 0.0f, 0.0f};
    for (int i = threadIdx.x; i < size.cells(); i += blockDim.x) {
        const float value = map.at(i);
        if (!is_finite(value)) continue;
        const float weight = expf(value - peak.height);
        mass.weight += weight;
        mass.across = fmaf(weight, (float)(i % size.width - column), mass.across);
        mass.down = fmaf(weight, (float)(i / size.width - row), mass.down);
    }
    mass = mass_of_block(mass, shared.masses);
    if (threadIdx.x == 0)
        write_keypoint(keypoints, cell_to_image, column + mass.across / mass.weight, row + mass.down / mass.weight,
                       fminf(sharpest / mass.weight, 1.0f));
}

// The highest cell and the offset, in cells, that is read there; channels 2k and 2k + 1 are those of keypoint k.
template <class T>
__device__ __forceinline__ void decode_heatmap_and_offset(Stored<T> maps, Stored<T> offsets, MapSize size,
                                                          const float* cell_to_image, float* keypoints, Peak* of_warps) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const Stored<T> map = {maps.first + number * size.cells(), maps.scale};
    const Peak peak = settled(highest_of_block(highest_of_share(map, size.cells(), threadIdx.x, blockDim.x), of_warps));
    if (threadIdx.x > 0) return;
    const float x = offsets.at(2 * number * size.cells() + peak.at);
    const float y = offsets.at((2 * number + 1) * size.cells() + peak.at);
    write_keypoint(keypoints, cell_to_image, peak.at % size.width + (is_finite(x) ? x : 0.0f),
                   peak.at / size.width + (is_finite(y) ? y : 0.0f), peak.height);
}

// Two warps: the highest bin along x and the one along y. The score is the lower of the two peaks.
template <class T>
__device__ __forceinline__ void decode_bins(Stored<T> x, int bins_x, Stored<T> y, int bins_y, const float* bin_to_image,
                                            float* keypoints, Peak* of_axes) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const int axis = threadIdx.x / 32;
    const int bins = axis ? bins_y : bins_x;
    const Stored<T> row = {(axis ? y.first : x.first) + number * bins, axis ? y.scale : x.scale};
    const Peak peak = settled(highest_of_warp(highest_of_share(row, bins, threadIdx.x % 32, 32)));
    if (threadIdx.x % 32 == 0) of_axes[axis] = peak;
    __syncthreads();
    if (threadIdx.x == 0)
        write_keypoint(keypoints, bin_to_image, of_axes[0].at, of_axes[1].at,
                       fminf(of_axes[0].height, of_axes[1].height));
}

// Coordinates as fractions of the input from its centre; the affine knows the input's size. Every score is 1.
template <class T>
__device__ __forceinline__ void decode_coordinate(Stored<T> coordinates, const float* fraction_to_image,
                                                  float* keypoints) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    if (threadIdx.x == 0)
        write_keypoint(keypoints, fraction_to_image, coordinates.at(2 * number), coordinates.at(2 * number + 1), 1.0f);
}
