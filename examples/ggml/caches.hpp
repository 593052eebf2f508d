#pragma once
// What the program attends with: random rows, ggml's caches that hold them in every layout, attention in double, and
// graphs that are computed again and again.

#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cascada_ggml.hpp"

namespace ggml_cascada::example {

inline constexpr index_t heads = 9, kv_heads = 3, dim = 64, group = heads / kv_heads;  // SmolLM2-135M's

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Rows [tokens, columns] of standard normal numbers, the same for a seed.
inline std::vector<float> random_rows(index_t tokens, index_t columns, unsigned seed) {
  std::mt19937                    from(seed);
  std::normal_distribution<float> normal;
  std::vector<float>              rows(at(std::int64_t{tokens} * columns));
  for (float& x : rows) x = normal(from);
  return rows;
}

/// How a cache lies in memory.
struct layout {
  const char* name       = "";
  ggml_type   keys       = GGML_TYPE_F16;
  ggml_type   values     = GGML_TYPE_F16;
  bool        transposed = false;  // values: as ggml keeps them without flash attention
  bool        shuffled   = false;  // cells in another order than their tokens
  bool        padded     = false;  // cells that nobody has, to a multiple of 256 and 256 more
};

inline constexpr layout layouts[] = {
    {.name = "float16"},
    {.name = "float16, out of order, padded", .shuffled = true, .padded = true},
    {.name = "float16, values transposed", .transposed = true},
    {.name = "float16, transposed, out of order, padded", .transposed = true, .shuffled = true, .padded = true},
    {.name = "Q8_0", .keys = GGML_TYPE_Q8_0, .values = GGML_TYPE_Q8_0},
    {.name     = "Q8_0, out of order, padded",
     .keys     = GGML_TYPE_Q8_0,
     .values   = GGML_TYPE_Q8_0,
     .shuffled = true,
     .padded   = true},
    {.name = "keys Q8_0, values float16 transposed", .keys = GGML_TYPE_Q8_0, .transposed = true},
};

/// How far the operation may be from attention in double, of the largest result. Sums of floats: some roundings of
/// 2^-24 of the largest, whatever the length.
inline constexpr double tolerance = 1e-5;

/// ggml rounds queries to float16, or beside Q8_0 to Q8_0, and sums values of float16 in float16 for a single query: an
/// error that grows with the number of terms, 0.014 of the largest result at 4096 tokens, 0.036 at 16384.
inline double tolerance_of_ggml(const layout& how, index_t length) {
  return std::max(how.keys == GGML_TYPE_Q8_0 ? 5e-2 : 2e-2, 2e-2 * length / 4096);
}

/// Memory for tensors and their data, freed at the end.
class arena {
 public:
  explicit arena(std::size_t bytes) : context_(ggml_init({bytes + (std::size_t{8} << 20), nullptr, false})) {
    if (!context_) std::fprintf(stderr, "cascada-ggml: no memory for %zu bytes\n", bytes), std::exit(1);
  }
  ~arena() { ggml_free(context_); }
  arena(const arena&)            = delete;
  arena& operator=(const arena&) = delete;

  operator ggml_context*() const { return context_; }

 private:
  ggml_context* context_;
};

/// A sequence in a cache: keys and values as ggml_flash_attn_ext takes them, but for transposed values, and the
/// positions of its cells.
struct cache {
  ggml_tensor*         k         = nullptr;
  ggml_tensor*         v         = nullptr;
  ggml_tensor*         positions = nullptr;
  std::vector<index_t> cell;  // of each token
  std::vector<float>   keys;  // [tokens, kv_heads, dim], the floats that the cache stands for
  std::vector<float>   values;

