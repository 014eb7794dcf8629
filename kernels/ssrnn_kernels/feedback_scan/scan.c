// The feedback scan for the CPU, float32: a thread takes a sequence and a block of units, and walks back in time.

#include <stdint.h>

#define BLOCK 256 // units: what is carried stays in the nearest cache

typedef struct {
    int64_t n_batch, n_steps, n_states, d, threads, varies;
    int64_t error_b, error_t, error_s, decay_b, decay_t, decay_i, decay_j; // strides; units lie side by side
    int64_t reset_b, reset_t, next_b, next_s, delta_b, delta_t, delta_s;
    const float *error, *decay; // (B, T, S, D); (B, T, S, S, D), or (S, S, D)
    const uint8_t *reset;       // (B, T), or null
    const float *next;          // (B, S, D), or null
    float *delta;               // (B, T, S, D)
} Scan;

// value_t = e_t + flow_t;  flow_{t-1}[j] = sum over i of decay_t[i, j] value_t[i], or 0 where step t starts a document.
static void one_state(const Scan *a, int64_t b, int64_t first, int64_t units) {
    float flow[BLOCK] = {0};
    if (a->next)
        for (int64_t k = 0; k < units; k++) flow[k] = a->next[b * a->next_b + first + k];
    for (int64_t t = a->n_steps; t-- > 0;) {
        const float *const error = a->error + b * a->error_b + t * a->error_t + first;
        const float *const decay = a->decay + (a->varies ? b * a->decay_b + t * a->decay_t : 0) + first;
        float *const delta = a->delta + b * a->delta_b + t * a->delta_t + first;
        const int starts = a->reset && a->reset[b * a->reset_b + t * a->reset_t];
        #pragma GCC ivdep
        for (int64_t k = 0; k < units; k++) {
            const float value = error[k] + flow[k];
            delta[k] = value;
            flow[k] = starts ? 0.0f : decay[k] * value;
        }
    }
}

static void two_states(const Scan *a, int64_t b, int64_t first, int64_t units) {
    float flow_0[BLOCK] = {0}, flow_1[BLOCK] = {0};
    if (a->next)
        for (int64_t k = 0; k < units; k++) {
            flow_0[k] = a->next[b * a->next_b + first + k];
            flow_1[k] = a->next[b * a->next_b + a->next_s + first + k];
        }
    for (int64_t t = a->n_steps; t-- > 0;) {
        const float *const error = a->error + b * a->error_b + t * a->error_t + first;
        const float *const d_00 = a->decay + (a->varies ? b * a->decay_b + t * a->decay_t : 0) + first;
        const float *const d_01 = d_00 + a->decay_j, *const d_10 = d_00 + a->decay_i, *const d_11 = d_10 + a->decay_j;
        float *const delta = a->delta + b * a->delta_b + t * a->delta_t + first;
        const int starts = a->reset && a->reset[b * a->reset_b + t * a->reset_t];
        #pragma GCC ivdep
        for (int64_t k = 0; k < units; k++) {
            const float v_0 = error[k] + flow_0[k], v_1 = error[a->error_s + k] + flow_1[k];
            delta[k] = v_0;
            delta[a->delta_s + k] = v_1;
            flow_0[k] = starts ? 0.0f : d_00[k] * v_0 + d_10[k] * v_1;
            flow_1[k] = starts ? 0.0f : d_01[k] * v_0 + d_11[k] * v_1;
        }
    }
}

void scan(const Scan *a) {
    const int64_t blocks = (a->d + BLOCK - 1) / BLOCK;
    #pragma omp parallel for num_threads(a->threads) if (a->threads > 1 && a->n_batch * blocks > 1)
    for (int64_t index = 0; index < a->n_batch * blocks; index++) {
        const int64_t b = index / blocks, first = index % blocks * BLOCK;
        const int64_t units = a->d - first < BLOCK ? a->d - first : BLOCK;
        if (a->n_states == 1) one_state(a, b, first, units);
        else two_states(a, b, first, units);
    }
}
