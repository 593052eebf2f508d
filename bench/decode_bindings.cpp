// Decoding behind C functions: a step of one sequence, and one of a batch of ragged sequences that grow.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "bench/exports.hpp"
#include "cascada/cascada.hpp"

using namespace cascada;

namespace {

using pool = thread_pool<compiled_isa>;

default_backend on(pool* threads) { return {.executor = {threads}}; }

/// How a batch takes its step.
enum batch_kind : int {
  dense,    // in one call, with offsets
  in_turn,  // near + far, a call for each sequence, which all threads share
  apart,    // near + far, a call for each sequence, of one thread each: the longest first
};

/// A step of one way to decode. `results`: [sequences, heads, dim] in float.
struct batch_way {
  virtual ~batch_way()                    = default;
  virtual status step()                   = 0;
  virtual void   results(float* to) const = 0;
};

/// Sequences of heads of one shape, each of whose last tokens are still to come.
struct batch {
  virtual ~batch()                                                                                     = default;
  virtual void       add(const void* q, const void* k, const void* v, index_t tokens, index_t to_come) = 0;
  virtual status     read_prompts(pool* threads)                                                       = 0;
  virtual batch_way* way(batch_kind kind, pool* threads)                                               = 0;
};

template <class Scalar>
struct batch_of : batch {
  batch_of(index_t query_heads, index_t key_heads, index_t head_dim)
      : heads(query_heads), kv_heads(key_heads), dim(head_dim) {}

  void add(const void* q, const void* k, const void* v, index_t tokens, index_t to_come) override {
    const auto append = [&](std::vector<Scalar>& rows, const void* from, index_t count) {
      const auto* first = static_cast<const Scalar*>(from);
      rows.insert(rows.end(), first, first + std::int64_t{tokens} * count * dim);
    };
    append(queries, q, heads), append(keys, k, kv_heads), append(values, v, kv_heads);
    begins.push_back(begins.back() + tokens);
    prompts.push_back(tokens - to_come);
    steps   = std::min(steps, to_come);
    longest = std::max(longest, tokens);
  }

  status read_prompts(pool* threads) override {
    clusters.assign(static_cast<std::size_t>(longest), 0);
    attention<Scalar>   attend(presets::balanced.attention, on(threads));
    std::vector<Scalar> out(static_cast<std::size_t>(longest) * static_cast<std::size_t>(heads * dim));
    begun.resize(prompts.size());
    for (std::size_t s = 0; s < begun.size(); ++s) {
      begun[s].reserve(length(s));
      const status answer = extend(attend, begun[s], s, prompts[s], out.data());
      if (answer != status::ok) return answer;
    }
    return status::ok;
  }

  batch_way* way(batch_kind kind, pool* threads) override;

  std::size_t              count() const { return prompts.size(); }
  index_t                  length(std::size_t s) const { return begins[s + 1] - begins[s]; }
  heads_view<const Scalar> rows(const std::vector<Scalar>& all, std::int64_t begin, std::int64_t end,
                                index_t of) const {
    return packed_heads(all.data() + begin * of * dim, static_cast<index_t>(end - begin), of, dim);
  }
  strided_kv<Scalar> kv(std::int64_t begin, std::int64_t end) const {
    return {rows(keys, begin, end, kv_heads), rows(values, begin, end, kv_heads)};
  }

  /// The next tokens of sequence s; all tokens are one cluster.
  status extend(attention<Scalar>& attend, attention_state<Scalar>& state, std::size_t s, index_t more, Scalar* out) {
    const index_t         first = 0, all = length(s), at = begins[s] + state.tokens();
    const representatives kept = {{&first, 1}, {clusters.data(), static_cast<std::size_t>(all)}, {&all, 1}};
    return attend.extend(state, rows(queries, at, at + more, heads), kv(begins[s], begins[s + 1]), kept,
                         packed_heads(out, more, heads, dim));
  }

  index_t                              heads, kv_heads, dim, longest = 0, steps = 1 << 30;
  std::vector<Scalar>                  queries, keys, values;
  std::vector<index_t>                 begins = {0}, prompts;
  std::vector<index_t>                 clusters;
  std::vector<attention_state<Scalar>> begun;
};

template <class Scalar>
struct way_of : batch_way {
  explicit way_of(batch_of<Scalar>& of)
      : sequences(of), out(of.count() * static_cast<std::size_t>(of.heads) * static_cast<std::size_t>(of.dim)) {}

  void results(float* to) const override {
    for (std::size_t i = 0; i < out.size(); ++i) to[i] = to_float(out[i]);
  }

  batch_of<Scalar>&   sequences;
  std::vector<Scalar> out;
  index_t             step_ = 0;  // tokens behind the prompts
};

template <class Scalar>
struct dense_way : way_of<Scalar> {
  dense_way(batch_of<Scalar>& of, pool* threads) : way_of<Scalar>(of), attend({.keys = key_set::all}, on(threads)) {}

