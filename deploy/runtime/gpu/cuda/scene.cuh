// The people of a scene from heatmaps and part affinity fields, as edgekp/codecs/openpose_decode.py finds them.
// Three kernels: peaks of each heatmap, scores of the pairs of peaks that a limb may join, people. All in cells.
#pragma once
#include "peak.cuh"
#include "top_down.cuh"

constexpr int SCENE_THREADS = 256;
constexpr int MOST_PEAKS = 32;      // of a keypoint
constexpr int MOST_KEYPOINTS = 32;  // bits of a person's set of keypoints
constexpr int SAMPLES = 10;         // of the field, from one end of a limb to the other
constexpr float LOWEST_PEAK = 0.1f, LOWEST_SAMPLE = 0.05f, LOWEST_MEAN = 0.4f;
constexpr int FEWEST_GOOD_SAMPLES = 9;  // more than 0.8 of them
constexpr int FEWEST_KEYPOINTS = 4;

struct ScenePeak {
    float x, y, height;
};

__device__ __forceinline__ float height_or_none(Stored<float> map, MapSize size, int x, int y) {
    if (x < 0 || y < 0 || x >= size.width || y >= size.height) return -INFINITY;
    const float value = map.at(y * size.width + x);
    return is_finite(value) ? value : -INFINITY;
}

// Of equal neighbours the first is the peak.
__device__ __forceinline__ bool tops_its_neighbours(Stored<float> map, MapSize size, int at) {
    const int x = at % size.width, y = at / size.width;
    const float height = map.at(at);
    for (int dy = -1; dy <= 1; ++dy)
        for (int dx = -1; dx <= 1; ++dx) {
            const float other = height_or_none(map, size, x + dx, y + dy);
            const bool earlier = dy < 0 || (dy == 0 && dx < 0);
            if ((dx || dy) && (other > height || (earlier && other == height))) return false;
        }
    return true;
}

__device__ __forceinline__ float log_offset(float before, float here, float after) {
    return axis_offset(logf(fmaxf(before, LOWEST_LOG_OF)), logf(fmaxf(here, LOWEST_LOG_OF)),
                       logf(fmaxf(after, LOWEST_LOG_OF)), QUADRATIC);
}

// A parabola through the logs along each axis; at the border the cell itself.
__device__ __forceinline__ ScenePeak refined(Stored<float> map, MapSize size, Peak peak) {
    const int x = peak.at % size.width, y = peak.at / size.width;
    ScenePeak found = {(float)x, (float)y, peak.height};
    if (x > 0 && x < size.width - 1)
        found.x += log_offset(height_or_none(map, size, x - 1, y), peak.height, height_or_none(map, size, x + 1, y));
    if (y > 0 && y < size.height - 1)
        found.y += log_offset(height_or_none(map, size, x, y - 1), peak.height, height_or_none(map, size, x, y + 1));
    return found;
}

// One block per heatmap, blocks (K, N): its highest peaks one after the other. `maps` has `channels` maps a scene.
__device__ __forceinline__ void find_peaks(Stored<float> maps, int channels, MapSize size, ScenePeak* peaks,
                                           int* counts, Peak* of_warps) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const Stored<float> map = {maps.first + ((size_t)blockIdx.y * channels + blockIdx.x) * size.cells(), maps.scale};
    Peak last = {INFINITY, -1};
    int count = 0;
    for (; count < MOST_PEAKS; ++count) {
        Peak best = no_peak();
        for (int at = threadIdx.x; at < size.cells(); at += blockDim.x) {
            const Peak here = {map.at(at), at};
            if (here.height > LOWEST_PEAK && is_finite(here.height) && last.tops(here) && here.tops(best)
                && tops_its_neighbours(map, size, at))
                best = here;
        }
        last = highest_of_block(best, of_warps);
        if (last.at == NOWHERE) break;  // the same in all threads
        if (threadIdx.x == 0) peaks[number * MOST_PEAKS + count] = refined(map, size, last);
    }
    if (threadIdx.x == 0) counts[number] = count;
}

