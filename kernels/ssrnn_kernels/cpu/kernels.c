// A cell's kernels for the CPU: the forward over a window, a pass back in time, BPTT. float32.
// source.py puts in what the cell is: $name, its counts, and its functions for one unit where $$step and $$back stand.
//
// T time, B batch, R rows of W_hh, K units a head, D units, S states·units. A gate's row: (head · GATES + gate) · K +
// unit of the head; state or saved value i of a unit: i · D + unit.
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define GATES $gates
#define STATES $states
#define SAVED $saved
#define ALWAYS static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 32")
#define MANY(a) ((a)->threads > 1 && (a)->n_batch * (a)->n_heads * (a)->head_size > 2048)  // worth waking threads for

#if defined(__AVX512F__)
#define LANES 16
#define SUMS 24  // vector registers that hold sums of products
#elif defined(__AVX__)
#define LANES 8
#define SUMS 12
#else
#define LANES 4
#define SUMS 12
#endif
#define MOST_ROWS 8  // sequences at once; as many cases stand in FOR_ALL_ROWS
#define ROWS_OF(wide) (SUMS / (wide) < 1 ? 1 : SUMS / (wide) < MOST_ROWS ? SUMS / (wide) : MOST_ROWS)
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));

// exp as in Cephes (Moshier), without branches so that it vectorises: within 2 ulp where float32 has no overflow.
ALWAYS float exp_(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}
ALWAYS float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }
// tanh as in Cephes: an odd polynomial near zero, where the other form would cancel; within 4 ulp.
ALWAYS float tanh_(float x) {
    const float z = x * x, far = 1.0f - 2.0f / (exp_(2.0f * x) + 1.0f);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return z < 0.390625f ? x + x * (z * p) : far;
}

// ---- The small products of a step. A block is LANES units of one head; a head's last block may be short.

typedef struct {
    int64_t head, start, units;
} Block;

int64_t lanes(void) { return LANES; }

ALWAYS int64_t blocks_of_head(int64_t head_size) { return (head_size + LANES - 1) / LANES; }

ALWAYS Block block_at(int64_t index, int64_t head_size) {
    const int64_t blocks = blocks_of_head(head_size), start = index % blocks * LANES;
    return (Block){index / blocks, start, head_size - start < LANES ? head_size - start : LANES};
}

// products (rows, wide, LANES) = weights (n_inputs, wide, LANES) times inputs[row] (n_inputs): the sums stay in registers,
// each in the order of its inputs, so that a sequence's numbers do not depend on those beside it.
ALWAYS void multiply(const float *weights, const float *const *inputs, int64_t n_inputs, float *products,
                     const int rows, const int wide) {
    Lanes sums[MOST_ROWS][GATES];
    UNROLLED for (int b = 0; b < rows; b++)
        UNROLLED for (int g = 0; g < wide; g++) sums[b][g] = (Lanes){0};
    for (int64_t n = 0; n < n_inputs; n++) {
        Lanes weight[GATES];
        UNROLLED for (int g = 0; g < wide; g++) weight[g] = *(const Lanes *)(weights + (n * wide + g) * LANES);
        UNROLLED for (int b = 0; b < rows; b++)
            UNROLLED for (int g = 0; g < wide; g++) sums[b][g] += weight[g] * inputs[b][n];
    }
    UNROLLED for (int b = 0; b < rows; b++)
        UNROLLED for (int g = 0; g < wide; g++) *(Lanes *)(products + (b * wide + g) * LANES) = sums[b][g];
}

#define CASE(n, wide) \
    case n: if (n <= ROWS_OF(wide)) multiply(weights, inputs, n_inputs, products, n, wide); break;
#define FOR_ALL_ROWS(wide) \
    switch (rows) { \
        CASE(1, wide) CASE(2, wide) CASE(3, wide) CASE(4, wide) CASE(5, wide) CASE(6, wide) CASE(7, wide) CASE(8, wide) \
    }

static void multiply_gates(const float *weights, const float *const *inputs, int64_t n_inputs, float *products, int rows) {
    FOR_ALL_ROWS(GATES)
}

static void multiply_units(const float *weights, const float *const *inputs, int64_t n_inputs, float *products, int rows) {
    FOR_ALL_ROWS(1)
}

// The same products from the weights as they stand, (GATES, K, n_inputs) of a head, one dot product each: what a token
// needs, whose few products would not pay for weights in blocks.
static void multiply_as_they_stand(const float *weights, const float *const *inputs, int64_t n_inputs, float *products,
                                   int rows, Block block) {
    for (int b = 0; b < rows; b++)
        for (int g = 0; g < GATES; g++)
            for (int64_t k = 0; k < block.units; k++) {
                const float *const row = weights + (g * n_inputs + block.start + k) * n_inputs, *const input = inputs[b];
                float sum = 0.0f;
                #pragma omp simd reduction(+ : sum)
                for (int64_t n = 0; n < n_inputs; n++) sum += row[n] * input[n];
                products[(b * GATES + g) * LANES + k] = sum;
            }
}

