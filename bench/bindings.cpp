// The library behind C functions, for the comparisons: one process then runs both sides in turn on the same buffers.
//
// Also what a peer needs to do the same job: rows of length 1, and the scan of a T x T Gram matrix. Statuses are
// cascada::status as int.

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>

#include "bench/data.hpp"
#include "bench/memory.hpp"
#include "bench/peak.hpp"
#include "cascada/cascada.hpp"

using namespace cascada;

namespace {

using pool    = thread_pool<compiled_isa>;
using backend = default_backend;

backend on(pool* threads) { return {.executor = {threads}}; }

/// A selector or a cascade, of any row type.
struct selection {
  virtual ~selection() = default;
  virtual status                  run(const void* x, index_t tokens, index_t cols) = 0;
  virtual status                  inherit(const representatives&) { return status::unsupported; }
  virtual representatives         kept() const   = 0;
  virtual const selection_report& report() const = 0;
};

enum selection_kind : int { full, literal, exact_cascade, paper_cascade };

template <class Scalar>
struct full_selection : selection {
  full_selection(const selection_options& options, bool by_gram_matrix, pool* threads)
      : by_gram_matrix_(by_gram_matrix), select_(options, on(threads)) {}

  status run(const void* x, index_t tokens, index_t cols) override {
    const matrix_view<const Scalar> rows{static_cast<const Scalar*>(x), tokens, cols, cols};
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

  status run(const void* x, index_t tokens, index_t cols) override {
    return cascade_.step({static_cast<const Scalar*>(x), tokens, cols, cols});
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
  virtual ~attender() = default;
  virtual status run(const void* q, const void* k, const void* v, index_t tokens, index_t heads, index_t kv_heads,
                     index_t dim, std::span<const representatives> selections, void* out) = 0;
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

 private:
  attention<Scalar> attend_;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

/// representatives of one selection, as pointers; valid until it runs again.
struct kept_tokens {
  const index_t *indices, *rep, *counts;
  index_t        tokens, count;
};

EXPORT pool* cascada_pool(int threads) { return new pool(threads); }

EXPORT selection* cascada_selection(int kind, bool bf16, float threshold, int filter, pool* threads) {
  const auto what   = static_cast<selection_kind>(kind);
  const auto chosen = static_cast<prefilter>(filter);
  return bf16 ? make_selection<bfloat16>(what, threshold, chosen, threads)
              : make_selection<float>(what, threshold, chosen, threads);
}
EXPORT void cascada_selection_free(selection* self) { delete self; }
EXPORT int  cascada_select(selection* self, const void* x, index_t tokens, index_t cols) {
  return static_cast<int>(self->run(x, tokens, cols));
}
EXPORT int cascada_inherit(selection* self, const selection* from) {
  return static_cast<int>(self->inherit(from->kept()));
}
EXPORT kept_tokens cascada_kept(const selection* self) {
  const representatives kept = self->kept();
  return {kept.indices.data(), kept.rep.data(), kept.counts.data(), kept.tokens(), kept.count()};
}
EXPORT std::int64_t cascada_pairs_evaluated(const selection* self) { return self->report().pairs_evaluated; }
EXPORT std::int64_t cascada_pairs_rechecked(const selection* self) { return self->report().pairs_rechecked; }
EXPORT std::int64_t cascada_gram_operations(const selection* self) { return self->report().gram.total(); }

EXPORT attender* cascada_attention(bool bf16, int keys, int queries, bool causal, index_t window, index_t chunk,
                                   index_t budget, index_t candidates, pool* threads) {
  const attention_options options{.keys       = static_cast<key_set>(keys),
                                  .queries    = static_cast<query_set>(queries),
                                  .causal     = causal,
                                  .window     = window,
                                  .chunk      = chunk,
                                  .budget     = budget,
                                  .candidates = candidates};
  if (bf16) return new attender_of<bfloat16>(options, threads);
  return new attender_of<float>(options, threads);
}
EXPORT void cascada_attention_free(attender* self) { delete self; }
EXPORT int  cascada_attend(attender* self, const void* q, const void* k, const void* v, index_t tokens, index_t heads,
                           index_t kv_heads, index_t dim, const kept_tokens* kept, void* out) {
  representatives selection;
  if (kept) {
    const auto T = static_cast<std::size_t>(kept->tokens), r = static_cast<std::size_t>(kept->count);
    selection = {{kept->indices, r}, {kept->rep, T}, {kept->counts, r}};
  }
  return static_cast<int>(self->run(q, k, v, tokens, heads, kv_heads, dim,
                                    kept ? std::span<const representatives>(&selection, 1)
                                         : std::span<const representatives>{},
                                    out));
}

/// Bytes that the library holds on the heap, and the most since the last reset.
EXPORT std::int64_t bench_memory_held() { return bench::memory_held(); }
EXPORT std::int64_t bench_memory_peak() { return bench::memory_peak(); }
EXPORT void         bench_memory_reset_peak() { bench::reset_memory_peak(); }

/// Whether matrix instructions for bfloat16 may be used here.
EXPORT bool bench_has_tiles() {
  return kernel::has_bf16_tiles<default_backend> && kernel::tiles_permitted<default_backend>();
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