  index_t tokens() const { return static_cast<index_t>(cell.size()); }
  index_t cells() const { return static_cast<index_t>(k->ne[1]); }
};

/// Writes a row as `type`, and what it stands for back.
inline void store(ggml_type type, float* row, std::size_t count, void* to) {
  if (type == GGML_TYPE_F16)
    ggml_fp32_to_fp16_row(row, static_cast<ggml_fp16_t*>(to), static_cast<std::int64_t>(count));
  else
    ggml_quantize_chunk(type, row, to, 0, 1, static_cast<std::int64_t>(count), nullptr);
  ggml_get_type_traits(type)->to_float(to, row, static_cast<std::int64_t>(count));
}

/// What cells that nobody has are full of.
inline constexpr float junk = 50;

/// Rows [tokens, kv_heads, dim] in a new cache. What a cell of nobody holds is `empty`.
inline cache make_cache(ggml_context* context, const layout& how, std::vector<float> keys, std::vector<float> values,
                        float empty = junk) {
  constexpr std::size_t width  = kv_heads * dim;
  const auto            tokens = static_cast<index_t>(keys.size() / width);
  const index_t         cells  = how.padded ? (tokens + 255) / 256 * 256 + 256 : tokens;
  cache                 made;
  std::vector<index_t>  place(at(cells));
  std::iota(place.begin(), place.end(), 0);
  if (how.shuffled) std::shuffle(place.begin(), place.end(), std::mt19937(5));
  made.cell.assign(place.begin(), place.begin() + tokens);

  made.positions = ggml_new_tensor_2d(context, GGML_TYPE_I32, cells, 1);
  auto* const k  = ggml_new_tensor_2d(context, how.keys, static_cast<std::int64_t>(width), cells);
  auto* const v  = how.transposed ? ggml_new_tensor_2d(context, how.values, cells, static_cast<std::int64_t>(width))
                                  : ggml_new_tensor_2d(context, how.values, static_cast<std::int64_t>(width), cells);
  std::vector<float>       nobody(width);
  std::vector<ggml_fp16_t> column(width);
  for (index_t t = 0; t < cells; ++t) {
    const auto cell = at(place[at(t)]);
    std::fill(nobody.begin(), nobody.end(), empty);
    static_cast<std::int32_t*>(made.positions->data)[cell] = t < tokens ? t : -1;
    store(how.keys, t < tokens ? keys.data() + at(t) * width : nobody.data(), width,
          static_cast<char*>(k->data) + cell * k->nb[1]);
    std::fill(nobody.begin(), nobody.end(), empty);
    float* const row = t < tokens ? values.data() + at(t) * width : nobody.data();
    if (!how.transposed) {
      store(how.values, row, width, static_cast<char*>(v->data) + cell * v->nb[1]);
      continue;
    }
    store(how.values, row, width, column.data());
    for (std::size_t c = 0; c < width; ++c) static_cast<ggml_fp16_t*>(v->data)[c * at(cells) + cell] = column[c];
  }
  made.keys = std::move(keys), made.values = std::move(values);

  // The views of an engine: heads apart, then as attention wants them.
  const auto by_head = [&](ggml_tensor* rows) {
    ggml_tensor* const split =
        ggml_view_3d(context, rows, dim, kv_heads, cells, ggml_row_size(rows->type, dim), rows->nb[1], 0);
    return ggml_permute(context, split, 0, 2, 1, 3);
  };
  made.k = by_head(k);
  if (how.transposed) {
    ggml_tensor* const split = ggml_view_3d(context, v, cells, kv_heads, dim, dim * v->nb[1], v->nb[1], 0);
    made.v                   = ggml_transpose(context, ggml_permute(context, split, 0, 2, 1, 3));
  } else {
    made.v = by_head(v);
  }
  return made;
}

/// Queries [tokens, heads, dim], as a permuted view of them.
inline ggml_tensor* make_queries(ggml_context* context, const std::vector<float>& q) {
  const auto         tokens = static_cast<std::int64_t>(q.size() / (heads * dim));
  ggml_tensor* const rows   = ggml_new_tensor_3d(context, GGML_TYPE_F32, dim, heads, tokens);
  std::copy(q.begin(), q.end(), static_cast<float*>(rows->data));
  return ggml_permute(context, rows, 0, 2, 1, 3);
}

/// The mask of the last `queries` tokens of a cache's sequence, of type F16 or F32; window 0: none.
inline ggml_tensor* make_mask(ggml_context* context, const cache& of, index_t queries, ggml_type type = GGML_TYPE_F16,
                              index_t window = 0) {
  ggml_tensor* const mask = ggml_new_tensor_2d(context, type, of.cells(), (queries + 63) / 64 * 64);
  const auto         set  = [&](std::int64_t i, float value) {
    if (type == GGML_TYPE_F16)
      static_cast<ggml_fp16_t*>(mask->data)[i] = ggml_fp32_to_fp16(value);
    else
      static_cast<float*>(mask->data)[i] = value;
  };
  for (std::int64_t i = 0; i < ggml_nelements(mask); ++i) set(i, -std::numeric_limits<float>::infinity());
  for (index_t i = 0; i < queries; ++i) {
    const index_t token = of.tokens() - queries + i;
    for (index_t t = window > 0 ? std::max(0, token - window + 1) : 0; t <= token; ++t)
      set(std::int64_t{i} * of.cells() + of.cell[at(t)], 0);
  }
  return mask;
}

/// What a query attends with beside q, k and v.
struct score_terms {
  float        softcap = 0;
  const float* sinks   = nullptr;  // [heads]
  index_t      window  = 0;
};

/// Attention in double from a token to those before it and itself: [dim].
inline std::vector<double> attend_in_double(const float* query, index_t head, const cache& to, index_t token,
                                            const score_terms& terms) {
  const index_t       first = terms.window > 0 ? std::max(0, token - terms.window + 1) : 0;
  const std::size_t   own = at(head / group) * dim, width = kv_heads * dim;
  std::vector<double> logits, out(dim);
  for (index_t t = first; t <= token; ++t) {
    double       sum = 0;
    const float* key = to.keys.data() + at(t) * width + own;
    for (std::size_t c = 0; c < dim; ++c) sum += double{query[c]} * double{key[c]};
    sum /= std::sqrt(double{dim});
    logits.push_back(terms.softcap > 0 ? double{terms.softcap} * std::tanh(sum / double{terms.softcap}) : sum);
  }
  const double most = *std::max_element(logits.begin(), logits.end());
  double       sum  = terms.sinks ? std::exp(double{terms.sinks[head]} - most) : 0.0;
  for (index_t t = first; t <= token; ++t) {
    const double weight = std::exp(logits[at(t - first)] - most);
    const float* value  = to.values.data() + at(t) * width + own;
    sum += weight;
    for (std::size_t c = 0; c < dim; ++c) out[c] += weight * double{value[c]};
  }
  for (double& x : out) x /= sum;
  return out;
}

/// The same for some of the queries [queries, heads, dim], the last tokens of a cache's sequence: first, last, and
/// between.
struct exact_rows {
  std::vector<index_t>             queries;
  std::vector<std::vector<double>> rows;  // [queries, heads]
  double                           largest = 0;

