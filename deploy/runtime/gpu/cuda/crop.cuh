// Crops of an image as a network's input: warped, padded and normalised in one pass, as edgekp/preprocess.py does it.
#pragma once
#include "numbers.cuh"

constexpr int CROP_THREADS = 256;
constexpr float FAR_OUTSIDE = 1e9f;  // pixels; further away, and NaN, is no place that an int can hold

struct Picture {
    const unsigned char* pixels;  // (height, width, 3), rows of `row_bytes`
    int height, width, row_bytes;
};

// How a channel of the input is made: from channel `source` of the picture.
struct Normalisation {
    float mean[3], deviation[3], pad[3];
    int source[3];
};

__device__ __forceinline__ float channel_at(const Picture& picture, int x, int y, int channel, float pad) {
    const bool inside = x >= 0 && y >= 0 && x < picture.width && y < picture.height;
    return inside ? (float)picture.pixels[(size_t)y * picture.row_bytes + 3 * x + channel] : pad;
}

// Bilinear between the four pixels around (x, y), rounded to a byte, since the host's crops are bytes.
__device__ __forceinline__ float between_pixels(const Picture& picture, float x, float y, int channel, float pad) {
    const float left = floorf(x), top = floorf(y), across = x - left, down = y - top;
    const int column = (int)left, row = (int)top;
    const float above = fmaf(across, channel_at(picture, column + 1, row, channel, pad)
                                     - channel_at(picture, column, row, channel, pad),
                             channel_at(picture, column, row, channel, pad));
    const float below = fmaf(across, channel_at(picture, column + 1, row + 1, channel, pad)
                                     - channel_at(picture, column, row + 1, channel, pad),
                             channel_at(picture, column, row + 1, channel, pad));
    return rintf(fmaf(down, below - above, above));
}

// Inputs (N, 3, height, width) from N affines (2 x 3) that take input pixels to image pixels; blocks (cells, N).
__device__ __forceinline__ void crop_and_normalise(const Picture& picture, const float* input_to_image, int height,
                                                   int width, const Normalisation& to_input, bool nearest,
                                                   float* inputs) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= height * width) return;
    Point place = apply(input_to_image + 6 * blockIdx.y, at % width, at / width);
    if (!(fabsf(place.x) < FAR_OUTSIDE && fabsf(place.y) < FAR_OUTSIDE)) place = {-FAR_OUTSIDE, -FAR_OUTSIDE};
    for (int channel = 0; channel < 3; ++channel) {
        const int source = to_input.source[channel];
        const float pad = to_input.pad[channel];
        const float value = nearest ? channel_at(picture, (int)rintf(place.x), (int)rintf(place.y), source, pad)
                                    : between_pixels(picture, place.x, place.y, source, pad);
        inputs[((size_t)blockIdx.y * 3 + channel) * height * width + at] =
            (value - to_input.mean[channel]) / to_input.deviation[channel];
    }
}
