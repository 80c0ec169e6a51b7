// A GPU of one block: runs CUDA kernels on a CPU, the threads of a block as fibers that switch at barriers.
//
// What a real GPU forgives by luck is found here: shared memory is poisoned before every block, the order of the
// threads changes after every barrier, warps fall behind at random, and threads that wait at different barriers are an
// error, not a hang.
// The source is compiled by g++ as it is; the names of CUDA that it uses are defined below.
#pragma once
#define EMULATED

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("block_memory")))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern "C" char __start_block_memory[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_block_memory[] __attribute__((weak, visibility("hidden")));

namespace gpu {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 128 << 10;
constexpr int MOST_ROUNDS = 100000;  // of all threads to their next barrier; whoever needs more does not end
constexpr int ROUNDS_ASLEEP = 16;  // of a warp, on average
constexpr int POISON = 0xFF;  // NaN as a float, -1 as an int

enum class State { RUNNING, AT_BLOCK_BARRIER, AT_WARP_BARRIER, PASSED, DONE };

struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK_BYTES);
    dim3 index;
    int number;
    State state;
    int barrier;     // which one in the source: __COUNTER__, as g++ may duplicate the call itself
    unsigned lanes;  // of the warp that meet there
    uint64_t given;  // to the other lanes
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline Thread* current;
inline dim3 block_index, block_size, grid_size;
inline std::function<void()> kernel;
inline char error[256];

inline void run_thread() {
    kernel();
    current->state = State::DONE;
    swapcontext(&current->context, &scheduler);
}

inline void wait(State where, int barrier, unsigned lanes) {
    current->state = where, current->barrier = barrier, current->lanes = lanes;
    swapcontext(&current->context, &scheduler);
}

inline bool fail(const char* what, const Thread& one, const Thread& other) {
    snprintf(error, sizeof error, "%s: threads %d and %d of block (%u, %u, %u)", what, one.number, other.number,
             block_index.x, block_index.y, block_index.z);
    return false;
}

inline void start_threads() {
    for (int i = 0; i < (int)threads.size(); ++i) {
        Thread& thread = threads[i];
        thread.number = i, thread.state = State::RUNNING, thread.given = 0;
        thread.index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y));
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data(), thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run_thread, 0);
    }
}

// Lets the lanes of a warp pass that all wait at one barrier; `opened` says whether some did.
inline bool open_warp_barriers(bool& opened) {
    for (Thread& thread : threads) {
        if (thread.state != State::AT_WARP_BARRIER) continue;
        const int first = thread.number / WARP * WARP;
        bool complete = true;
        for (int lane = 0; lane < WARP && first + lane < (int)threads.size(); ++lane) {
            if (!(thread.lanes >> lane & 1)) continue;
            const Thread& other = threads[first + lane];
            if (other.state == State::DONE) return fail("a warp waits for a lane that has ended", thread, other);
            if (other.state == State::AT_WARP_BARRIER && other.barrier != thread.barrier)
                return fail("lanes of a warp wait at different places", thread, other);
            complete &= other.state == State::AT_WARP_BARRIER;
        }
        for (int lane = 0; complete && lane < WARP && first + lane < (int)threads.size(); ++lane)
            if (thread.lanes >> lane & 1) threads[first + lane].state = State::PASSED;
        opened |= complete;
    }
    return true;
}

// Lets the block pass once all of its threads wait at one __syncthreads.
inline bool open_block_barrier(bool& opened) {
    const auto waits = [](const Thread& thread) { return thread.state == State::AT_BLOCK_BARRIER; };
    const auto first = std::find_if(threads.begin(), threads.end(), waits);
    if (first == threads.end()) return true;
    for (const Thread& thread : threads) {
        if (thread.state == State::DONE) return fail("__syncthreads after a thread has ended", *first, thread);
        if (!waits(thread)) return true;  // it will come
        if (thread.barrier != first->barrier) return fail("threads wait at different __syncthreads", *first, thread);
    }
    for (Thread& thread : threads) thread.state = State::PASSED;
    opened = true;
    return true;
}

inline bool run_block(std::mt19937& random) {
    if (__start_block_memory) memset(__start_block_memory, POISON, __stop_block_memory - __start_block_memory);
    start_threads();
    std::vector<int> order(threads.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    unsigned awake = ~0u;  // warps, by number modulo 32; the others fall behind
    for (int round = 0; round < MOST_ROUNDS; ++round) {
        std::shuffle(order.begin(), order.end(), random);
        if (random() % ROUNDS_ASLEEP == 0) awake = random();
        bool ran = false, slept = false;
        for (int i : order) {
            if (threads[i].state != State::RUNNING) continue;
            if (!(awake >> (i / WARP % WARP) & 1)) {
                slept = true;
                continue;
            }
            ran = true, current = &threads[i];
            swapcontext(&scheduler, &current->context);
        }
        if (!ran) awake = ~0u;
        if (std::all_of(threads.begin(), threads.end(), [](const Thread& t) { return t.state == State::DONE; }))
            return true;
        bool opened = false;
        if (!open_warp_barriers(opened) || !open_block_barrier(opened)) return false;
        if (!opened && !slept) return fail("nothing can go on", threads.front(), threads.back());
        for (Thread& thread : threads)
            if (thread.state == State::PASSED) thread.state = State::RUNNING;
    }
    return fail("no end in sight", threads.front(), threads.back());
}

// Runs all blocks, one after the other; 0, or 1 with the reason in `error`.
inline int launch(dim3 grid, dim3 block, unsigned seed, std::function<void()> call) {
    grid_size = grid, block_size = block, kernel = std::move(call), error[0] = 0;
    threads.resize(block.x * block.y * block.z);
    std::mt19937 random(seed);
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                block_index = dim3(x, y, z);
                if (!run_block(random)) return 1;
            }
    return 0;
}

template <class T>
T shuffle_xor(int barrier, unsigned lanes, T value, int distance) {
    memcpy(&current->given, &value, sizeof value);
    wait(State::AT_WARP_BARRIER, barrier, lanes);
    const int source = current->number ^ distance;
    if (source < (int)threads.size()) memcpy(&value, &threads[source].given, sizeof value);
    wait(State::AT_WARP_BARRIER, barrier + 1, lanes);  // nobody gives anew before all have taken
    return value;
}

}  // namespace gpu

#define threadIdx (gpu::current->index)
#define blockIdx gpu::block_index
#define blockDim gpu::block_size
#define gridDim gpu::grid_size
#define __syncthreads() gpu::wait(gpu::State::AT_BLOCK_BARRIER, 2 * __COUNTER__, 0)
#define __shfl_xor_sync(lanes, value, distance) gpu::shuffle_xor(2 * __COUNTER__, lanes, value, distance)

using std::max;
using std::min;
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __float2int_rn(float value) { return (int)nearbyintf(value); }

struct Half {
    uint16_t bits;
};
inline float to_float(Half half) {
    const float sign = half.bits >> 15 ? -1.0f : 1.0f;
    const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24));
}