  exact_rows(const std::vector<float>& q, const cache& to, const score_terms& terms = {}) {
    const auto count = static_cast<index_t>(q.size() / (heads * dim));
    for (index_t i = 0; i < count; i += std::max(1, count / 8)) queries.push_back(i);
    if (queries.back() != count - 1) queries.push_back(count - 1);
    for (const index_t i : queries)
      for (index_t h = 0; h < heads; ++h) {
        rows.push_back(attend_in_double(q.data() + at(i * heads + h) * dim, h, to, to.tokens() - count + i, terms));
        for (const double x : rows.back()) largest = std::max(largest, std::abs(x));
      }
  }

  /// How far results [queries, heads, dim] are from it, of the largest.
  double error_of(const float* results) const {
    double      worst = 0;
    std::size_t row   = 0;
    for (const index_t i : queries)
      for (index_t h = 0; h < heads; ++h, ++row)
        for (std::size_t c = 0; c < dim; ++c) {
          const double off = std::abs(double{results[at(i * heads + h) * dim + c]} - rows[row][c]);
          if (!(off <= worst)) worst = off;  // NaN as well
        }
    return worst / largest;
  }
};

/// ggml's threads, kept between graphs.
class threads {
 public:
  explicit threads(int count) : count_(count) {
    ggml_threadpool_params wishes = ggml_threadpool_params_default(count);
    pool_.reset(ggml_threadpool_new(&wishes));
  }
  int              count() const { return count_; }
  ggml_threadpool* pool() const { return pool_.get(); }

 private:
  struct free {
    void operator()(ggml_threadpool* pool) const { ggml_threadpool_free(pool); }
  };
  int                                    count_;
  std::unique_ptr<ggml_threadpool, free> pool_;
};

/// A graph that is computed again and again.
class graph {
 public:
  graph(ggml_context* context, const threads& on, const std::vector<ggml_tensor*>& results)
      : graph_(ggml_new_graph(context)) {
    for (ggml_tensor* const result : results) ggml_build_forward_expand(graph_, result);
    plan_ = ggml_graph_plan(graph_, on.count(), on.pool());
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }
  void operator()() {
    if (ggml_graph_compute(graph_, &plan_) == GGML_STATUS_SUCCESS) return;
    std::fprintf(stderr, "cascada-ggml: ggml_graph_compute failed\n"), std::exit(1);
  }

 private:
  ggml_cgraph*              graph_;
  ggml_cplan                plan_ = {};
  std::vector<std::uint8_t> work_;
};

}  // namespace ggml_cascada::example
