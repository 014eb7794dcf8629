"""The C source of a cell's kernels: its traced functions in two loops, a step of the forward and a pass back in time.

Imports the tracing. A gate's row: (head · gates + gate) · units a head + unit; state or saved value i: i · D + unit."""

from string import Template

from ssrnn_kernels.cell import Cell, Values, is_zero
from ssrnn_kernels.tracing import Trace, name_of

INDENT = "\n            "
C_FUNCTIONS = {"sigmoid": "sigmoid_", "tanh": "tanh_"}

SOURCE = Template("""
// Written by ssrnn_kernels/cpu/source.py from the cell '$name'.
#include <stdint.h>
#include <string.h>
#define GATES $gates
#define STATES $states
#define SAVED $saved
#define ALWAYS static inline __attribute__((always_inline))

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
ALWAYS float tanh_(float x) { return 1.0f - 2.0f / (exp_(2.0f * x) + 1.0f); }

typedef struct {
    int64_t n_batch, n_heads, head_size, threads, saves, product_b, product_r;
    const float *x, *product, *bias;  // (T, B, R); W h of this step; (R)
    float *states, *saved, *row;      // (T + 1, B, S); (T, B, SAVED, D); (B, R), to turn a transposed product in
} Step;

ALWAYS void step_row(const Step *a, int64_t t, int64_t b, const float *before, const float *product) {
    const int64_t K = a->head_size, D = a->n_heads * K, R = GATES * D, S = STATES * D;
    const float *const x = a->x + (t * a->n_batch + b) * R, *const bias = a->bias;
    const float *const previous = before + b * S;
    float *const state = a->states + ((t + 1) * a->n_batch + b) * S;
    float *const saved = a->saved + ((a->saves ? t * a->n_batch : 0) + b) * SAVED * D;
    for (int64_t h = 0; h < a->n_heads; h++) {
        #pragma GCC ivdep
        for (int64_t k = 0; k < K; k++) {
            const int64_t unit = h * K + k, row = h * GATES * K + k;
            $step
        }
    }
}

// Step t: before is the state that it starts from, (B, S).
void step(const Step *a, int64_t t, const float *before) {
    const int64_t R = GATES * a->n_heads * a->head_size;
    const int many = a->threads > 1 && a->n_batch * a->n_heads * a->head_size > 2048;
    #pragma omp parallel for num_threads(a->threads) if (many)
    for (int64_t b = 0; b < a->n_batch; b++) {
        const float *product = a->product + b * a->product_b;
        if (a->product_r != 1) {
            float *const turned = a->row + b * R;
            for (int64_t r = 0; r < R; r++) turned[r] = product[r * a->product_r];
            product = turned;
        }
        step_row(a, t, b, before, product);
    }
}

typedef struct {
    int64_t n_steps, n_batch, n_heads, head_size, threads;
    const float *states, *saved, *own_weights, *decay;  // (T + 1, B, S), (T, B, SAVED, D), (GATES, D), (N, N, D)
    const uint8_t *reset;                               // (T, B), or null
    const float *error, *flow, *rest_before, *zeros;    // (T, B, S); (T, B, D) and (T, B, S) of the pass before; (S)
    float *delta, *gates, *inputs, *rest, *carry;       // (T, B, S): grows; (T, B, R) twice, (T, B, S), (B, S)
    double *squares;                                    // (B, 2): of what this pass adds, and of the sum
} Pass;

ALWAYS void pass_row(const Pass *a, int64_t t, int64_t b, const int selective, const int first, const int last,
                     const int rests, double *squares) {
    const int64_t K = a->head_size, D = a->n_heads * K, R = GATES * D, S = STATES * D;
    const int64_t here = t * a->n_batch + b, next = here + a->n_batch;
    const int starts = a->reset && a->reset[here];
    const int ends = t + 1 == a->n_steps || (a->reset && a->reset[next]);
    const float *const before = starts ? a->zeros : a->states + here * S;
    const float *const after = a->states + next * S;
    const float *const saved = a->saved + here * SAVED * D;
    const float *const error = first ? a->error + here * S : a->zeros;
    const float *const flow = first || ends ? a->zeros : a->flow + next * D;
    const float *const rest_before = !rests || first || ends ? a->zeros : a->rest_before + next * S;
    float *const delta = a->delta + here * S, *const gates = a->gates + here * R, *const carry = a->carry + b * S;
    const float *const summed = first ? a->zeros : delta;
    float *const inputs = a->inputs + here * R, *const rest = a->rest + here * S;
    const float *const own_weights = a->own_weights, *const decay = a->decay;
    float added = 0.0f, total = 0.0f;
    for (int64_t h = 0; h < a->n_heads; h++) {
        #pragma omp simd reduction(+ : added, total)
        for (int64_t k = 0; k < K; k++) {
            const int64_t unit = h * K + k, row = h * GATES * K + k;
            $back
        }
    }
    if (starts) memset(carry, 0, S * sizeof *carry);
    squares[0] += added;
    squares[1] += total;
}

#define PASS(selective, first, last, rests) \\
    for (int64_t t = a->n_steps; t-- > 0;) pass_row(a, t, b, selective, first, last, rests, squares)

// One pass back in time: value_t = e_t + carry_t, carry_{t-1} = D_tᵀ value_t.
void pass_back(const Pass *a, int64_t selective, int64_t first, int64_t last) {
    const int64_t S = STATES * a->n_heads * a->head_size;
    #pragma omp parallel for num_threads(a->threads) if (a->threads > 1)
    for (int64_t b = 0; b < a->n_batch; b++) {
        double squares[2] = {0.0, 0.0};
        memset(a->carry + b * S, 0, S * sizeof(float));
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

// Step t of BPTT: error holds what W_hh sends back already, own_weights is zero, so that D is what passes beside W_hh.
void step_back(const Pass *a, int64_t t) {
    const int many = a->threads > 1 && a->n_batch * a->n_heads * a->head_size > 2048;
    #pragma omp parallel for num_threads(a->threads) if (many)
    for (int64_t b = 0; b < a->n_batch; b++) {
        double squares[2] = {0.0, 0.0};
        pass_row(a, t, b, 1, 1, 1, 0, squares);
    }
}
""")


