// The kernels by their names: everything that happens between a picture, a network and keypoints on a GPU.
// Compiled where it runs, by nvcc or NVRTC; and by g++ with a header that stands for the GPU, in the tests.
#include "crop.cuh"
#include "scene.cuh"
#include "top_down.cuh"

#define TOP_DOWN(TYPE, SUFFIX)                                                                                        \
    extern "C" __global__ void __launch_bounds__(MAP_THREADS) decode_heatmaps_##SUFFIX(                               \
        const TYPE* maps, float scale, int height, int width, const float* cell_to_image, int refine,                 \
        const float* taps, int reach, float* keypoints) {                                                             \
        __shared__ HeatmapShared shared;                                                                              \
        decode_heatmap(Stored<TYPE>{maps, scale}, MapSize{height, width}, cell_to_image, (Refine)refine, taps, reach, \
                       keypoints, shared);                                                                            \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(MAP_THREADS) decode_offsets_##SUFFIX(                                \
        const TYPE* maps, float scale, const TYPE* offsets, float offset_scale, int height, int width,                \
        const float* cell_to_image, float* keypoints) {                                                               \
        __shared__ Peak of_warps[MAP_THREADS / 32];                                                                   \
        decode_heatmap_and_offset(Stored<TYPE>{maps, scale}, Stored<TYPE>{offsets, offset_scale},                     \
                                  MapSize{height, width}, cell_to_image, keypoints, of_warps);                        \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(MAP_THREADS) decode_means_##SUFFIX(                                  \
        const TYPE* maps, float scale, int height, int width, const float* cell_to_image, float sharpest,             \
        float* keypoints) {                                                                                           \
        __shared__ MeanShared shared;                                                                                 \
        decode_mean(Stored<TYPE>{maps, scale}, MapSize{height, width}, cell_to_image, sharpest, keypoints, shared);   \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(64) decode_simcc_##SUFFIX(                                           \
        const TYPE* x, float scale_x, int bins_x, const TYPE* y, float scale_y, int bins_y,                           \
        const float* bin_to_image, float* keypoints) {                                                                \
        __shared__ Peak of_axes[2];                                                                                   \
        decode_bins(Stored<TYPE>{x, scale_x}, bins_x, Stored<TYPE>{y, scale_y}, bins_y, bin_to_image, keypoints,      \
                    of_axes);                                                                                         \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(32) decode_coordinates_##SUFFIX(                                     \
        const TYPE* coordinates, float scale, const float* fraction_to_image, float* keypoints) {                     \
        decode_coordinate(Stored<TYPE>{coordinates, scale}, fraction_to_image, keypoints);                            \
    }

TOP_DOWN(float, f32)
TOP_DOWN(Half, f16)
TOP_DOWN(signed char, i8)

extern "C" __global__ void __launch_bounds__(SCENE_THREADS) find_scene_peaks(
    const float* maps, float scale, int channels, int height, int width, ScenePeak* peaks, int* counts) {
    __shared__ Peak of_warps[SCENE_THREADS / 32];
    find_peaks(Stored<float>{maps, scale}, channels, MapSize{height, width}, peaks, counts, of_warps);
}

extern "C" __global__ void __launch_bounds__(SCENE_THREADS) score_scene_limbs(
    const float* fields, int height, int width, const ScenePeak* peaks, const int* counts, int keypoints,
    const int* limbs, float* scores) {
    score_limbs(fields, MapSize{height, width}, peaks, counts, keypoints, limbs, scores);
}

extern "C" __global__ void __launch_bounds__(SCENE_THREADS) assemble_people(
    const ScenePeak* peaks, const int* counts, int keypoints, const float* scores, const int* limbs, int limb_count,
    const float* cell_to_image, int most, float* people, int* found) {
    __shared__ PeopleShared shared;
    put_people_together(peaks, counts, keypoints, scores, limbs, limb_count, cell_to_image, most, people, found, shared);
}

extern "C" __global__ void __launch_bounds__(CROP_THREADS) crop_pictures(
    const unsigned char* pixels, int picture_height, int picture_width, int row_bytes, const float* input_to_image,
    int height, int width, Normalisation to_input, int nearest, float* inputs) {
    crop_and_normalise(Picture{pixels, picture_height, picture_width, row_bytes}, input_to_image, height, width,
                       to_input, nearest != 0, inputs);
}
