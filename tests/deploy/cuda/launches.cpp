// The kernels as functions that Python can call: grid and block as on a GPU, and the seed of the threads' order.
#include "gpu_of_fibers.h"

#include <utility>

#include "keypoints.cu"

#define LAUNCH(GRID, BLOCK, CALL) return gpu::launch(GRID, BLOCK, seed, [=] { CALL; })

extern "C" {
const char* emulator_error() { return gpu::error; }

#define TOP_DOWN_LAUNCHES(TYPE, SUFFIX)                                                                              \
    int run_heatmaps_##SUFFIX(unsigned seed, int n, int k, const TYPE* maps, float scale, int h, int w,              \
                              const float* to_image, int refine, const float* taps, int reach, float* keypoints) {   \
        LAUNCH(dim3(k, n), MAP_THREADS,                                                                              \
               decode_heatmaps_##SUFFIX(maps, scale, h, w, to_image, refine, taps, reach, keypoints));               \
    }                                                                                                                \
    int run_offsets_##SUFFIX(unsigned seed, int n, int k, const TYPE* maps, float scale, const TYPE* offsets,        \
                             float offset_scale, int h, int w, const float* to_image, float* keypoints) {            \
        LAUNCH(dim3(k, n), MAP_THREADS,                                                                              \
               decode_offsets_##SUFFIX(maps, scale, offsets, offset_scale, h, w, to_image, keypoints));              \
    }                                                                                                                \
    int run_simcc_##SUFFIX(unsigned seed, int n, int k, const TYPE* x, float scale_x, int bins_x, const TYPE* y,     \
                           float scale_y, int bins_y, const float* to_image, float* keypoints) {                     \
        LAUNCH(dim3(k, n), 64, decode_simcc_##SUFFIX(x, scale_x, bins_x, y, scale_y, bins_y, to_image, keypoints));  \
    }                                                                                                                \
    int run_coordinates_##SUFFIX(unsigned seed, int n, int k, const TYPE* coordinates, float scale,                  \
                                 const float* to_image, float* keypoints) {                                          \
        LAUNCH(dim3(k, n), 32, decode_coordinates_##SUFFIX(coordinates, scale, to_image, keypoints));                \
    }                                                                                                                \
    int run_means_##SUFFIX(unsigned seed, int n, int k, const TYPE* maps, float scale, int h, int w,                 \
                           const float* to_image, float sharpest, float* keypoints) {                                \
        LAUNCH(dim3(k, n), MAP_THREADS, decode_means_##SUFFIX(maps, scale, h, w, to_image, sharpest, keypoints));    \
    }

TOP_DOWN_LAUNCHES(float, f32)
TOP_DOWN_LAUNCHES(Half, f16)
TOP_DOWN_LAUNCHES(signed char, i8)

int run_scene_peaks(unsigned seed, int n, int k, const float* maps, int channels, int h, int w, ScenePeak* peaks,
                    int* counts) {
    LAUNCH(dim3(k, n), SCENE_THREADS, find_scene_peaks(maps, 1.0f, channels, h, w, peaks, counts));
}

int run_scene_limbs(unsigned seed, int n, int limb_count, const float* fields, int h, int w, const ScenePeak* peaks,
                    const int* counts, int keypoints, const int* limbs, float* scores) {
    LAUNCH(dim3(limb_count, n), SCENE_THREADS,
           score_scene_limbs(fields, h, w, peaks, counts, keypoints, limbs, scores));
}

int run_people(unsigned seed, int n, const ScenePeak* peaks, const int* counts, int keypoints, const float* scores,
               const int* limbs, int limb_count, const float* to_image, int most, float* people, int* found) {
    LAUNCH(dim3(n), SCENE_THREADS, assemble_people(peaks, counts, keypoints, scores, limbs, limb_count, to_image, most,
                                                   people, found));
}

int run_crop(unsigned seed, int n, const unsigned char* pixels, int height, int width, const float* to_image, int h,
             int w, const Normalisation* to_input, int nearest, float* inputs) {
    const Normalisation normalisation = *to_input;
    LAUNCH(dim3((h * w + CROP_THREADS - 1) / CROP_THREADS, n), CROP_THREADS,
           crop_pictures(pixels, height, width, 3 * width, to_image, h, w, normalisation, nearest, inputs));
}
}

// As cuLaunchKernel is called: a kernel by its name, and the addresses of its arguments.
template <class... Arguments, size_t... At>
int launch_by_addresses(void (*kernel)(Arguments...), dim3 grid, dim3 block, unsigned seed, void** addresses,
                        std::index_sequence<At...>) {
    return gpu::launch(grid, block, seed, [=] { kernel(*(Arguments*)addresses[At]...); });
}

template <class... Arguments>
int launch_by_addresses(void (*kernel)(Arguments...), dim3 grid, dim3 block, unsigned seed, void** addresses) {
    return launch_by_addresses(kernel, grid, block, seed, addresses, std::index_sequence_for<Arguments...>());
}

#define KERNEL(NAME) \
    if (!strcmp(name, #NAME)) return launch_by_addresses(NAME, dim3(x, y), dim3(block), seed, addresses);
#define KERNELS_OF_A_TYPE(SUFFIX) \
    KERNEL(decode_heatmaps_##SUFFIX) KERNEL(decode_offsets_##SUFFIX) KERNEL(decode_simcc_##SUFFIX) \
    KERNEL(decode_coordinates_##SUFFIX) KERNEL(decode_means_##SUFFIX)

extern "C" int launch_kernel(const char* name, unsigned seed, unsigned x, unsigned y, unsigned block,
                             void** addresses) {
    KERNELS_OF_A_TYPE(f32)
    KERNELS_OF_A_TYPE(f16)
    KERNELS_OF_A_TYPE(i8)
    KERNEL(find_scene_peaks) KERNEL(score_scene_limbs) KERNEL(assemble_people) KERNEL(crop_pictures)
    snprintf(gpu::error, sizeof gpu::error, "no kernel %s", name);
    return 1;
}
