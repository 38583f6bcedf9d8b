// Products of few rows with matrices that come from memory, float32, by the vector units of x86 CPUs (AVX2 or AVX-512).
//
// The rows are arranged so that a vector holds one column of several rows. Each entry of a matrix is then read once, where
// it stands, and multiplied with all rows: nothing of the matrix is arranged or copied.
//
// An output is summed in the same order however many rows or threads there are.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace {

using Vec = at::vec::Vectorized<float>;
constexpr int64_t kLanes = Vec::size();
constexpr int64_t kLine = 16;     // numbers of a cache line
constexpr int64_t kDepth = 192;   // of k at a time: so much of the rows stays in the first-level cache
constexpr int64_t kPanel = 48;    // columns of the output at a time: their weights stay in the second-level cache
constexpr int kMaxVecs = kLanes == 16 ? 2 : 4;  // 32 rows at a time

// Columns that are computed side by side, so that all sums are in registers.
constexpr int columns_of(int vecs) {
  if (kLanes == 16) return vecs == 1 ? 16 : 12;
  return vecs == 1 ? 12 : vecs == 2 ? 6 : vecs == 3 ? 4 : 3;
}

int64_t divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How much of k is added up before that is added to the output: blocks of equal size, at most kDepth.
int64_t depth_of(int64_t k) { return divided(divided(k, divided(k, kDepth)), kLine) * kLine; }

// A matrix of the given shape, its rows and columns exchanged.
void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  int64_t whole_rows = rows / kLanes * kLanes, whole_columns = columns / kLanes * kLanes;
  for (int64_t i = 0; i < whole_rows; i += kLanes)
    for (int64_t j = 0; j < whole_columns; j += kLanes) {
#ifdef CPU_CAPABILITY_AVX512
      at::vec::transpose_mxn<float>(from + i * from_row + j, from_row, to + j * to_row + i, to_row, 16, 16);
#else
      at::vec::transpose_mxn<float, 8, 8>(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
#endif
    }
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
      to[j * to_row + i] = from[i * from_row + j];
}

// A matrix of weights (output by input features), and what is read after it.
struct Weight {
  const float* data;
  int64_t size, k;
  float* out;  // (rows, size)
  const float* next;
};

// Adds to sums (columns, vecs * kLanes) those over `depth` of k. x: (depth, vecs * kLanes).
template <int vecs>
inline void multiply(const float* x, const float* const* weights, const float* const* ahead, int64_t depth, float* sums,
                     bool adds) {
  constexpr int columns = columns_of(vecs);
  Vec sum[columns][vecs];
  for (int c = 0; c < columns; c++)
    for (int v = 0; v < vecs; v++) sum[c][v] = Vec(0);
  const float* w[columns];
  for (int c = 0; c < columns; c++) w[c] = weights[c];
  for (int64_t j = 0; j < depth; j += kLine) {
    for (int c = 0; c < columns; c++) __builtin_prefetch(ahead[c] + j);
    int64_t end = std::min(depth, j + kLine);
    for (int64_t i = j; i < end; i++) {
      Vec row[vecs];
      for (int v = 0; v < vecs; v++) row[v] = Vec::loadu(x + (i * vecs + v) * kLanes);
      for (int c = 0; c < columns; c++) {
        Vec weight(w[c][i]);
        for (int v = 0; v < vecs; v++) sum[c][v] = at::vec::fmadd(weight, row[v], sum[c][v]);
      }
    }
  }
  for (int c = 0; c < columns; c++)
    for (int v = 0; v < vecs; v++) {
      float* to = sums + (c * vecs + v) * kLanes;
      (adds ? Vec::loadu(to) + sum[c][v] : sum[c][v]).store(to);
    }
}