// Come, and wait until so many have come since the window began. OpenMP's own barrier spins for a scheduler's tick
// (4 ms a step) where a busy machine has put two of the threads on one core; this one lets the other thread go on.
#define SPINS 1000
static void meet(_Atomic int64_t *came, int64_t all) {
    atomic_fetch_add_explicit(came, 1, memory_order_acq_rel);
    for (int spins = 0; atomic_load_explicit(came, memory_order_acquire) < all; spins++)
        if (spins >= SPINS) sched_yield();
}

// All steps of a window: a thread keeps its blocks, and so their weights in its cache, and waits for the others once a step.
#define BY_BLOCKS(a, over_time, of_block)                                                       \
    const int64_t blocks = (a)->n_heads * blocks_of_head((a)->head_size);                       \
    _Atomic int64_t came = 0;                                                                   \
    _Pragma("omp parallel num_threads(a->threads) if (blocks > 1 && MANY(a))") {                \
        const int64_t id = omp_get_thread_num(), threads = omp_get_num_threads();               \
        const int64_t begin = blocks * id / threads, end = blocks * (id + 1) / threads;         \
        int64_t all = 0;                                                                        \
        over_time {                                                                             \
            for (int64_t index = begin; index < end; index++) of_block(a, t, index);            \
            meet(&came, all += threads);                                                        \
        }                                                                                       \
    }

// ---- The forward.

typedef struct {
    int64_t n_steps, n_batch, n_heads, head_size, threads, saves, in_blocks;
    const float *x, *weights, *bias, *zeros;  // (T, B, R); (R, K), or (heads, blocks, K, GATES, LANES); (R); (S)
    const uint8_t *reset;                     // (T, B), or null
    float *states, *saved;                    // (T + 1, B, S); (T, B, SAVED, D)
} Forward;

ALWAYS void step_units(const Forward *a, int64_t t, int64_t b, Block block, int64_t units, const float *previous,
                       const float *product) {
    const int64_t K = a->head_size, D = a->n_heads * K, R = GATES * D, S = STATES * D;
    const float *const x = a->x + (t * a->n_batch + b) * R, *const bias = a->bias;
    float *const state = a->states + ((t + 1) * a->n_batch + b) * S;
    float *const saved = a->saved + ((a->saves ? t * a->n_batch : 0) + b) * SAVED * D;
    #pragma GCC ivdep
    for (int64_t k = 0; k < units; k++) {
        const int64_t unit = block.head * K + block.start + k, row = block.head * GATES * K + block.start + k;
        $step
    }
}

static void step_block(const Forward *a, int64_t t, int64_t index) {
    const int64_t K = a->head_size, S = STATES * a->n_heads * K;
    const Block block = block_at(index, K);
    const float *const weights = a->weights + index * K * GATES * LANES;
    const float *previous[MOST_ROWS], *inputs[MOST_ROWS];
    float products[MOST_ROWS * GATES * LANES];
    for (int64_t first = 0; first < a->n_batch; first += ROWS_OF(GATES)) {
        const int rows = a->n_batch - first < ROWS_OF(GATES) ? (int)(a->n_batch - first) : ROWS_OF(GATES);
        for (int b = 0; b < rows; b++) {
            const int64_t here = t * a->n_batch + first + b;
            previous[b] = a->reset && a->reset[here] ? a->zeros : a->states + here * S;
            inputs[b] = previous[b] + block.head * K;
        }
        if (a->in_blocks) multiply_gates(weights, inputs, K, products, rows);
        else multiply_as_they_stand(a->weights + block.head * GATES * K * K, inputs, K, products, rows, block);
        for (int b = 0; b < rows; b++) {
            const float *const product = products + b * GATES * LANES;
            if (block.units == LANES) step_units(a, t, first + b, block, LANES, previous[b], product);
            else step_units(a, t, first + b, block, block.units, previous[b], product);
        }
    }
}

void forward(const Forward *a) { BY_BLOCKS(a, for (int64_t t = 0; t < a->n_steps; t++), step_block) }

// ---- Back in time: a pass of feedback, which needs no product, and BPTT, which needs one a step.

typedef struct {
    int64_t n_steps, n_batch, n_heads, head_size, threads;
    const float *states, *saved, *own_weights, *decay;  // (T + 1, B, S), (T, B, SAVED, D), (GATES, D), (N, N, D)
    const uint8_t *reset;                               // (T, B), or null
    const float *error, *flow, *rest_before, *zeros;    // (T, B, S); (T, B, D) and (T, B, S) of the pass before; (S)
    float *delta, *gates, *inputs, *rest, *carry;       // (T, B, S): grows; (T, B, R) twice, (T, B, S), (B, S): in, out
    double *squares;                                    // (B, 2): of what this pass adds, and of the sum
    const float *weights;                               // BPTT: (heads, blocks, GATES · K, LANES)
} Pass;

