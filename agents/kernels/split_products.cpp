// Products of float32 matrices on the matrix units (AMX) of x86 CPUs, which multiply bfloat16 and add up in float32.
//
// A float32 value x is written as a sum of bfloat16 values: x1 is the first 8 bits of x, x2 those of what is left, and
// so on. Three parts hold all 24 bits, and the product is x1 y1 + (x1 y2 + x2 y1) + (x1 y3 + x2 y2 + x3 y1); what is
// left out is of the size of float32's own rounding. Two parts hold 16 bits, and take three products. (Henry, Tang,
// Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations",
// arXiv:1904.06376.)
//
// Vocabulary: a *tile* is 16 rows of 64 bytes. The left operand's tiles have a row of the matrix in each row, 32 values
// of the summed dimension k. The right operand's have two values of k in each row, side by side for each of 16 columns.
// Values 16 apart are neighbours in both.
// A *strip* is 32 rows of the left operand, or 32 columns of the right one, by some k: for each 32 of k the first
// parts of its two tiles, then the second parts, and so on.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <vector>

namespace {

constexpr int64_t kTile = 1024;    // bytes
constexpr int64_t kStrip = 32;     // rows, or columns
constexpr int64_t kDepth = 640;    // of k at a time, and
constexpr int64_t kPanel = 8;      // strips of the right operand: 0.9 MiB, for the second-level cache
constexpr int64_t kRows = 2048;    // rows of the left operand that are arranged at a time, and
constexpr int64_t kBlocks = 4;     // blocks of k: 30 MiB
constexpr int64_t kFewRows = 128;  // with at most so many rows the other matrix is not arranged, as measured

// A matrix of float32: `across` is the stride from row to row (left) or column to column (right), `along` that of k.
struct Operand {
  const float* data;
  int64_t size, k, across, along;
};

struct Output {
  float* data;
  int64_t row, column;  // strides, one of which is 1
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

// Compilers do not know what memory the tile instructions read: what was written before this is in memory after it.
inline void finish_writes() { asm volatile("" ::: "memory"); }

// The matrix units of this thread, for as long as this exists.
struct Tiles {
  Tiles() {
    TileConfig config;
    for (int i = 0; i < 8; i++) {
      config.bytes_per_row[i] = 64;
      config.rows[i] = 16;
    }
    finish_writes();
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

int64_t strips(int64_t size) { return (size + kStrip - 1) / kStrip; }

int64_t strip_bytes(int64_t k, int parts) { return (k + 31) / 32 * 2 * parts * kTile; }

__mmask16 first(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1; }

void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// The parts of 32 values: each part of a[i] in the lower half of out[part][i], that of b[i] in the upper half.
template <int parts>
inline void split(__m512 a, __m512 b, __m512i out[parts]) {
  const __m512i upper = _mm512_set1_epi32(0xffff0000), half = _mm512_set1_epi32(0x8000);
  for (int part = 0; part < parts; part++) {
    __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    // 24 bits are exactly three times 8 without rounding; two parts must round to be as near as they can
    if (parts < 3) x = _mm512_add_epi32(x, half), y = _mm512_add_epi32(y, half);
    out[part] = _mm512_ternarylogic_epi32(_mm512_srli_epi32(x, 16), y, upper, 0xf8 /* first | second & third */);
    if (part + 1 < parts) {
      a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_and_si512(x, upper)));
      b = _mm512_sub_ps(b, _mm512_castsi512_ps(_mm512_and_si512(y, upper)));
    }
  }
}

// One tile of each part, from `size` rows or columns by `k` values; what is beyond them is 0 and not read.
template <int parts, bool is_left>
void pack_tile(const float* source, const Operand& of, int64_t size, int64_t k, char* out) {
  __m512i rows[parts][16], row[parts];
  bool is_by_size = of.along == 1;  // else by k
  for (int i = 0; i < 16; i++) {
    __mmask16 a = is_by_size ? (i < size ? first(k) : 0) : (i < k ? first(size) : 0);
    __mmask16 b = is_by_size ? (i < size ? first(k - 16) : 0) : (i + 16 < k ? first(size) : 0);
    const float* x = source + i * (is_by_size ? of.across : of.along);
    // strided rows are no pattern that the processor foresees: what comes two tiles later
    _mm_prefetch(reinterpret_cast<const char*>(x + 64 * of.along), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(x + 80 * of.along), _MM_HINT_T0);
    split<parts>(_mm512_maskz_loadu_ps(a, x), _mm512_maskz_loadu_ps(b, x + 16 * of.along), row);
    for (int part = 0; part < parts; part++) rows[part][i] = row[part];
  }
  for (int part = 0; part < parts; part++) {
    if (is_left != is_by_size) transpose(rows[part]);
    for (int i = 0; i < 16; i++) _mm512_store_si512(out + 2 * part * kTile + 64 * i, rows[part][i]);
  }
}

// The strip from row or column `start`, and `k` values from `depth` on.
template <int parts, bool is_left>
void pack_strip(const Operand& of, int64_t start, int64_t depth, int64_t k, char* out) {
  for (int64_t j = 0; j < k; j += 32, out += 2 * parts * kTile) {
    for (int64_t half = 0; half < 2; half++) {
      int64_t place = start + 16 * half;
      const float* source = of.data + place * of.across + (depth + j) * of.along;
      pack_tile<parts, is_left>(source, of, of.size - place, k - j, out + half * kTile);
    }
  }
}

// Tiles of 32 values of whole rows `begin` to `end` of a strip.
template <int parts>
inline void split_rows(const float* source, int64_t across, int64_t begin, int64_t end, char* out) {
  __m512i row[parts];
  for (int64_t i = begin; i < end; i++) {
    const float* x = source + i * across;
    split<parts>(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), row);
    char* to = out + i / 16 * kTile + i % 16 * 64;
    for (int part = 0; part < parts; part++) _mm512_store_si512(to + 2 * part * kTile, row[part]);
  }
}

// What split_rows will read, into the second-level cache.
inline void fetch_rows(const float* source, int64_t across, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    _mm_prefetch(reinterpret_cast<const char*>(source + i * across), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(source + i * across + 16), _MM_HINT_T1);
  }
}