// Columns `begin` to `end` of the output for `rows` rows from `row` on, which x has, arranged: (k, vecs * kLanes).
template <int vecs>
void panel(const Weight& weight, int64_t begin, int64_t end, const float* x, int64_t row, int64_t rows) {
  constexpr int columns = columns_of(vecs);
  constexpr int64_t width = vecs * kLanes;
  alignas(64) float sums[(kPanel + columns) * width];
  int64_t depth = depth_of(weight.k);
  for (int64_t from = 0; from < weight.k; from += depth) {
    int64_t here = std::min(depth, weight.k - from);
    for (int64_t column = begin; column < end; column += columns) {
      const float *of[columns], *ahead[columns];
      for (int c = 0; c < columns; c++) {
        // beyond the end, the last one again: its sums are not used
        of[c] = weight.data + std::min(column + c, weight.size - 1) * weight.k + from;
        int64_t following = column + columns + c;
        const float* next = weight.next == nullptr ? of[c] : weight.next + c * weight.k;
        ahead[c] = following < weight.size ? weight.data + following * weight.k + from : next;
      }
      multiply<vecs>(x + from * width, of, ahead, here, sums + (column - begin) * width, from > 0);
    }
  }
  transpose(sums, width, end - begin, rows, weight.out + row * weight.size + begin, weight.size);
}

// (rows, k) to (k, width), zeros beside it.
void arrange(const float* x, int64_t rows, int64_t k, int64_t width, float* out) {
  transpose(x, k, rows, k, out, width);
  for (int64_t j = 0; j < k; j++) std::fill(out + j * width + rows, out + (j + 1) * width, 0.0f);
}

template <typename F>
void with_vecs(int64_t vecs, F f) {
  if (vecs == 1) f(std::integral_constant<int, 1>());
  if (vecs == 2) f(std::integral_constant<int, 2>());
  if constexpr (kMaxVecs > 2) {
    if (vecs == 3) f(std::integral_constant<int, 3>());
    if (vecs == 4) f(std::integral_constant<int, 4>());
  }
}

void check(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2 && x.is_contiguous(), name,
              " must be a contiguous float32 matrix on the CPU");
}

// Few rows times each of some matrices (output by input features). `next`: the matrix that will be needed after them.
std::vector<at::Tensor> linears(const at::Tensor& x, at::TensorList weights, const std::optional<at::Tensor>& next) {
  check(x, "x");
  TORCH_CHECK(x.numel() > 0, "x must not be empty");
  int64_t rows = x.size(0), k = x.size(1);
  std::vector<at::Tensor> outs;
  std::vector<Weight> all;
  std::vector<int64_t> first_panels;  // of each weight, among all
  int64_t panels = 0;
  for (const auto& weight : weights) {
    check(weight, "a weight");
    TORCH_CHECK(weight.size(1) == k, "a weight must be (..., ", k, "), is ", weight.sizes());
    outs.push_back(at::empty({rows, weight.size(0)}, x.options()));
    if (!all.empty()) all.back().next = weight.const_data_ptr<float>();
    all.push_back({weight.const_data_ptr<float>(), weight.size(0), k, outs.back().mutable_data_ptr<float>(), nullptr});
    first_panels.push_back(panels);
    panels += divided(weight.size(0), kPanel);
  }
  if (!all.empty() && next.has_value() && next->is_cpu() && next->scalar_type() == at::kFloat)
    all.back().next = next->const_data_ptr<float>();

  // the fewest groups of rows that registers can hold, of as equal size as can be
  int64_t all_vecs = divided(rows, kLanes), groups = divided(all_vecs, kMaxVecs), vecs = divided(all_vecs, groups);
  int64_t width = vecs * kLanes;
  thread_local std::vector<float> space;
  space.resize(groups * width * k + kLine);
  float* arranged = space.data() + (kLine - reinterpret_cast<uintptr_t>(space.data()) / 4 % kLine) % kLine;
  for (int64_t group = 0; group < groups; group++)
    arrange(x.const_data_ptr<float>() + group * width * k, std::min(width, rows - group * width), k, width,
            arranged + group * width * k);
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      size_t which = std::upper_bound(first_panels.begin(), first_panels.end(), i) - first_panels.begin() - 1;
      const Weight& weight = all[which];
      int64_t column = (i - first_panels[which]) * kPanel, end_column = std::min(weight.size, column + kPanel);
      for (int64_t group = 0; group < groups; group++)
        with_vecs(vecs, [&](auto count) {
          panel<count>(weight, column, end_column, arranged + group * width * k, group * width,
                       std::min(width, rows - group * width));
        });
    }
  });
  return outs;
}

}  // namespace

TORCH_LIBRARY(llm_envs_fma_products, m) {
  m.def("linears(Tensor x, Tensor[] weights, Tensor? next) -> Tensor[]", linears);
}