def c_source(cell: Cell) -> str:
    """The kernels of this cell."""
    return SOURCE.substitute(
        name=cell.__name__,
        gates=len(cell.GATES),
        states=cell.N_STATES,
        saved=cell.N_SAVED,
        step=INDENT.join(_step_body(cell)),
        back=INDENT.join(_back_body(cell)),
    )


def input_gradients_differ(cell: Cell) -> bool:
    """Has dL/dx other values than dL/du?"""
    trace = Trace()
    gates = trace.values("g", len(cell.GATES))
    delta, derivatives = trace.values("v", cell.N_STATES), _derivatives(cell, trace)
    return [name_of(each) for each in cell.input_gradients(derivatives, gates, delta)] != [g.name for g in gates]


def _derivatives(cell: Cell, trace: Trace) -> Values:
    n = cell.N_STATES
    return cell.derivatives(trace.values("q", cell.N_SAVED), trace.values("before", n), trace.values("after", n))


def _step_body(cell: Cell) -> list[str]:
    n_gates, n_states, trace = len(cell.GATES), cell.N_STATES, Trace()
    state, saved = cell.step(trace.values("x", n_gates), trace.values("u", n_gates), trace.values("s", n_states))
    return [
        *(f"const float x{g} = x[row + {g} * K];" for g in range(n_gates)),
        *(f"const float u{g} = product[row + {g} * K] + bias[row + {g} * K];" for g in range(n_gates)),
        *_loads("s", "previous", n_states),
        *_assignments(trace),
        *_stores("state", state),
        *_stores("saved", saved),
    ]


def _back_body(cell: Cell) -> list[str]:
    """What a pass does for one unit: value v, the sum of the passes w, the gates' gradients, what is carried on."""
    n_gates, n = len(cell.GATES), cell.N_STATES
    trace = Trace()
    derivatives = _derivatives(cell, trace)
    value, total = trace.values("v", n), trace.values("w", n)
    rows = cell.diagonal(derivatives, trace.values("weight", n_gates))
    selective = [sum(rows[i][j] * value[i] for i in range(n) if not is_zero(rows[i][j])) for j in range(n)]
    decay = [[trace.value(f"decay{i}{j}") for j in range(n)] for i in range(n)]
    constant = [sum(decay[i][j] * value[i] for i in range(n)) for j in range(n)]
    direct = cell.direct(derivatives, value)
    rest = [trace.apply("-", direct[j], constant[j]) for j in range(n)]
    of_value = cell.gate_gradients(derivatives, value)
    of_total = cell.gate_gradients(derivatives, total)
    inputs = cell.input_gradients(derivatives, of_total, total)
    stored_inputs = zip(range(n_gates), inputs, strict=True) if input_gradients_differ(cell) else ()
    return [
        *_loads("q", "saved", cell.N_SAVED),
        *_loads("before", "before", n),
        *_loads("after", "after", n),
        *(f"const float weight{g} = own_weights[unit + {g} * D];" for g in range(n_gates)),
        *(f"const float decay{i}{j} = decay[unit + {i * n + j} * D];" for i in range(n) for j in range(n)),
        *(
            f"const float v{i} = error[unit + {i} * D] + rest_before[unit + {i} * D] + carry[unit + {i} * D]"
            f"{' + flow[unit]' if i == 0 else ''};"
            for i in range(n)
        ),
        *(f"const float w{i} = summed[unit + {i} * D] + v{i};" for i in range(n)),
        *_assignments(trace),
        *(f"carry[unit + {j} * D] = selective ? {name_of(selective[j])} : {name_of(constant[j])};" for j in range(n)),
        *_stores("delta", total),
        *(f"gates[row + {g} * K] = last ? {name_of(of_total[g])} : {name_of(of_value[g])};" for g in range(n_gates)),
        *(f"if (last) inputs[row + {g} * K] = {name_of(each)};" for g, each in stored_inputs),
        *(f"if (rests && !last) rest[unit + {j} * D] = {name_of(rest[j])};" for j in range(n)),
        *(f"added += v{i} * v{i}; total += w{i} * w{i};" for i in range(n)),
    ]


def _loads(prefix: str, array: str, count: int) -> list[str]:
    return [f"const float {prefix}{i} = {array}[unit + {i} * D];" for i in range(count)]


def _stores(array: str, values: Values) -> list[str]:
    return [f"{array}[unit + {i} * D] = {name_of(value)};" for i, value in enumerate(values)]


def _assignments(trace: Trace) -> list[str]:
    return [f"const float {name} = {_expression(operation, names)};" for name, operation, names in trace.lines]


def _expression(operation: str, names: tuple[str, ...]) -> str:
    literals = [f"{name}f" if name[0].isdigit() or name[0] == "-" else name for name in names]
    return f"{C_FUNCTIONS[operation]}({literals[0]})" if operation in C_FUNCTIONS else f" {operation} ".join(literals)