#define LOAD_LEFT(part) \
  _tile_loadd(4, left + 2 * (part) * kTile, 64); \
  _tile_loadd(5, left + 2 * (part) * kTile + kTile, 64);
#define LOAD_RIGHT(part) \
  _tile_loadd(6, right + 2 * (part) * kTile, 64); \
  _tile_loadd(7, right + 2 * (part) * kTile + kTile, 64);
#define MULTIPLY \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7);

// The sums of 32 x 32 of the output begin at 0 ...
void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// ... take 32 of k from a strip each, every pair of parts once, in an order that loads little; `between` is done six
// times (three with two parts) while the matrix units are at work ...
template <int parts, typename Between>
inline void add_products(const char* left, const char* right, Between between) {
  finish_writes();
  if (parts == 3) {
    LOAD_LEFT(2) LOAD_RIGHT(0) MULTIPLY between(0);
    LOAD_LEFT(1) MULTIPLY between(1);
    LOAD_RIGHT(1) MULTIPLY between(2);
    LOAD_LEFT(0) MULTIPLY between(3);
    LOAD_RIGHT(2) MULTIPLY between(4);
    LOAD_RIGHT(0) MULTIPLY between(5);
  } else {
    LOAD_LEFT(1) LOAD_RIGHT(0) MULTIPLY between(0);
    LOAD_LEFT(0) MULTIPLY between(1);
    LOAD_RIGHT(1) MULTIPLY between(2);
  }
}

