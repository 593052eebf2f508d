// The library behind C functions, for the comparisons: one process then runs both sides in turn on the same buffers.
//
// Also what a peer needs to do the same job: rows of length 1, and the scan of a T x T Gram matrix. Statuses are
// cascada::status as int.

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "bench/data.hpp"
#include "bench/exports.hpp"
#include "bench/memory.hpp"
#include "bench/peak.hpp"
#include "bench/presets.hpp"
#include "cascada/cascada.hpp"

using namespace cascada;
using bench::with_rows;

namespace {

using pool    = thread_pool<compiled_isa>;
using backend = default_backend;

backend on(pool* threads) { return {.executor = {threads}}; }

/// A selector or a cascade, of any row type.
struct selection {
  virtual ~selection()                                                                             = default;
  virtual status                  run(const void* x, index_t tokens, index_t cols, index_t stride) = 0;
  virtual status                  inherit(const representatives&) { return status::unsupported; }
  virtual representatives         kept() const   = 0;
  virtual const selection_report& report() const = 0;
};

enum selection_kind : int { full, literal, exact_cascade, paper_cascade };

template <class Scalar>
struct full_selection : selection {
  full_selection(const selection_options& options, bool by_gram_matrix, pool* threads)
      : by_gram_matrix_(by_gram_matrix), select_(options, on(threads)) {}

  status run(const void* x, index_t tokens, index_t cols, index_t stride) override {
    const matrix_view<const Scalar> rows{static_cast<const Scalar*>(x), tokens, cols, stride};
    return by_gram_matrix_ ? select_.literal(rows) : select_(rows);
  }
  representatives         kept() const override { return select_.kept(); }
  const selection_report& report() const override { return select_.report(); }

 private:
  bool             by_gram_matrix_;
  selector<Scalar> select_;
};

template <class Scalar>
struct cascaded_selection : selection {
  cascaded_selection(const selection_options& options, pool* threads) : cascade_(options, on(threads)) {}

  status run(const void* x, index_t tokens, index_t cols, index_t stride) override {
    return cascade_.step({static_cast<const Scalar*>(x), tokens, cols, stride});
  }
  status                  inherit(const representatives& state) override { return cascade_.inherit(state); }
  representatives         kept() const override { return cascade_.kept(); }
  const selection_report& report() const override { return cascade_.report(); }

 private:
  cascade<Scalar> cascade_;
};

template <class Scalar>
selection* make_selection(selection_kind kind, float threshold, prefilter filter, pool* threads) {
  selection_options options{.threshold = threshold, .filter = filter};
  if (kind == full || kind == literal) return new full_selection<Scalar>(options, kind == literal, threads);
  if (kind == paper_cascade) options.validate = validation::cross_gram;
  return new cascaded_selection<Scalar>(options, threads);
}

/// Attention of any row type over packed [tokens, heads, dim] buffers.
struct attender {
  virtual ~attender()                                                                     = default;
  virtual status run(const void* q, const void* k, const void* v, index_t tokens, index_t heads, index_t kv_heads,
                     index_t dim, std::span<const representatives> selections, void* out) = 0;
  virtual const attention_report& report() const                                          = 0;
};

template <class Scalar>
struct attender_of : attender {
  attender_of(const attention_options& options, pool* threads) : attend_(options, on(threads)) {}

  status run(const void* q, const void* k, const void* v, index_t tokens, index_t heads, index_t kv_heads, index_t dim,
             std::span<const representatives> selections, void* out) override {
    const auto rows = [&](const void* data, index_t count) {
      return packed_heads(static_cast<const Scalar*>(data), tokens, count, dim);
    };
    return attend_(rows(q, heads), strided_kv<Scalar>{rows(k, kv_heads), rows(v, kv_heads)}, selections,
                   packed_heads(static_cast<Scalar*>(out), tokens, heads, dim));
  }
  const attention_report& report() const override { return attend_.report(); }

 private:
  attention<Scalar> attend_;
};

}  // namespace

/// representatives of one selection, as pointers; valid until it runs again.
struct kept_tokens {
  const index_t *indices, *rep, *counts;
  index_t        tokens, count;
};

EXPORT pool* cascada_pool(int threads) { return new pool(threads); }

EXPORT selection* cascada_selection(int kind, int rows, float threshold, int filter, pool* threads) {
  return with_rows(rows, [&](auto scalar) {
    return make_selection<decltype(scalar)>(static_cast<selection_kind>(kind), threshold,
                                            static_cast<prefilter>(filter), threads);
  });
}
EXPORT void cascada_selection_free(selection* self) { delete self; }
EXPORT int  cascada_select(selection* self, const void* x, index_t tokens, index_t cols, index_t stride) {
  return static_cast<int>(self->run(x, tokens, cols, stride));
}
EXPORT int cascada_inherit(selection* self, const selection* from) {
  return static_cast<int>(self->inherit(from->kept()));
}
EXPORT kept_tokens cascada_kept(const selection* self) {
  const representatives kept = self->kept();
  return {kept.indices.data(), kept.rep.data(), kept.counts.data(), kept.tokens(), kept.count()};
}
EXPORT std::int64_t cascada_pairs_evaluated(const selection* self) { return self->report().pairs_evaluated; }
EXPORT std::int64_t cascada_pairs_rechecked(const selection* self) {
  return self->report().pairs_rechecked.value_or(0);
}
EXPORT std::int64_t cascada_gram_operations(const selection* self) { return self->report().gram.total(); }

/// attention_options as plain numbers; moments 0: no correction.
struct attention_setting {
  int   keys, queries, causal, window, chunk, sink_tokens, leaves;
  float leaf_threshold;
  int   leaf, moments, open;
  float open_above;
  int   tile;
};