ALWAYS int ends(const Pass *a, int64_t t, int64_t b) {
    return t + 1 == a->n_steps || (a->reset && a->reset[(t + 1) * a->n_batch + b]);
}

// flow, by unit: what W_hh sends back from the step after.
ALWAYS void pass_units(const Pass *a, int64_t t, int64_t b, Block block, const float *flow, const int selective,
                       const int first, const int last, const int rests, double *squares) {
    const int64_t K = a->head_size, D = a->n_heads * K, R = GATES * D, S = STATES * D;
    const int64_t here = t * a->n_batch + b, next = here + a->n_batch;
    const int starts = a->reset && a->reset[here];
    const float *const before = starts ? a->zeros : a->states + here * S;
    const float *const after = a->states + next * S;
    const float *const saved = a->saved + here * SAVED * D;
    const float *const error = first ? a->error + here * S : a->zeros;
    const float *const rest_before = !rests || first || ends(a, t, b) ? a->zeros : a->rest_before + next * S;
    float *const delta = a->delta + here * S, *const gates = a->gates + here * R, *const carry = a->carry + b * S;
    const float *const summed = first ? a->zeros : delta;
    float *const inputs = a->inputs + here * R, *const rest = a->rest + here * S;
    const float *const own_weights = a->own_weights, *const decay = a->decay;
    const int64_t first_unit = block.head * K + block.start, first_row = block.head * GATES * K + block.start;
    float added = 0.0f, total = 0.0f;
    #pragma omp simd reduction(+ : added, total)
    for (int64_t k = 0; k < block.units; k++) {
        const int64_t unit = first_unit + k, row = first_row + k;
        $back
    }
    if (starts)
        for (int i = 0; i < STATES; i++) memset(carry + first_unit + i * D, 0, block.units * sizeof *carry);
    squares[0] += added;
    squares[1] += total;
}

ALWAYS void pass_row(const Pass *a, int64_t t, int64_t b, const int selective, const int first, const int last,
                     const int rests, double *squares) {
    const int64_t K = a->head_size, D = a->n_heads * K;
    const float *const flow = first || ends(a, t, b) ? a->zeros : a->flow + ((t + 1) * a->n_batch + b) * D;
    for (int64_t h = 0; h < a->n_heads; h++)
        pass_units(a, t, b, (Block){h, 0, K}, flow, selective, first, last, rests, squares);
}

#define PASS(selective, first, last, rests) \
    for (int64_t t = a->n_steps; t-- > 0;) pass_row(a, t, b, selective, first, last, rests, squares)

// One pass back in time: value_t = e_t + carry_t, carry_{t-1} = D_tᵀ value_t.
void pass_back(const Pass *a, int64_t selective, int64_t first, int64_t last) {
    #pragma omp parallel for num_threads(a->threads) if (a->threads > 1)
    for (int64_t b = 0; b < a->n_batch; b++) {
        double squares[2] = {0.0, 0.0};
        if (selective) {
            if (first && last) PASS(1, 1, 1, 0);
            else if (first) PASS(1, 1, 0, 0);
            else if (last) PASS(1, 0, 1, 0);
            else PASS(1, 0, 0, 0);
        } else {
            if (first && last) PASS(0, 1, 1, 0);
            else if (first) PASS(0, 1, 0, 1);
            else if (last) PASS(0, 0, 1, 1);
            else PASS(0, 0, 0, 1);
        }
        a->squares[2 * b] = squares[0];
        a->squares[2 * b + 1] = squares[1];
    }
}

// A step of BPTT for one block: own_weights is zero, so that what is carried is what passes beside W_hh.
static void bptt_block(const Pass *a, int64_t t, int64_t index) {
    const int64_t K = a->head_size, n_inputs = GATES * K;
    const Block block = block_at(index, K);
    const int64_t first_unit = block.head * K + block.start;
    const float *const weights = a->weights + index * n_inputs * LANES;
    const float *inputs[MOST_ROWS];
    float products[MOST_ROWS * LANES];
    double squares[2] = {0.0, 0.0};
    for (int64_t first = 0; first < a->n_batch; first += ROWS_OF(1)) {
        const int rows = a->n_batch - first < ROWS_OF(1) ? (int)(a->n_batch - first) : ROWS_OF(1);
        for (int b = 0; b < rows; b++) {
            const int64_t next = (t + 1) * a->n_batch + first + b;
            inputs[b] = a->gates + next * GATES * a->n_heads * K + block.head * n_inputs;
        }
        if (t + 1 < a->n_steps) multiply_units(weights, inputs, n_inputs, products, rows);
        for (int b = 0; b < rows; b++) {
            const float *const flow = ends(a, t, first + b) ? a->zeros : products + b * LANES - first_unit;
            pass_units(a, t, first + b, block, flow, 1, 1, 1, 0, squares);
        }
    }
}

void bptt(const Pass *a) { BY_BLOCKS(a, for (int64_t t = a->n_steps; t-- > 0;), bptt_block) }