// ... and are written, or added to what is there: sums over a long k are so added up in blocks, which rounds less.
void write_sums(Output out, int64_t rows, int64_t columns, bool adds) {
  alignas(64) float copy[kStrip * kStrip];
  bool whole = rows >= kStrip && columns >= kStrip && out.column == 1;
  float* c = whole && !adds ? out.data : copy;
  int64_t stride = whole && !adds ? out.row : kStrip;
  _tile_stored(0, c, 4 * stride);
  _tile_stored(1, c + 16, 4 * stride);
  _tile_stored(2, c + 16 * stride, 4 * stride);
  _tile_stored(3, c + 16 * stride + 16, 4 * stride);
  if (whole && !adds) return;
  rows = std::min(rows, kStrip), columns = std::min(columns, kStrip);
  if (out.row == 1) {
    for (int64_t i = 0; i < rows; i += 16)
      for (int64_t j = 0; j < columns; j += 16) {
        __m512i block[16];
        for (int r = 0; r < 16; r++) block[r] = _mm512_load_si512(copy + (i + r) * kStrip + j);
        transpose(block);
        __mmask16 mask = first(rows - i);
        for (int r = 0; r < std::min<int64_t>(16, columns - j); r++) {
          float* to = out.data + i + (j + r) * out.column;
          __m512 sum = _mm512_castsi512_ps(block[r]);
          _mm512_mask_storeu_ps(to, mask, adds ? _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, to)) : sum);
        }
      }
    return;
  }
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j += 16) {
      __mmask16 mask = first(columns - j);
      float* to = out.data + i * out.row + j;
      __m512 sum = _mm512_load_ps(copy + i * kStrip + j);
      _mm512_mask_storeu_ps(to, mask, adds ? _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, to)) : sum);
    }
}

// Memory to be read soon, a bit at each turn, into the second-level cache.
struct Ahead {
  const void* data;
  int64_t bytes, per_turn = 0, at = 0;

  void set_turns(int64_t turns) { per_turn = (bytes / turns + 63) / 64 * 64; }

  void go_on() {
    int64_t end = std::min(bytes, at + per_turn);
    for (; at < end; at += 64) _mm_prefetch(static_cast<const char*>(data) + at, _MM_HINT_T1);
  }
};

template <int parts>
constexpr int64_t turns_of(int64_t k) {
  return (k + 31) / 32 * (parts == 3 ? 6 : 3);
}

// 32 x 32 of the output from two strips.
template <int parts>
void multiply_strips(const char* left, const char* right, int64_t k, Output out, int64_t rows, int64_t columns,
                     bool adds, Ahead& ahead) {
  clear_sums();
  // lines of the output, to be written at the end
  int64_t line = 0, lines = out.column == 1 ? 2 * std::min(rows, kStrip) : 0;
  for (int64_t j = 0; j < k; j += 32, left += 2 * parts * kTile, right += 2 * parts * kTile)
    add_products<parts>(left, right, [&](int) {
      ahead.go_on();
      if (line < lines) __builtin_prefetch(out.data + line / 2 * out.row + line % 2 * 16, 1), line++;
    });
  write_sums(out, rows, columns, adds);
}

// The tiles of 32 x 32 of the left operand that are in use, and the next ones.
template <int parts>
struct LeftTiles {
  alignas(64) char tiles[2][2 * parts * kTile];
  int used = 0;
};

// The same for 32 whole rows of the left operand, whose tiles are made as they are needed: the next ones while the
// matrix units are at work. The first ones are made already, and those after the last ones are made of `following`.
// Meanwhile `fetched` rows of `ahead` are, evenly: the queues to memory are short, and what is needed of the
// second-level cache stands in them too.
template <int parts>
void multiply_rows(const float* source, const float* following, const float* ahead, int64_t fetched, int64_t across,
                   const char* right, int64_t k, Output out, int64_t columns, bool adds, LeftTiles<parts>& left) {
  constexpr int turns = parts == 3 ? 6 : 3;
  clear_sums();
  int64_t line = 0, lines = 2 * std::min(columns, kStrip);  // of the output, to be written at the end
  for (int64_t j = 0; j < k; j += 32, right += 2 * parts * kTile) {
    const char* used = left.tiles[left.used];
    char* next = left.tiles[left.used ^= 1];
    const float* from = j + 32 < k ? source + j + 32 : following;
    add_products<parts>(used, right, [&](int turn) {
      if (from != nullptr)
        split_rows<parts>(from, across, kStrip * turn / turns, kStrip * (turn + 1) / turns, next);
      fetch_rows(ahead + j, across, fetched * turn / turns, fetched * (turn + 1) / turns);
      if (line < lines) __builtin_prefetch(out.data + line / 2 * out.column + line % 2 * 16, 1), line++;
    });
  }
  write_sums(out, kStrip, columns, adds);
}

