// What stands between the matrix products of a decoder, in float32 and without gradient: each of these would be several
// of PyTorch's operators, which for the few rows of a decode step take longer to start than to compute.
//
// Threads share rows, and a row is computed in the same order whatever stands beside it.

#include <ATen/Parallel.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

namespace {

using Vec = at::vec::Vectorized<float>;
constexpr int64_t kLanes = Vec::size();
constexpr int64_t kGrain = 16384;       // numbers, for which waking a thread is worth it
constexpr int64_t kKeys = 32;           // at a time: 8 to 16 KiB of them stay in the first-level cache
constexpr int64_t kRowsOfATask = 24;    // that look at the same keys of a prompt
constexpr int64_t kTasksPerThread = 4;  // at least, if there is so much to do

float sum_of(Vec x) {
  return at::vec::vec_reduce_all<float>([](Vec a, Vec b) { return a + b; }, x);
}

int64_t grain_of(int64_t numbers) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, numbers)); }

void check(const at::Tensor& x, int64_t dims, const char* name) {
  TORCH_CHECK(x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == dims, name, " must be float32, of ",
              dims, " dimensions and on the CPU");
}

// x / sqrt(mean(x^2) + eps) * (weight + offset).
void normalize(const float* x, const float* weight, int64_t size, double eps, double offset, float* out) {
  auto square = [](Vec v) { return v * v; };
  float squares = at::vec::map_reduce_all<float>(square, [](Vec a, Vec b) { return a + b; }, x, size);
  Vec inverse(static_cast<float>(1 / std::sqrt(squares / static_cast<double>(size) + eps)));
  Vec more(static_cast<float>(offset));
  at::vec::map2<float>([&](Vec v, Vec w) { return v * inverse * (w + more); }, out, x, weight, size);
}

// The same over the last dimension. `added`, if given, is added to x first, in place.
at::Tensor rms_norm(at::Tensor x, const at::Tensor& weight, double eps, double offset,
                    const std::optional<at::Tensor>& added) {
  check(x, x.dim(), "x");
  check(weight, 1, "weight");
  int64_t size = weight.size(0), rows = size == 0 ? 0 : x.numel() / size;
  TORCH_CHECK(x.dim() > 0 && x.size(-1) == size && x.is_contiguous() && weight.is_contiguous(), "x must be (..., ",
              size, "), x and weight contiguous; x is ", x.sizes());
  const float* more = nullptr;
  if (added.has_value()) {
    check(*added, x.dim(), "added");
    TORCH_CHECK(added->sizes() == x.sizes() && added->is_contiguous(), "added must be ", x.sizes(),
                " and contiguous, is ", added->sizes());
    more = added->const_data_ptr<float>();
  }
  at::Tensor out = at::empty(x.sizes(), x.options());
  const float* scale = weight.const_data_ptr<float>();
  float *from = more == nullptr ? nullptr : x.mutable_data_ptr<float>(), *to = out.mutable_data_ptr<float>();
  const float* in = x.const_data_ptr<float>();
  at::parallel_for(0, rows, grain_of(size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t at = row * size;
      if (more != nullptr)
        at::vec::map2<float>([](Vec a, Vec b) { return a + b; }, from + at, from + at, more + at, size);
      normalize(in + at, scale, size, eps, offset, to + at);
    }
  });
  return out;
}

// activation(gate) * up, in the place of gate.
template <typename F>
void gated(at::Tensor gate, const at::Tensor& up, F activation) {
  check(gate, 2, "gate");
  check(up, 2, "up");
  int64_t rows = gate.size(0), size = gate.size(1);
  TORCH_CHECK(up.sizes() == gate.sizes() && gate.stride(1) == 1 && up.stride(1) == 1,
              "gate and up must be of one shape and their rows contiguous, are ", gate.sizes(), " and ", up.sizes());
  float* g = gate.mutable_data_ptr<float>();
  const float* u = up.const_data_ptr<float>();
  int64_t g_row = gate.stride(0), u_row = up.stride(0);
  at::parallel_for(0, rows, grain_of(size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      at::vec::map2<float>([&](Vec a, Vec b) { return activation(a) * b; }, g + row * g_row, g + row * g_row,
                           u + row * u_row, size);
  });
}