  status step() override {
    auto& all = this->sequences;
    if (this->step_ == all.steps) this->step_ = 0;
    const index_t        now    = ++this->step_;
    std::vector<index_t> asking = {0}, ends = {0};
    queries.clear();
    for (std::size_t s = 0; s < all.count(); ++s) {
      const index_t end = all.begins[s] + all.prompts[s] + now;
      const auto*   row = all.queries.data() + std::int64_t{end - 1} * all.heads * all.dim;
      queries.insert(queries.end(), row, row + std::int64_t{all.heads} * all.dim);
      for (const index_t of : {end, all.begins[s + 1]}) {  // the sequence, and one that nobody asks: what is to come
        asking.push_back(static_cast<index_t>(s) + 1);
        ends.push_back(of);
      }
    }
    const auto count = static_cast<index_t>(all.count());
    return attend(all.rows(queries, 0, count, all.heads), all.kv(0, all.begins.back()),
                  packed_heads(this->out.data(), count, all.heads, all.dim),
                  {.query_offsets = asking, .key_offsets = ends});
  }

  attention<Scalar>   attend;
  std::vector<Scalar> queries;
};

template <class Scalar>
struct near_far_way : way_of<Scalar> {
  near_far_way(batch_of<Scalar>& of, batch_kind kind, pool* threads)
      : way_of<Scalar>(of), together(kind == in_turn), executor{threads}, states(of.begun) {
    const index_t workers = together ? 1 : executor.concurrency();
    for (index_t w = 0; w < workers; ++w) {
      alone.push_back(std::make_unique<pool>(1));
      attend.emplace_back(presets::balanced.attention, on(together ? threads : alone.back().get()));
    }
    order.resize(of.count());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return of.length(a) > of.length(b); });
  }

  status step() override {
    if (this->step_ == this->sequences.steps) this->step_ = 0, states = this->sequences.begun;
    ++this->step_;
    std::atomic<std::size_t> next{0};
    std::atomic<bool>        failed{false};
    const auto               work = [&](index_t worker) {
      for (std::size_t i = next++; i < order.size(); i = next++)
        if (extend(attend[static_cast<std::size_t>(worker)], order[i]) != status::ok) failed = true;
    };
    if (together) work(0);
    if (!together) executor.parallel_for(static_cast<index_t>(attend.size()), work);
    return failed ? status::unsupported : status::ok;
  }

 private:
  status extend(attention<Scalar>& by, std::size_t s) {
    return this->sequences.extend(
        by, states[s], s, 1,
        this->out.data() + s * static_cast<std::size_t>(this->sequences.heads * this->sequences.dim));
  }

  bool                                 together;
  pool_executor<compiled_isa>          executor;
  std::vector<std::unique_ptr<pool>>   alone;
  std::vector<attention<Scalar>>       attend;
  std::vector<attention_state<Scalar>> states;
  std::vector<std::size_t>             order;
};

template <class Scalar>
batch_way* batch_of<Scalar>::way(batch_kind kind, pool* threads) {
  if (kind == dense) return new dense_way<Scalar>(*this, threads);
  return new near_far_way<Scalar>(*this, kind, threads);
}

using dense_step = attention<float, cpu<compiled_isa, serial_executor>>;

template <class Scalar>
status run_dense_step(dense_step& attend, const float* q, const void* k, const void* v, index_t tokens, index_t heads,
                      index_t kv_heads, index_t dim, float* out) {
  const auto stored = [&](const void* from) {
    return packed_heads(static_cast<const Scalar*>(from), tokens, kv_heads, dim);
  };
  return attend(packed_heads(q, 1, heads, dim), strided_kv<Scalar>{stored(k), stored(v)},
                packed_heads(out, 1, heads, dim));
}

}  // namespace

/// Rows are of bfloat16.
EXPORT batch* bench_batch(index_t heads, index_t kv_heads, index_t dim) {
  return new batch_of<bfloat16>(heads, kv_heads, dim);
}
EXPORT void bench_batch_free(batch* self) { delete self; }

/// One more sequence, copied: q [tokens, heads, dim], k and v [tokens, kv_heads, dim]. Its last `to_come` tokens are
/// decoded, over and over again.
EXPORT void bench_batch_add(batch* self, const void* q, const void* k, const void* v, index_t tokens, index_t to_come) {
  self->add(q, k, v, tokens, to_come);
}
/// Once all sequences are there.
EXPORT int bench_batch_read_prompts(batch* self, pool* threads) {
  return static_cast<int>(self->read_prompts(threads));
}
EXPORT batch_way* bench_batch_way(batch* self, int kind, pool* threads) {
  return self->way(static_cast<batch_kind>(kind), threads);
}
EXPORT void bench_batch_way_free(batch_way* self) { delete self; }
EXPORT int  bench_batch_step(batch_way* self) { return static_cast<int>(self->step()); }
EXPORT void bench_batch_results(const batch_way* self, float* to) { self->results(to); }

/// Dense attention of one query to keys and values of bfloat16 or float16, on one thread. Queries and results are
/// float.
EXPORT dense_step* bench_dense_step() { return new dense_step({.keys = key_set::all}); }
EXPORT void        bench_dense_step_free(dense_step* self) { delete self; }
EXPORT int         bench_dense_step_run(dense_step* self, int rows, const float* q, const void* k, const void* v,
                                        index_t tokens, index_t heads, index_t kv_heads, index_t dim, float* out) {
  const auto run = rows == bench::bf16 ? run_dense_step<bfloat16> : run_dense_step<float16>;
  return static_cast<int>(run(*self, q, k, v, tokens, heads, kv_heads, dim, out));
}