// How well the field of a limb points from one peak to another, at most 1; 0 for pairs that are no limb.
__device__ __forceinline__ float limb_score(const float* field_x, const float* field_y, MapSize size, ScenePeak start,
                                            ScenePeak end) {
    const float along_x = end.x - start.x, along_y = end.y - start.y;
    const float length = fmaxf(sqrtf(along_x * along_x + along_y * along_y), 1e-9f);
    float sum = 0.0f;
    int good = 0;
    for (int i = 0; i < SAMPLES; ++i) {
        const float share = (float)i / (SAMPLES - 1);
        const int x = min(max(__float2int_rn(fmaf(share, along_x, start.x)), 0), size.width - 1);
        const int y = min(max(__float2int_rn(fmaf(share, along_y, start.y)), 0), size.height - 1);
        const float there_x = field_x[y * size.width + x], there_y = field_y[y * size.width + x];
        const float value = ((is_finite(there_x) ? there_x : 0.0f) * along_x
                             + (is_finite(there_y) ? there_y : 0.0f) * along_y) / length;
        sum += value;
        good += value > LOWEST_SAMPLE;
    }
    const float score = sum / SAMPLES + fminf(0.5f * size.height / length - 1.0f, 0.0f);
    return good >= FEWEST_GOOD_SAMPLES && score > 0 ? score : 0.0f;
}

// One block per limb, blocks (L, N): scores (N, L, MOST_PEAKS, MOST_PEAKS) of all pairs of its ends' peaks.
__device__ __forceinline__ void score_limbs(const float* fields, MapSize size, const ScenePeak* peaks,
                                            const int* counts, int keypoints, const int* limbs, float* scores) {
    const size_t number = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float* field = fields + 2 * number * size.cells();
    const size_t first = (size_t)blockIdx.y * keypoints + limbs[2 * blockIdx.x];
    const size_t second = (size_t)blockIdx.y * keypoints + limbs[2 * blockIdx.x + 1];
    for (int pair = threadIdx.x; pair < MOST_PEAKS * MOST_PEAKS; pair += blockDim.x) {
        const int start = pair / MOST_PEAKS, end = pair % MOST_PEAKS;
        const bool exists = start < counts[first] && end < counts[second];
        scores[number * MOST_PEAKS * MOST_PEAKS + pair] =
            exists ? limb_score(field, field + size.cells(), size, peaks[first * MOST_PEAKS + start],
                                peaks[second * MOST_PEAKS + end])
                   : 0.0f;
    }
}

struct PeopleShared {
    Peak of_warps[SCENE_THREADS / 32];
    int person_of[MOST_KEYPOINTS * MOST_PEAKS];       // of each peak: the lowest of the peaks that it belongs to
    unsigned keypoints_of[MOST_KEYPOINTS * MOST_PEAKS];  // of each person, a bit a keypoint; 0 where there is none
    float score_of[MOST_KEYPOINTS * MOST_PEAKS];
};

__device__ __forceinline__ void every_peak_is_a_person(const ScenePeak* peaks, const int* counts, int all,
                                                       PeopleShared& shared) {
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        const bool exists = i % MOST_PEAKS < counts[i / MOST_PEAKS];
        shared.person_of[i] = i;
        shared.keypoints_of[i] = exists ? 1u << (i / MOST_PEAKS) : 0u;
        shared.score_of[i] = exists ? peaks[i].height : 0.0f;
    }
    __syncthreads();
}