void swiglu(at::Tensor gate, const at::Tensor& up) {
  gated(gate, up, [](Vec x) { return x / (Vec(1) + x.neg().exp()); });
}

// x (1 + tanh(y)) / 2 for y = sqrt(2 / pi) (x + 0.044715 x^3), as the equal x / (1 + exp(-2 y)), in which nothing cancels.
void geglu(at::Tensor gate, const at::Tensor& up) {
  const Vec factor(-1.5957691216057308f), cubic(0.044715f);
  gated(gate, up, [=](Vec x) { return x / (Vec(1) + (factor * (x + cubic * x * x * x)).exp()); });
}

// Each head's first half x and second half y become x cos - y sin and y cos + x sin.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  check(x, 3, "x");
  check(cos, 3, "cos");
  check(sin, 3, "sin");
  int64_t rows = x.size(0), heads = x.size(1), half = x.size(2) / 2;
  TORCH_CHECK(x.size(2) == 2 * half && x.stride(2) == 1 && x.stride(1) == 2 * half,
              "x must be (S, heads, D), D even, with contiguous rows; is ", x.sizes());
  for (const auto& angle : {cos, sin})
    TORCH_CHECK(angle.is_contiguous() && angle.size(0) == rows && angle.size(1) == 1 && angle.size(2) == half,
                "cos and sin must be (", rows, ", 1, ", half, ") and contiguous, one is ", angle.sizes());
  at::Tensor out = at::empty(x.sizes(), x.options());
  const float *from = x.const_data_ptr<float>(), *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  int64_t stride = x.stride(0);
  at::parallel_for(0, rows, grain_of(heads * 2 * half), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t head = 0; head < heads; head++) {
        const float *first = from + row * stride + head * 2 * half, *second = first + half;
        float* out_here = to + (row * heads + head) * 2 * half;
        for (int64_t i = 0; i < half; i += kLanes) {
          int64_t n = std::min(kLanes, half - i);
          Vec a = Vec::loadu(first + i, n), b = Vec::loadu(second + i, n);
          Vec cos_here = Vec::loadu(c + row * half + i, n), sin_here = Vec::loadu(s + row * half + i, n);
          (a * cos_here - b * sin_here).store(out_here + i, n);
          (b * cos_here + a * sin_here).store(out_here + half + i, n);
        }
      }
  });
  return out;
}

// The sum of each of the vectors, in the same order however many they are.
template <int rows>
inline void sums_of(const Vec (&x)[rows], float* out, int64_t out_row) {
#ifdef CPU_CAPABILITY_AVX512  // all at once: pairs, then fours, each within 128 bits
  __m512 a = x[0], b = x[rows > 1 ? 1 : 0], c = x[rows > 2 ? 2 : 0], d = x[rows > 3 ? 3 : 0];
  __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
  __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
  __m512 even = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), odd = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
  __m512 all = _mm512_add_ps(even, odd);
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  alignas(16) float sums[4];
  _mm_store_ps(sums, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  for (int row = 0; row < rows; row++) out[row * out_row] = sums[row];
#else
  for (int row = 0; row < rows; row++) out[row * out_row] = sum_of(x[row]);
#endif
}

// Dot products of `rows` queries (one behind the other) with a key.
template <int rows>
inline void dot(const float* queries, const float* key, int64_t d, float* out, int64_t out_row) {
  Vec sums[rows];
  for (int row = 0; row < rows; row++) sums[row] = Vec(0);
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    Vec k = Vec::loadu(key + i);
    for (int row = 0; row < rows; row++) sums[row] = at::vec::fmadd(Vec::loadu(queries + row * d + i), k, sums[row]);
  }
  if (i < d) {
    Vec k = Vec::loadu(key + i, d - i);
    for (int row = 0; row < rows; row++)
      sums[row] = at::vec::fmadd(Vec::loadu(queries + row * d + i, d - i), k, sums[row]);
  }
  sums_of(sums, out, out_row);
}