EXPORT attention_setting bench_setting(const attention_options* given) {
  const attention_options options = given ? *given : attention_options{};
  return {.keys           = static_cast<int>(options.keys),
          .queries        = static_cast<int>(options.queries),
          .causal         = options.causal,
          .window         = options.window,
          .chunk          = options.chunk,
          .sink_tokens    = options.sink_tokens,
          .leaves         = static_cast<int>(options.leaves),
          .leaf_threshold = options.leaf_threshold,
          .leaf           = options.leaf,
          .moments        = options.moments.value_or(0),
          .open           = static_cast<int>(options.open),
          .open_above     = options.open_above,
          .tile           = options.tile};
}

/// A preset: its name, the features of its selection (bench/presets.hpp) and its options. The name is null past the
/// last.
struct named_setting {
  const char*       name;
  int               features;
  float             threshold;
  attention_setting attention;
};

EXPORT named_setting bench_preset(int i) {
  if (i < 0 || i >= static_cast<int>(std::size(bench::presets))) return {};
  const bench::preset& one = bench::presets[i];
  return {one.name, static_cast<int>(one.from), one.threshold, bench_setting(&one.attention)};
}

EXPORT attender* cascada_attention(int rows, const attention_setting* setting, pool* threads) {
  attention_options options{.keys           = static_cast<key_set>(setting->keys),
                            .queries        = static_cast<query_set>(setting->queries),
                            .causal         = setting->causal != 0,
                            .window         = setting->window,
                            .chunk          = setting->chunk,
                            .sink_tokens    = setting->sink_tokens,
                            .leaves         = static_cast<leaf_formation>(setting->leaves),
                            .leaf_threshold = setting->leaf_threshold,
                            .leaf           = setting->leaf,
                            .moments        = setting->moments,
                            .open           = static_cast<opening>(setting->open),
                            .open_above     = setting->open_above,
                            .tile           = setting->tile};
  if (setting->moments == 0) options.moments.reset();
  return with_rows(rows, [&](auto scalar) -> attender* { return new attender_of<decltype(scalar)>(options, threads); });
}
EXPORT void cascada_attention_free(attender* self) { delete self; }

/// `kept`: `selections` of them, none, one, or one per KV head.
EXPORT int cascada_attend(attender* self, const void* q, const void* k, const void* v, index_t tokens, index_t heads,
                          index_t kv_heads, index_t dim, const kept_tokens* kept, index_t selections, void* out) {
  std::vector<representatives> all;
  for (const auto& one : std::span(kept, static_cast<std::size_t>(selections))) {
    const auto T = static_cast<std::size_t>(one.tokens), r = static_cast<std::size_t>(one.count);
    all.push_back({{one.indices, r}, {one.rep, T}, {one.counts, r}});
  }
  return static_cast<int>(self->run(q, k, v, tokens, heads, kv_heads, dim, all, out));
}

/// Of the last call.
EXPORT void cascada_attended(const attender* self, attention_report* report) { *report = self->report(); }

/// Bytes that the library holds on the heap, and the most since the last reset.
EXPORT std::int64_t bench_memory_held() { return bench::memory_held(); }
EXPORT std::int64_t bench_memory_peak() { return bench::memory_peak(); }
EXPORT void         bench_memory_reset_peak() { bench::reset_memory_peak(); }

/// Whether matrix instructions for bfloat16 may be used here.
EXPORT bool bench_has_tiles() {
  return kernel::gram::has_bf16_tiles<default_backend> && kernel::tiles_permitted<default_backend>();
}

/// What built this.
EXPORT const char* bench_compiler() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

EXPORT double bench_fma_loop(std::int64_t steps) { return bench::fma_loop(steps); }
EXPORT double bench_bf16_loop(std::int64_t steps) { return bench::bf16_loop(steps); }
EXPORT double bench_triad() {
  static bench::triad arrays;
  return arrays();
}

EXPORT void bench_random_rows(index_t tokens, index_t cols, unsigned seed, float* rows) {
  bench::random_rows(tokens, cols, seed, rows);
}
EXPORT void bench_clustered_rows(index_t tokens, index_t cols, index_t clusters, index_t stray, unsigned seed,
                                 unsigned layer, float* rows) {
  bench::clustered_rows(tokens, cols, clusters, stray, seed, layer, rows);
}

/// For a peer: unit [T, d], the rows of x at length 1.
EXPORT void bench_normalize(const float* x, index_t tokens, index_t cols, float* unit) {
  for (std::int64_t i = 0; i < tokens; ++i) {
    const float* row    = x + i * cols;
    float        square = 0;
    // A peer is not bound to one order of summation.
#pragma omp simd reduction(+ : square)
    for (index_t c = 0; c < cols; ++c) square += row[c] * row[c];
    const float scale = square > 0 ? 1 / std::sqrt(square) : 0;
    for (index_t c = 0; c < cols; ++c) unit[i * cols + c] = row[c] * scale;
  }
}

/// For a peer: the set that a Gram matrix of unit rows, [T, T] below the diagonal, gives. Returns r.
EXPORT index_t bench_scan(const float* gram, index_t tokens, float threshold, index_t* indices, index_t* rep) {
  index_t count = 0;
  for (index_t i = 0; i < tokens; ++i) {
    const float* row = gram + std::int64_t{i} * tokens;
    rep[i]           = i;
    for (index_t k = 0; k < count; ++k)
      if (row[indices[k]] >= threshold) {
        rep[i] = indices[k];
        break;
      }
    if (rep[i] == i) indices[count++] = i;
  }
  return count;
}