// The likeliest limb between two people who have no keypoint in common.
__device__ __forceinline__ Peak likeliest_limb(const float* scores, const int* limbs, int limb_count,
                                               PeopleShared& shared) {
    Peak best = no_peak();
    for (int i = threadIdx.x; i < limb_count * MOST_PEAKS * MOST_PEAKS; i += blockDim.x) {
        const Peak here = {scores[i], i};
        if (!(here.height > 0) || !here.tops(best)) continue;
        const int limb = i / (MOST_PEAKS * MOST_PEAKS), pair = i % (MOST_PEAKS * MOST_PEAKS);
        const int one = shared.person_of[limbs[2 * limb] * MOST_PEAKS + pair / MOST_PEAKS];
        const int other = shared.person_of[limbs[2 * limb + 1] * MOST_PEAKS + pair % MOST_PEAKS];
        if (!(shared.keypoints_of[one] & shared.keypoints_of[other])) best = here;
    }
    return highest_of_block(best, shared.of_warps);
}

// What is not disjoint now never will be, so that as many rounds suffice as there are peaks.
__device__ __forceinline__ void join_people(const float* scores, const int* limbs, int limb_count, int all,
                                            PeopleShared& shared) {
    for (;;) {
        const Peak best = likeliest_limb(scores, limbs, limb_count, shared);
        if (best.at == NOWHERE) return;  // the same in all threads
        const int limb = best.at / (MOST_PEAKS * MOST_PEAKS), pair = best.at % (MOST_PEAKS * MOST_PEAKS);
        const int start = shared.person_of[limbs[2 * limb] * MOST_PEAKS + pair / MOST_PEAKS];
        const int end = shared.person_of[limbs[2 * limb + 1] * MOST_PEAKS + pair % MOST_PEAKS];
        const int kept = min(start, end), gone = max(start, end);
        __syncthreads();  // everybody has read start and end
        for (int i = threadIdx.x; i < all; i += blockDim.x)
            if (shared.person_of[i] == gone) shared.person_of[i] = kept;
        if (threadIdx.x == 0) {
            shared.keypoints_of[kept] |= shared.keypoints_of[gone];
            shared.score_of[kept] += shared.score_of[gone] + best.height;
            shared.keypoints_of[gone] = 0u;
        }
        __syncthreads();
    }
}

// One block per scene, blocks (N): people (N, most, keypoints, 3) in image pixels, the best first, and how many.
__device__ __forceinline__ void put_people_together(const ScenePeak* peaks, const int* counts, int keypoints,
                                                    const float* scores, const int* limbs, int limb_count,
                                                    const float* cell_to_image, int most, float* people, int* found,
                                                    PeopleShared& shared) {
    const int scene = blockIdx.x, all = keypoints * MOST_PEAKS;
    peaks += (size_t)scene * all, counts += scene * keypoints, people += (size_t)scene * most * keypoints * 3;
    every_peak_is_a_person(peaks, counts, all, shared);
    join_people(scores + (size_t)scene * limb_count * MOST_PEAKS * MOST_PEAKS, limbs, limb_count, all, shared);
    Peak last = {INFINITY, -1};
    int count = 0;
    for (; count < most; ++count) {
        Peak best = no_peak();
        for (int i = threadIdx.x; i < all; i += blockDim.x) {
            const int has = __popc(shared.keypoints_of[i]);
            const Peak here = {shared.score_of[i], i};
            if (has >= FEWEST_KEYPOINTS && here.height >= LOWEST_MEAN * has && last.tops(here) && here.tops(best))
                best = here;
        }
        last = highest_of_block(best, shared.of_warps);
        if (last.at == NOWHERE) break;  // the same in all threads
        for (int i = threadIdx.x; i < keypoints * 3; i += blockDim.x) people[count * keypoints * 3 + i] = 0.0f;
        __syncthreads();
        for (int i = threadIdx.x; i < all; i += blockDim.x) {
            if (shared.person_of[i] != last.at || i % MOST_PEAKS >= counts[i / MOST_PEAKS]) continue;
            const Point point = apply(cell_to_image + 6 * scene, peaks[i].x, peaks[i].y);
            float* place = people + (count * keypoints + i / MOST_PEAKS) * 3;
            place[0] = point.x, place[1] = point.y, place[2] = peaks[i].height;
        }
    }
    if (threadIdx.x == 0) found[scene] = count;
}