// Adds to `rows` outputs the sum of `n` values, each times its weight: `vecs` vectors of their entries, or the first
// `lanes` of one.
template <int rows, int vecs, bool is_whole>
inline void weigh(const float* weights, int64_t weights_row, const float* values, int64_t n, int64_t d, float* out,
                  int64_t lanes) {
  auto load = [&](const float* x) { return is_whole ? Vec::loadu(x) : Vec::loadu(x, lanes); };
  Vec sums[rows][vecs];
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < vecs; i++) sums[row][i] = load(out + row * d + i * kLanes);
  for (int64_t j = 0; j < n; j++) {
    Vec value[vecs];
    for (int i = 0; i < vecs; i++) value[i] = load(values + j * d + i * kLanes);
    for (int row = 0; row < rows; row++) {
      Vec weight(weights[row * weights_row + j]);
      for (int i = 0; i < vecs; i++) sums[row][i] = at::vec::fmadd(weight, value[i], sums[row][i]);
    }
  }
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < vecs; i++) sums[row][i].store(out + row * d + i * kLanes, is_whole ? kLanes : lanes);
}

// Calls f with 4, 3, 2 or 1 as a constant, and the first of so many rows, until there are no more.
template <typename F>
inline void by_rows(int64_t rows, F f) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) f(std::integral_constant<int, 4>(), row);
  if (rows - row == 3) f(std::integral_constant<int, 3>(), row);
  if (rows - row == 2) f(std::integral_constant<int, 2>(), row);
  if (rows - row == 1) f(std::integral_constant<int, 1>(), row);
}

void dots(const float* queries, int64_t rows, const float* key, int64_t d, float* out, int64_t out_row) {
  by_rows(rows, [&](auto count, int64_t row) {
    dot<count>(queries + row * d, key, d, out + row * out_row, out_row);
  });
}

void weigh_all(const float* weights, int64_t weights_row, int64_t rows, const float* values, int64_t n, int64_t d,
               float* out) {
  constexpr int vecs = kLanes >= 16 ? 4 : 2;  // so that all sums are in registers
  by_rows(rows, [&](auto count, int64_t row) {
    const float* w = weights + row * weights_row;
    int64_t i = 0;
    for (; i + vecs * kLanes <= d; i += vecs * kLanes)
      weigh<count, vecs, true>(w, weights_row, values + i, n, d, out + row * d + i, kLanes);
    for (; i + kLanes <= d; i += kLanes)
      weigh<count, 1, true>(w, weights_row, values + i, n, d, out + row * d + i, kLanes);
    if (i < d) weigh<count, 1, false>(w, weights_row, values + i, n, d, out + row * d + i, d - i);
  });
}

float largest_of(const float* x, int64_t n) {
  Vec largest(-INFINITY);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = at::vec::maximum(largest, Vec::loadu(x + i));
  if (i < n) largest = at::vec::maximum(largest, Vec::set(Vec(-INFINITY), Vec::loadu(x + i, n - i), n - i));
  return at::vec::vec_reduce_all<float>([](Vec a, Vec b) { return at::vec::maximum(a, b); }, largest);
}

// The numbers become the exponentials of their distance from `most`; returns the sum of those.
float exponentials(float* x, int64_t n, float most) {
  Vec sum(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    int64_t count = std::min(kLanes, n - i);
    Vec e = (Vec::loadu(x + i, count) - Vec(most)).exp();
    e.store(x + i, count);
    sum = sum + (count == kLanes ? e : Vec::set(Vec(0), e, count));
  }
  return sum_of(sum);
}

// Logits (N, V) become exponentials, the largest of a row 1; returns the sums of blocks of a row, (N, V / size), and the
// largest logits (N, 1).
std::tuple<at::Tensor, at::Tensor> exponentiate(at::Tensor logits, int64_t size) {
  check(logits, 2, "logits");
  TORCH_CHECK(logits.is_contiguous() && logits.numel() > 0 && size > 0,
              "logits must be contiguous and not empty, size positive");
  int64_t rows = logits.size(0), entries = logits.size(1), blocks = (entries + size - 1) / size;
  at::Tensor sums = at::empty({rows, blocks}, logits.options()), largest = at::empty({rows, 1}, logits.options());
  float *x = logits.mutable_data_ptr<float>(), *out = sums.mutable_data_ptr<float>();
  float* most_of = largest.mutable_data_ptr<float>();
  at::parallel_for(0, rows, grain_of(entries), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      float most = most_of[row] = largest_of(x + row * entries, entries);
      for (int64_t i = 0; i < blocks; i++)
        out[row * blocks + i] = exponentials(x + row * entries + i * size, std::min(size, entries - i * size), most);
    }
  });
  return {sums, largest};
}