// How much of k is added up before that is added to the output: blocks of equal size, at most kDepth.
int64_t depth_of(int64_t k) {
  int64_t blocks = (k + kDepth - 1) / kDepth;
  return ((k + blocks - 1) / blocks + 31) / 32 * 32;
}

// Memory of a thread that stays with it, because what the system gives anew costs a fault a page; in large pages if
// they are to be had.
class Workspace {
 public:
  char* of(int64_t bytes) {
    constexpr int64_t page = 1 << 21;
    if (bytes > size_) {
      std::free(data_);
      size_ = 0;
      bytes = (bytes + page - 1) / page * page;
      data_ = static_cast<char*>(std::aligned_alloc(page, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      madvise(data_, bytes, MADV_HUGEPAGE);
      size_ = bytes;
    }
    return data_;
  }
  ~Workspace() { std::free(data_); }

 private:
  char* data_ = nullptr;
  int64_t size_ = 0;
};

// What the thread that was called arranges for all, and what each thread arranges for itself.
thread_local Workspace shared_space, own_space;

// A piece of the left operand is arranged by all threads. Then each takes panels of the right one, arranges what it is
// about to use in its own cache, and multiplies.
template <int parts>
void multiply_many(const Operand& left, const Operand& right, Output out, bool adds) {
  int64_t k = left.k, depth = depth_of(k), full = strip_bytes(depth, parts);
  int64_t blocks = std::min(kBlocks, (k + depth - 1) / depth);  // of k in a piece
  char* lefts = shared_space.of(strips(std::min(left.size, kRows)) * blocks * full);  // by block, then by strip
  // as many panels as keep all threads busy, and if those would be narrow, each for some of the rows
  int64_t threads = at::get_num_threads(), column_strips = strips(right.size);
  int64_t turns = (column_strips + kPanel * threads - 1) / (kPanel * threads);
  int64_t panel = (column_strips + turns * threads - 1) / (turns * threads);
  panel = std::max(panel, std::min(kPanel / 2, column_strips));
  int64_t panels = (column_strips + panel - 1) / panel;
  for (int64_t row = 0; row < left.size; row += kRows) {
    int64_t row_strips = strips(std::min(kRows, left.size - row));
    int64_t parts_of_rows = std::min((threads + panels - 1) / panels, row_strips);
    for (int64_t d = 0; d < k; d += blocks * depth) {
      int64_t blocks_here = std::min(blocks, (k - d + depth - 1) / depth);
      auto size_of = [&](int64_t block) { return std::min(depth, k - d - block * depth); };
      at::parallel_for(0, row_strips * blocks_here, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          int64_t block = i / row_strips, start = row + i % row_strips * kStrip;
          pack_strip<parts, true>(left, start, d + block * depth, size_of(block), lefts + i * full);
        }
      });
      at::parallel_for(0, panels * parts_of_rows, 1, [&](int64_t begin, int64_t end) {
        Tiles tiles;
        char* rights = own_space.of(panel * full);
        for (int64_t task = begin; task < end; task++) {
          int64_t first_column = task % panels * panel, end_column = std::min(column_strips, first_column + panel);
          int64_t share = task / panels, first_row = row_strips * share / parts_of_rows;
          int64_t end_row = row_strips * (share + 1) / parts_of_rows;
          for (int64_t block = 0; block < blocks_here; block++) {
            int64_t from = d + block * depth, size = size_of(block);
            for (int64_t j = first_column; j < end_column; j++)
              pack_strip<parts, false>(right, j * kStrip, from, size, rights + (j - first_column) * full);
            for (int64_t i = first_row; i < end_row; i++) {
              const char* strip = lefts + (block * row_strips + i) * full;
              Ahead ahead{strip + full, i + 1 < end_row ? full : 0};
              ahead.set_turns((end_column - first_column) * turns_of<parts>(size));
              for (int64_t j = first_column; j < end_column; j++) {
                int64_t r = row + i * kStrip, c = j * kStrip;
                Output at{out.data + r * out.row + c * out.column, out.row, out.column};
                multiply_strips<parts>(strip, rights + (j - first_column) * full, size, at, left.size - r,
                                       right.size - c, adds || from > 0, ahead);
              }
            }
          }
        }
      });
    }
  }
}