void fetch(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / sizeof(float)) __builtin_prefetch(x + i);
}

// Some lines of one prompt, and one head of keys.
struct Task {
  int64_t prompt, head;
  std::vector<int64_t> lines;
};

// Attention of the newest token of each line over its prompt and its own tokens (`agents.engines.prompt_cache`).
struct Attention {
  const float *query, *prompts, *own;
  const int64_t* padding;
  float* out;
  int64_t lines, heads, repeats, d;
  int64_t longest, prompts_of_values;                 // columns; how far values are behind keys
  int64_t filled, own_of_values, own_line, own_head;  // columns; likewise; strides
  int64_t window;                                     // 0: all
  float scale;

  // How many columns of the prompt and of the line's own tokens it does not see.
  void unseen(int64_t prompt, int64_t& of_prompt, int64_t& of_own) const {
    int64_t before = padding == nullptr ? 0 : padding[prompt];
    if (window > 0) before = std::max(before, longest + filled - window);
    of_prompt = std::min(before, longest);
    of_own = std::max<int64_t>(0, before - longest);
  }

  void run(const Task& task, std::vector<float>& space) const {
    int64_t rows = static_cast<int64_t>(task.lines.size()) * repeats, columns = longest + filled;
    space.resize(rows * (columns + 2 * d + 1));
    float *scores = space.data(), *queries = scores + rows * columns, *outs = queries + rows * d,
          *sums = outs + rows * d;
    std::fill(outs, outs + rows * d, 0.0f);
    int64_t of_prompt, of_own;
    unseen(task.prompt, of_prompt, of_own);
    auto row_of = [&](size_t i) { return static_cast<int64_t>(i) * repeats; };
    auto place_of = [&](size_t i) { return (task.lines[i] * heads + task.head) * repeats * d; };
    auto own_keys = [&](size_t i) { return own + task.lines[i] * own_line + task.head * own_head; };

    Vec factor(scale);
    for (size_t i = 0; i < task.lines.size(); i++)
      at::vec::map<float>([&](Vec v) { return v * factor; }, queries + row_of(i) * d, query + place_of(i), repeats * d);
    // what is in memory is fetched ahead: a line's own keys while the prompt's are multiplied, values while keys are
    const float* keys = prompts + (task.prompt * heads + task.head) * longest * d;
    for (int64_t j = of_prompt; j < longest; j++) {
      if (j < filled)
        for (size_t i = 0; i < task.lines.size(); i++) fetch(own_keys(i) + j * d, d);
      dots(queries, rows, keys + j * d, d, scores + j, columns);
    }
    for (size_t i = 0; i < task.lines.size(); i++)
      for (int64_t j = of_own; j < filled; j++) {
        const float* key = own_keys(i) + j * d;
        fetch(key + own_of_values, d);
        dots(queries + row_of(i) * d, repeats, key, d, scores + row_of(i) * columns + longest + j, columns);
      }
    int64_t seen = columns - of_prompt - of_own;
    for (int64_t row = 0; row < rows; row++) {
      float* x = scores + row * columns + of_prompt + of_own;
      sums[row] = exponentials(x, seen, largest_of(x, seen));
    }
    const float* values = keys + prompts_of_values;
    for (int64_t j = of_prompt; j < longest; j += kKeys)
      weigh_all(scores + j, columns, rows, values + j * d, std::min(kKeys, longest - j), d, outs);
    for (size_t i = 0; i < task.lines.size(); i++) {
      weigh_all(scores + row_of(i) * columns + longest + of_own, columns, repeats,
                own_keys(i) + own_of_values + of_own * d, filled - of_own, d, outs + row_of(i) * d);
      for (int64_t row = row_of(i); row < row_of(i + 1); row++) {
        Vec inverse(1 / sums[row]);
        at::vec::map<float>([&](Vec v) { return v * inverse; }, out + place_of(i) + (row - row_of(i)) * d,
                            outs + row * d, d);
      }
    }
  }

  std::vector<Task> tasks(const int64_t* prompt_of, int64_t num_prompts) const {
    std::vector<std::vector<int64_t>> lines_of(num_prompts);
    for (int64_t line = 0; line < lines; line++) lines_of[prompt_of[line]].push_back(line);
    int64_t wanted = kTasksPerThread * at::get_num_threads(), share = (lines * heads + wanted - 1) / wanted;
    int64_t at_once = std::max<int64_t>(1, std::min(kRowsOfATask / repeats, share));
    std::vector<Task> out;
    for (int64_t prompt = 0; prompt < num_prompts; prompt++)
      for (int64_t head = 0; head < heads; head++)
        for (size_t i = 0; i < lines_of[prompt].size(); i += at_once) {
          auto begin = lines_of[prompt].begin() + i;
          auto end = begin + std::min<int64_t>(at_once, lines_of[prompt].end() - begin);
          out.push_back({prompt, head, {begin, end}});
        }
    return out;
  }
};

// Adds a column of keys and values (lines, Hkv, D) to a line's own, and gives the outputs (lines, Hq, D).
//
// prompts: (2, P, Hkv, Lp, D), keys and values, left-padded. own: (2, lines or more, Hkv, columns, D), of which
// `filled` columns are in use, the new one included. prompt_of: (lines,). padding: (P,), or None where there is none.
// window: how many tokens back a token sees, its own included; 0: all.
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& prompts,
                  at::Tensor own, int64_t filled, const at::Tensor& prompt_of, const std::optional<at::Tensor>& padding,
                  int64_t window, double scale) {
  check(query, 3, "query");
  check(key, 3, "key");
  check(value, 3, "value");
  check(prompts, 5, "prompts");
  check(own, 5, "own");
  int64_t lines = query.size(0), heads = own.size(2), d = query.size(2), num_prompts = prompts.size(1);
  TORCH_CHECK(query.is_contiguous() && heads > 0 && query.size(1) % heads == 0,
              "query must be (lines, Hq, D) and contiguous, Hq a multiple of ", heads, "; is ", query.sizes());
  for (const auto& x : {key, value})
    TORCH_CHECK(x.sizes() == at::IntArrayRef({lines, heads, d}) && x.stride(2) == 1 && x.stride(1) == d,
                "key and value must be (", lines, ", ", heads, ", ", d, ") with contiguous rows, one is ", x.sizes());
  TORCH_CHECK(prompts.size(0) == 2 && prompts.size(2) == heads && prompts.size(4) == d && prompts[0].is_contiguous(),
              "prompts must be (2, P, ", heads, ", Lp, ", d, ") and contiguous, is ", prompts.sizes());
  TORCH_CHECK(own.size(0) == 2 && own.size(1) >= lines && own.size(4) == d && own[0].is_contiguous(),
              "own must be (2, ", lines, ", ", heads, ", columns, ", d, ") and contiguous, is ", own.sizes());
  TORCH_CHECK(filled >= 1 && filled <= own.size(3), "filled must be in 1 .. ", own.size(3), ", is ", filled);
  TORCH_CHECK(prompt_of.scalar_type() == at::kLong && prompt_of.is_contiguous() && prompt_of.numel() == lines,
              "prompt_of must be (", lines, ",) and int64");
  const int64_t* prompt_at = prompt_of.const_data_ptr<int64_t>();
  TORCH_CHECK(std::all_of(prompt_at, prompt_at + lines, [&](int64_t p) { return p >= 0 && p < num_prompts; }),
              "prompt_of must be below ", num_prompts);
  const int64_t* padding_at = nullptr;
  if (padding.has_value()) {
    TORCH_CHECK(padding->scalar_type() == at::kLong && padding->is_contiguous() && padding->numel() == num_prompts,
                "padding must be (", num_prompts, ",) and int64");
    padding_at = padding->const_data_ptr<int64_t>();
    TORCH_CHECK(std::all_of(padding_at, padding_at + num_prompts,
                            [&](int64_t n) { return n >= 0 && n <= prompts.size(3); }),
                "padding must be in 0 .. ", prompts.size(3));
  }
  at::Tensor out = at::empty(query.sizes(), query.options());
  float* own_data = own.mutable_data_ptr<float>();
  for (int64_t line = 0; line < lines; line++)
    for (int64_t head = 0; head < heads; head++) {
      float* to = own_data + line * own.stride(1) + head * own.stride(2) + (filled - 1) * d;
      std::copy_n(key.const_data_ptr<float>() + line * key.stride(0) + head * d, d, to);
      std::copy_n(value.const_data_ptr<float>() + line * value.stride(0) + head * d, d, to + own.stride(0));
    }
  Attention attention{query.const_data_ptr<float>(), prompts.const_data_ptr<float>(), own_data, padding_at,
                      out.mutable_data_ptr<float>(), lines, heads, query.size(1) / heads, d, prompts.size(3),
                      prompts.stride(0), filled, own.stride(0), own.stride(1), own.stride(2), window,
                      static_cast<float>(scale)};
  std::vector<Task> tasks = attention.tasks(prompt_at, num_prompts);
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> space;
    for (int64_t i = begin; i < end; i++) attention.run(tasks[i], space);
  });
  return out;
}