// The right operand is small and arranged already; the left one is read from memory once and not arranged. What is at
// `next` is read ahead at the end.
template <int parts>
void multiply_few(const Operand& left, const char* rights, int64_t right_size, Output out, bool adds, Ahead next) {
  int64_t k = left.k, depth = depth_of(k), full = strip_bytes(k, parts), column_strips = strips(right_size);
  int64_t row_strips = strips(left.size), whole = k % 32 == 0 ? left.size / kStrip : 0;
  at::parallel_for(0, row_strips, 1, [&](int64_t begin, int64_t end) {
    Tiles tiles;
    LeftTiles<parts> made;
    char* strip = own_space.of(full);
    auto source_of = [&](int64_t s) { return left.data + s * kStrip * left.across; };
    if (begin < whole) split_rows<parts>(source_of(begin), left.across, 0, kStrip, made.tiles[0]);
    for (int64_t s = begin; s < end; s++) {
      int64_t row = s * kStrip, rows = left.size - row;
      bool is_last = s + 1 == std::min(end, whole);
      if (s >= whole) pack_strip<parts, true>(left, row, 0, k, strip);
      const float* source = source_of(s);
      Ahead ahead = s + 1 == row_strips ? next : Ahead{nullptr, 0};
      if (s + 1 < end) ahead = {source_of(s + 1), std::min(kStrip, rows - kStrip) * left.across * 4};
      ahead.set_turns(column_strips * turns_of<parts>(k));
      // for whole strips: as many rows, of which each strip of the right operand fetches its share
      const float* soon = ahead.data != nullptr ? static_cast<const float*>(ahead.data) : source;
      int64_t soon_rows = ahead.data != nullptr ? kStrip : 0;
      for (int64_t j = 0; j < column_strips; j++) {
        int64_t fetch_begin = soon_rows * j / column_strips, fetch_end = soon_rows * (j + 1) / column_strips;
        Output here{out.data + row * out.row + j * kStrip * out.column, out.row, out.column};
        int64_t columns = right_size - j * kStrip;
        for (int64_t d = 0; d < k; d += depth) {
          int64_t kd = std::min(depth, k - d), offset = strip_bytes(d, parts);
          const char *of_left = strip + offset, *of_right = rights + j * full + offset;
          bool adds_here = adds || d > 0;
          if (s >= whole) {
            multiply_strips<parts>(of_left, of_right, kd, here, rows, columns, adds_here, ahead);
            continue;
          }
          const float* following = source + d + kd;
          if (d + kd == k) following = j + 1 < column_strips ? source : is_last ? nullptr : source_of(s + 1);
          multiply_rows<parts>(source + d, following, soon + fetch_begin * left.across + d, fetch_end - fetch_begin,
                               left.across, of_right, kd, here, columns, adds_here, made);
        }
      }
    }
  });
}

// All strips of a right operand over all of k, in the shared space.
template <int parts>
const char* arranged(const Operand& right) {
  int64_t full = strip_bytes(right.k, parts);
  char* out = shared_space.of(strips(right.size) * full);
  for (int64_t s = 0; s < strips(right.size); s++)
    pack_strip<parts, false>(right, s * kStrip, 0, right.k, out + s * full);
  return out;
}

template <int parts>
void multiply(const Operand& a, const Operand& b, Output out, bool adds) {
  if (a.size <= kFewRows && b.along == 1) {
    multiply_few<parts>(b, arranged<parts>(a), a.size, {out.data, out.column, out.row}, adds, {nullptr, 0});
  } else {
    multiply_many<parts>(a, b, out, adds);
  }
}