// The tensors of a layer, in the order in which they are listed; None where a layer has no such thing.
enum LayerTensor {
  kBeforeAttention,
  kQuery,
  kKey,
  kValue,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kQueryNorm,
  kKeyNorm,
  kOutput,
  kOutputBias,
  kAfterAttention,
  kBeforeMlp,
  kGate,
  kUp,
  kGateBias,
  kUpBias,
  kDown,
  kDownBias,
  kAfterMlp,
  kQueryA,  // of each linear layer's adapter, in the order of `kLinears`
  kQueryB,
  kLayerTensors = kQueryA + 14
};

// The linear layers in the order in which their adapters are listed.
constexpr int kLinears[] = {kQuery, kKey, kValue, kOutput, kGate, kUp, kDown};

using SplitProducts =
    std::vector<at::Tensor>(const at::Tensor&, at::TensorList, int64_t, const std::optional<at::Tensor>&);
using FmaProducts = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const std::optional<at::Tensor>&);

// Products with several matrices, of which `next` is read after them: on matrix units, or with 0 parts on vector units.
std::vector<at::Tensor> products(const at::Tensor& x, at::TensorList weights, int64_t parts,
                                 const std::optional<at::Tensor>& next) {
  auto& dispatcher = c10::Dispatcher::singleton();
  if (parts == 0) {
    static const auto fma = dispatcher.findSchemaOrThrow("llm_envs_fma_products::linears", "").typed<FmaProducts>();
    return fma.call(x, weights, next);
  }
  static const auto split = dispatcher.findSchemaOrThrow("llm_envs_split_products::linears", "").typed<SplitProducts>();
  return split.call(x, weights, parts, next);
}

// All layers for the newest token of each line, and the final norm; x and the result are (lines, H).
//
// tensors: those of each layer, the weight of the final norm, and what is read after that (or None). windows and
// rotations: of each layer, the latter as places in cos and sin. The other arguments are those of `attend`, for all
// layers at once, and of the products.
at::Tensor decode(const at::Tensor& x, at::TensorList cos, at::TensorList sin,
                  const c10::List<std::optional<at::Tensor>>& tensors, at::IntArrayRef windows,
                  at::IntArrayRef rotations, bool is_gelu, double eps, double offset, const at::Tensor& prompts,
                  at::Tensor own, int64_t filled, const at::Tensor& prompt_of,
                  const std::optional<at::Tensor>& padding, double scale, int64_t parts) {
  check(x, 2, "x");
  check(prompts, 6, "prompts");
  check(own, 6, "own");
  int64_t layers = prompts.size(0), lines = x.size(0), d = prompts.size(5);
  TORCH_CHECK(static_cast<int64_t>(tensors.size()) == layers * kLayerTensors + 2 && own.size(0) == layers &&
                  static_cast<int64_t>(windows.size()) == layers && static_cast<int64_t>(rotations.size()) == layers,
              "tensors, own, windows and rotations must be those of ", layers, " layers");
  int64_t angles = static_cast<int64_t>(std::min(cos.size(), sin.size()));
  TORCH_CHECK(std::all_of(rotations.begin(), rotations.end(), [&](int64_t i) { return i >= 0 && i < angles; }),
              "rotations must be places in cos and sin");
  at::Tensor state = at::empty(x.sizes(), x.options());
  state.copy_(x);
  std::optional<at::Tensor> pending;  // to be added to the state
  for (int64_t layer = 0; layer < layers; layer++) {
    auto tensor = [&](int64_t i) -> std::optional<at::Tensor> { return tensors.get(layer * kLayerTensors + i); };
    auto linears = [&](const at::Tensor& in, std::initializer_list<int> weights, int biases, int next) {
      std::vector<at::Tensor> of;
      for (int weight : weights) of.push_back(tensor(weight).value());
      std::vector<at::Tensor> outs = products(in, of, parts, tensor(next));
      size_t i = 0;
      for (int weight : weights) {
        if (auto bias = tensor(biases + static_cast<int>(i))) outs[i].add_(*bias);
        auto place = std::find(std::begin(kLinears), std::end(kLinears), weight) - std::begin(kLinears);
        if (auto a = tensor(kQueryA + 2 * place)) outs[i].addmm_(in.mm(a->t()), tensor(kQueryB + 2 * place)->t());
        i++;
      }
      return outs;
    };
    auto norm = [&](at::Tensor in, int weight, const std::optional<at::Tensor>& added = std::nullopt) {
      return rms_norm(in, tensor(weight).value(), eps, offset, added);
    };
    auto heads = [&](const at::Tensor& in, int weight) {
      at::Tensor apart = in.view({lines, -1, d});
      if (tensor(weight).has_value()) apart = norm(apart, weight);
      return rotate(apart, cos[rotations[layer]], sin[rotations[layer]]);
    };

    std::vector<at::Tensor> qkv =
        linears(norm(state, kBeforeAttention, pending), {kQuery, kKey, kValue}, kQueryBias, kOutput);
    at::Tensor attended = attend(heads(qkv[0], kQueryNorm), heads(qkv[1], kKeyNorm), qkv[2].view({lines, -1, d}),
                                 prompts[layer], own[layer], filled, prompt_of, padding, windows[layer], scale);
    at::Tensor h = linears(attended.view({lines, -1}), {kOutput}, kOutputBias, kGate)[0];
    if (tensor(kAfterAttention).has_value()) h = norm(h, kAfterAttention);
    std::vector<at::Tensor> mlp = linears(norm(state, kBeforeMlp, h), {kGate, kUp}, kGateBias, kDown);
    int next = layer + 1 < layers ? kLayerTensors + kQuery : kLayerTensors + 1;
    if (is_gelu)
      geglu(mlp[0], mlp[1]);
    else
      swiglu(mlp[0], mlp[1]);
    h = linears(mlp[0], {kDown}, kDownBias, next)[0];
    if (tensor(kAfterMlp).has_value()) h = norm(h, kAfterMlp);
    pending = h;
  }
  return rms_norm(state, tensors.get(layers * kLayerTensors).value(), eps, offset, pending);
}

}  // namespace

TORCH_LIBRARY(llm_envs_decoding, m) {
  m.def("rms_norm(Tensor(a!) x, Tensor weight, float eps, float offset, Tensor? added=None) -> Tensor", rms_norm);
  m.def("swiglu(Tensor(a!) gate, Tensor up) -> ()", swiglu);
  m.def("geglu(Tensor(a!) gate, Tensor up) -> ()", geglu);
  m.def("exponentiate(Tensor(a!) logits, int size) -> (Tensor, Tensor)", exponentiate);
  m.def("rotate(Tensor x, Tensor cos, Tensor sin) -> Tensor", rotate);
  m.def(
      "attend(Tensor query, Tensor key, Tensor value, Tensor prompts, Tensor(a!) own, int filled, Tensor prompt_of, "
      "Tensor? padding, int window, float scale) -> Tensor",
      attend);
  m.def(
      "decode(Tensor x, Tensor[] cos, Tensor[] sin, Tensor?[] tensors, int[] windows, int[] rotations, bool is_gelu, "
      "float eps, float offset, Tensor prompts, Tensor(a!) own, int filled, Tensor prompt_of, Tensor? padding, float scale, "
      "int parts) -> Tensor",
      decode);
}