Operand operand(const at::Tensor& x, int size, int k) {
  return {x.const_data_ptr<float>(), x.size(size), x.size(k), x.stride(size), x.stride(k)};
}

void check_operand(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2, name,
              " must be a float32 matrix on the CPU");
  TORCH_CHECK(x.numel() == 0 || x.stride(0) == 1 || x.stride(1) == 1, name, " must be contiguous along one dimension");
}

void matmul_out(const at::Tensor& a, const at::Tensor& b, int64_t parts, bool adds, at::Tensor out) {
  check_operand(a, "a");
  check_operand(b, "b");
  check_operand(out, "out");
  TORCH_CHECK(a.size(1) == b.size(0), "shapes do not fit: ", a.sizes(), " and ", b.sizes());
  TORCH_CHECK(out.size(0) == a.size(0) && out.size(1) == b.size(1) && out.stride(1) == 1, "out must be (",
              a.size(0), ", ", b.size(1), ") in rows, is ", out.sizes());
  TORCH_CHECK(parts == 2 || parts == 3, "parts must be 2 or 3, is ", parts);
  if (out.numel() == 0) return;
  if (a.size(1) == 0) {
    if (!adds) out.zero_();
    return;
  }
  Operand left = operand(a, 0, 1), right = operand(b, 1, 0);
  Output to{out.mutable_data_ptr<float>(), out.stride(0), 1};
  parts == 3 ? multiply<3>(left, right, to, adds) : multiply<2>(left, right, to, adds);
}

template <int parts>
std::vector<at::Tensor> linears_in_parts(const at::Tensor& x, at::TensorList weights, Ahead next) {
  Operand right = operand(x, 0, 1);
  const char* rights = arranged<parts>(right);
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i < weights.size(); i++) {
    outs.push_back(at::empty({x.size(0), weights[i].size(0)}, x.options()));
    Operand left = operand(weights[i], 0, 1);
    Output out{outs[i].mutable_data_ptr<float>(), 1, left.size};
    Ahead ahead = next;
    if (i + 1 < weights.size())
      ahead = {weights[i + 1].const_data_ptr(), std::min(kStrip, weights[i + 1].size(0)) * x.size(1) * 4};
    multiply_few<parts>(left, rights, x.size(0), out, false, ahead);
  }
  return outs;
}

// Few rows times each of some matrices (output by input features). `next`: the matrix that will be needed after them.
std::vector<at::Tensor> linears(const at::Tensor& x, at::TensorList weights, int64_t parts,
                                const std::optional<at::Tensor>& next) {
  check_operand(x, "x");
  for (const auto& weight : weights) {
    check_operand(weight, "a weight");
    TORCH_CHECK(weight.size(1) == x.size(1) && weight.is_contiguous(), "a weight must be (..., ", x.size(1),
                ") and contiguous, is ", weight.sizes());
  }
  TORCH_CHECK(x.numel() > 0, "x must not be empty");
  TORCH_CHECK(parts == 2 || parts == 3, "parts must be 2 or 3, is ", parts);
  Ahead ahead{nullptr, 0};
  if (next.has_value() && next->is_cpu() && next->scalar_type() == at::kFloat && next->is_contiguous()) {
    ahead = {next->const_data_ptr(), std::min(next->numel(), kStrip * next->size(-1)) * 4};
  }
  return parts == 3 ? linears_in_parts<3>(x, weights, ahead) : linears_in_parts<2>(x, weights, ahead);
}

// Whether the system lets this process use the matrix units, which it must be asked for once (Linux, x86-64).
bool enable() {
  constexpr int request = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

}  // namespace

TORCH_LIBRARY(llm_envs_split_products, m) {
  m.def("enable() -> bool", enable);
  m.def("linears(Tensor x, Tensor[] weights, int parts, Tensor? next) -> Tensor[]", linears);
  m.def("matmul_out(Tensor a, Tensor b, int parts, bool adds, Tensor(c!) out) -> ()", matmul_out);
}
