#pragma once
// Problems for the tests of attention: rows in every layout, legal selections, and the modes.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <ostream>
#include <random>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cascada/cpu/attention/attention.hpp"
#include "cascada/executor.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/owned_representatives.hpp"
#include "cascada/reference/attention.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"

namespace tests {

using cascada::attention_options;
using cascada::index_t;
using cascada::key_set;
using cascada::leaf_formation;
using cascada::opening;
using cascada::query_set;
using cascada::summary_type;

/// Ends of random pieces of up to `longest` tokens, [0, T) in all.
template <class Random>
std::vector<index_t> random_ends(index_t T, Random&& random, unsigned longest) {
  std::vector<index_t> ends;
  for (index_t t = 0; t < T;) ends.push_back(t = std::min(T, t + 1 + static_cast<index_t>(random() % longest)));
  return ends;
}

/// A legal selection with its memory.
struct selection : cascada::owned_representatives {
  explicit selection(std::vector<index_t> of) : owned_representatives{{}, std::move(of), {}} {
    const auto T = static_cast<index_t>(rep.size());
    for (index_t i = 0; i < T; ++i)
      if (rep[static_cast<std::size_t>(i)] == i) {
        indices.push_back(i);
        counts.push_back(static_cast<index_t>(std::count(rep.begin(), rep.end(), i)));
      }
  }
};

/// Token 0 and, with probability `share`, others; every other token goes to any earlier member.
inline selection random_selection(index_t T, double share, unsigned seed) {
  std::mt19937                           random(seed);
  std::uniform_real_distribution<double> uniform;
  std::vector<index_t>                   rep, members;
  for (index_t t = 0; t < T; ++t) {
    if (t == 0 || uniform(random) < share) members.push_back(t);
    const bool member = members.back() == t;
    rep.push_back(member ? t : members[random() % members.size()]);
  }
  return selection(rep);
}

/// Every token stands for itself.
inline selection identity_selection(index_t T) {
  std::vector<index_t> rep;
  for (index_t t = 0; t < T; ++t) rep.push_back(t);
  return selection(rep);
}

inline std::vector<cascada::representatives> views(const std::vector<selection>& all) {
  std::vector<cascada::representatives> result;
  for (const selection& one : all) result.push_back(one.view());
  return result;
}

/// Heads [tokens, heads, dim] with NaN between rows and heads (reading it would show), off any vector boundary.
template <cascada::row_scalar Scalar>
class head_rows {
 public:
  head_rows(index_t tokens, index_t heads, index_t dim, index_t padding = 3)
      : tokens_(tokens),
        heads_(heads),
        dim_(dim),
        padding_(padding),
        storage_(1 + static_cast<std::size_t>(tokens) * static_cast<std::size_t>(token_stride()),
                 cascada::from_float<Scalar>(std::numeric_limits<float>::quiet_NaN())) {}

  cascada::heads_view<Scalar> view() {
    return {storage_.data() + 1, tokens_, heads_, dim_, token_stride(), dim_ + padding_};
  }
  cascada::heads_view<const Scalar> view() const {
    return {storage_.data() + 1, tokens_, heads_, dim_, token_stride(), dim_ + padding_};
  }

  template <class Function>
  void fill(Function function, index_t from = 0) {
    for (index_t t = from; t < tokens_; ++t)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t c = 0; c < dim_; ++c) view().row(t, h)[c] = cascada::from_float<Scalar>(function());
  }

  /// Tightly packed copy.
  template <class Real>
  std::vector<Real> packed() const {
    std::vector<Real> all;
    for (index_t t = 0; t < tokens_; ++t)
      for (index_t h = 0; h < heads_; ++h)
        for (index_t c = 0; c < dim_; ++c) all.push_back(static_cast<Real>(cascada::to_float(view().row(t, h)[c])));
    return all;
  }

 private:
  std::int64_t token_stride() const { return std::int64_t{heads_} * (dim_ + padding_) + padding_; }

  index_t             tokens_, heads_, dim_, padding_;
  std::vector<Scalar> storage_;
};

/// The rows of tokens [begin, end).
template <class Scalar>
cascada::heads_view<Scalar> rows_of(cascada::heads_view<Scalar> all, index_t begin, index_t end) {
  all.data += std::int64_t{begin} * all.token_stride;
  all.tokens = end - begin;
  return all;
}

struct shape {
  index_t tokens, heads, kv_heads, key_dim, value_dim;
};

inline std::ostream& operator<<(std::ostream& out, const shape& s) {
  return out << "T=" << s.tokens << " heads=" << s.heads << '/' << s.kv_heads << " d=" << s.key_dim << '/'
             << s.value_dim;
}

template <cascada::row_scalar Scalar>
struct problem {
  shape              size;
  head_rows<Scalar>  q, k, v;
  std::vector<float> sink_logits = {}, slopes = {};  // what calls bring along

  problem(shape s, unsigned seed, index_t padding = 3)
      : size(s),
        q(s.tokens, s.heads, s.key_dim, padding),
        k(s.tokens, s.kv_heads, s.key_dim, padding),
        v(s.tokens, s.kv_heads, s.value_dim, padding) {
    randomise(seed, 0);
  }

  void randomise(unsigned seed, index_t from) {
    std::mt19937                    random(seed);
    std::normal_distribution<float> normal;
    for (auto* rows : {&q, &k, &v}) rows->fill([&] { return normal(random); }, from);
  }

  void poison(index_t from) {
    for (auto* rows : {&q, &k, &v}) rows->fill([] { return std::numeric_limits<float>::quiet_NaN(); }, from);
  }

  cascada::strided_kv<Scalar> kv() const { return {k.view(), v.view()}; }

  template <class Real>
  cascada::reference::attention_input<Real> input() const {
    return {size.tokens,
            size.heads,
            size.kv_heads,
            size.key_dim,
            size.value_dim,
            q.template packed<Real>(),
            k.template packed<Real>(),
            v.template packed<Real>(),
            {sink_logits.begin(), sink_logits.end()},
            {slopes.begin(), slopes.end()}};
  }
};

/// V with tokens side by side, NaN between rows.
template <cascada::row_scalar Scalar>
struct transposed_copy {
  std::vector<Scalar>                  storage;
  cascada::transposed_value_kv<Scalar> view;

  explicit transposed_copy(const problem<Scalar>& p) {
    const shape&       s      = p.size;
    const std::int64_t stride = s.tokens + 2, head = stride * s.value_dim + 1;
    storage.assign(static_cast<std::size_t>(head * s.kv_heads),
                   cascada::from_float<Scalar>(std::numeric_limits<float>::quiet_NaN()));
    for (index_t t = 0; t < s.tokens; ++t)
      for (index_t h = 0; h < s.kv_heads; ++h)
        for (index_t c = 0; c < s.value_dim; ++c)
          storage[static_cast<std::size_t>(h * head + c * stride + t)] = p.v.view().row(t, h)[c];
    view = {p.k.view(), storage.data(), s.value_dim, head, stride};
  }
};

/// Where tokens lie in a pool of blocks that is larger than needed: the blocks are shuffled, and the first is not used.
struct shuffled_blocks {
  index_t              tokens, block_tokens, pool_tokens = (tokens / block_tokens + 3) * block_tokens;
  std::vector<index_t> table = {};

  shuffled_blocks(index_t T, index_t of_block) : tokens(T), block_tokens(of_block) {
    for (index_t b = 0; b * block_tokens < tokens; ++b) table.push_back(b + 1);
    std::shuffle(table.begin(), table.end(), std::mt19937(3));
  }

  index_t slot(index_t t) const {
    return table[static_cast<std::size_t>(t / block_tokens)] * block_tokens + t % block_tokens;
  }

  /// Copies rows [tokens, heads, dim] to their places in a pool.
  template <class From, class To>
  void spread(const From& from, const To& to) const {
    for (index_t t = 0; t < tokens; ++t)
      for (index_t h = 0; h < from.heads; ++h) std::copy_n(from.row(t, h), from.dim, to.row(slot(t), h));
  }
};

/// K and V in shuffled blocks, NaN where nothing lies.
template <cascada::row_scalar Scalar>
struct paged_copy {
  shuffled_blocks           blocks;
  head_rows<Scalar>         keys, values;
  cascada::paged_kv<Scalar> view;

  paged_copy(const problem<Scalar>& p, index_t block_tokens)
      : blocks(p.size.tokens, block_tokens),
        keys(blocks.pool_tokens, p.size.kv_heads, p.size.key_dim),
        values(blocks.pool_tokens, p.size.kv_heads, p.size.value_dim) {
    blocks.spread(p.k.view(), keys.view()), blocks.spread(p.v.view(), values.view());
    view = {std::as_const(keys).view(), std::as_const(values).view(), blocks.table, block_tokens, p.size.tokens};
  }
};

/// Every value of the options that are switches; pages.py holds that none is missing.
inline constexpr key_set        every_key_set[]   = {key_set::all, key_set::representatives, key_set::near,
                                                     key_set::near_and_far};
inline constexpr query_set      every_query_set[] = {query_set::all, query_set::representatives, query_set::grouped};
inline constexpr leaf_formation every_leaf_formation[] = {leaf_formation::by_order, leaf_formation::by_keys};
inline constexpr opening        every_opening[]        = {opening::none, opening::by_mass, opening::all};
inline constexpr summary_type   every_summary_type[]   = {summary_type::as_multiplied, summary_type::bfloat16,
                                                          summary_type::bytes};

struct mode {
  const char*       name;
  attention_options options;
};

inline std::ostream& operator<<(std::ostream& out, const mode& m) { return out << m.name; }

inline constexpr attention_options dense_options   = {.keys = key_set::all};
inline constexpr attention_options opened_by_order = {.window      = 8,
                                                      .chunk       = 24,
                                                      .sink_tokens = 5,
                                                      .leaves      = leaf_formation::by_order,
                                                      .leaf        = 4,
                                                      .moments     = std::nullopt,
                                                      .open_above  = 0.05f,
                                                      .tile        = 3};

/// Chunks and windows are small, so that short sequences have several chunks and a far field.
inline const std::vector<mode> modes = {
    {"dense", {.keys = key_set::all}},
    {"dense, bidirectional", {.keys = key_set::all, .causal = false}},
    {"window", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2}},
    {"closed", {.window = 16, .chunk = 32, .leaves = leaf_formation::by_order, .open = opening::none}},
    {"closed, by keys, no sinks, no window, chunks of one",
     {.window         = 0,
      .chunk          = 1,
      .sink_tokens    = 0,
      .leaf_threshold = 0.3f,
      .leaf           = 3,
      .moments        = 3,
      .open           = opening::none}},
    {"grouped",
     {.queries = query_set::grouped,
      .window  = 16,
      .chunk   = 32,
      .leaves  = leaf_formation::by_order,
      .open    = opening::none}},
    {"opened", {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8}},
    {"opened, by order, no moments, more sinks", opened_by_order},
    {"closed, summaries of bfloat16",
     {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .summaries = summary_type::bfloat16, .open = opening::none}},
    {"opened, summaries of bfloat16",
     {.window         = 16,
      .chunk          = 32,
      .leaf_threshold = 0.3f,
      .summaries      = summary_type::bfloat16,
      .open_above     = 0.02f,
      .tile           = 8}},
    {"closed, summaries of bytes",
     {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .summaries = summary_type::bytes, .open = opening::none}},
    {"opened, summaries of bytes",
     {.window         = 16,
      .chunk          = 32,
      .leaf_threshold = 0.3f,
      .summaries      = summary_type::bytes,
      .open_above     = 0.02f,
      .tile           = 8}},
    {"all opened", {.window = 16, .chunk = 32, .open = opening::all}},
    {"literal r x r", {.keys = key_set::representatives, .queries = query_set::representatives}},
    {"literal r x r, bidirectional",
     {.keys = key_set::representatives, .queries = query_set::representatives, .causal = false}},
    {"weighted r x r", {.keys = key_set::representatives, .queries = query_set::representatives, .weighted = true}},
    {"weighted r x r, bidirectional",
     {.keys = key_set::representatives, .queries = query_set::representatives, .causal = false, .weighted = true}},
    {"T x r, bidirectional", {.keys = key_set::representatives, .causal = false, .weighted = true}},
    {"sliding window", {.keys = key_set::all, .sliding_window = 23}},
    {"dense, softcap", {.keys = key_set::all, .softcap = 1.5f}},
    {"sliding window, softcap", {.keys = key_set::all, .softcap = 3.0f, .sliding_window = 70}},
    {"closed, softcap",
     {.window = 16, .chunk = 32, .leaves = leaf_formation::by_order, .open = opening::none, .softcap = 1.5f}},
    {"opened, softcap",
     {.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8, .softcap = 2.0f}},
    {"weighted r x r, softcap",
     {.keys = key_set::representatives, .queries = query_set::representatives, .weighted = true, .softcap = 1.5f}},
    {"T x r, bidirectional, softcap",
     {.keys = key_set::representatives, .causal = false, .weighted = true, .softcap = 1.5f}},
};

/// Whether a sequence can grow.
inline bool grows(const mode& m) {
  return m.options.causal && m.options.keys != key_set::representatives && m.options.queries == query_set::all;
}
inline std::vector<mode> modes_that_grow() {
  std::vector<mode> some;
  std::copy_if(modes.begin(), modes.end(), std::back_inserter(some), grows);
  return some;
}

/// One thread, or those of a pool: one type, so that the kernels are compiled once for both.
template <cascada::isa Isa>
struct one_thread_or_pool {
  cascada::thread_pool<Isa>* pool = nullptr;

  index_t concurrency() const noexcept { return pool ? pool->size() : 1; }

  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    if (pool) return pool->parallel_for(count, function);
    for (index_t i = 0; i < count; ++i) function(i);
  }
};

using test_backend = cascada::cpu<cascada::compiled_isa, one_thread_or_pool<cascada::compiled_isa>>;

/// What this target is compiled for, less some of it: kernels of instructions that are not in the tag do not run.
template <cascada::isa Without>
inline constexpr auto isa_without =
    static_cast<cascada::isa>(static_cast<std::uint64_t>(cascada::compiled_isa) & ~static_cast<std::uint64_t>(Without));
static_assert(static_cast<std::uint64_t>(isa_without<cascada::isa::amx_bf16>) >> 32 ==
                  static_cast<std::uint64_t>(cascada::compiled_isa) >> 32,
              "without the other settings, code compiled with -ffast-math would share its functions");

template <cascada::isa Without>
using backend_without = cascada::cpu<isa_without<Without>, one_thread_or_pool<isa_without<Without>>>;

/// bfloat16 rows by matrix tiles, by products of pairs and by floats, as far as the target goes.
using pairs_backend  = backend_without<cascada::isa::amx_bf16>;
using floats_backend = backend_without<cascada::isa::amx_bf16 | cascada::isa::avx512_bf16>;
using product_backends =
    std::conditional_t<cascada::contains(cascada::compiled_isa, cascada::isa::amx_bf16),
                       std::tuple<test_backend, pairs_backend, floats_backend>,
                       std::conditional_t<cascada::kernel::multiplies_pairs<test_backend>,
                                          std::tuple<pairs_backend, floats_backend>, std::tuple<floats_backend>>>;

/// Goes on with a sequence up to token `end`: with those rows of q, out and, if there is room for them, log-sum-exps.
template <class Attention, class State, class Scalar, cascada::kv_view KV, class Out>
cascada::status extend_to(index_t end, Attention& attend, State& state, const head_rows<Scalar>& q, const KV& kv,
                          std::span<const cascada::representatives> selections, head_rows<Out>& out,
                          cascada::attention_extension call = {}) {
  const index_t begin = state.tokens();
  auto&         sums  = call.log_sum_exp;
  if (sums.data) sums.data += begin * sums.stride, sums.rows = end - begin;
  return attend.extend(state, rows_of(q.view(), begin, end), kv, selections, rows_of(out.view(), begin, end), call);
}

/// A call's results as floats, packed, whatever Out is, its log-sum-exps [tokens, heads], and its report. A failed call
/// gives nothing.
struct attended {
  std::vector<float>        out, log_sum_exp;
  cascada::attention_report report;
};

inline void add(cascada::attention_report& sum, const cascada::attention_report& more) {
  sum.rows += more.rows, sum.dense_keys += more.dense_keys, sum.near_keys += more.near_keys;
  sum.leaves += more.leaves, sum.opened += more.opened, sum.computed += more.computed;
  sum.far_rows += more.far_rows, sum.mass += more.mass;
}

/// Room for the log-sum-exps of a call, with NaN between its rows.
struct sum_rows {
  index_t            tokens, heads;
  std::vector<float> storage = std::vector<float>(
      static_cast<std::size_t>(tokens) * static_cast<std::size_t>(heads + 1), std::numeric_limits<float>::quiet_NaN());

  cascada::matrix_view<float> view() { return {storage.data(), tokens, heads, heads + 1}; }

  std::vector<float> packed() {
    std::vector<float> all;
    for (index_t t = 0; t < tokens; ++t) all.insert(all.end(), view().row(t), view().row(t) + heads);
    return all;
  }
};

template <class Out, cascada::row_scalar Scalar, cascada::kv_view KV, cascada::cpu_backend B = test_backend>
attended attend_and_report(const attention_options& options, const problem<Scalar>& p, const KV& kv,
                           const std::vector<selection>& selections, const std::vector<index_t>& offsets = {},
                           B where = {}) {
  head_rows<Out>                out(p.size.tokens, p.size.heads, p.size.value_dim);
  sum_rows                      sums{p.size.tokens, p.size.heads};
  cascada::attention<Scalar, B> attention(options, where);
  if (attention(
          p.q.view(), kv, views(selections), out.view(),
          {.query_offsets = offsets, .sink_logits = p.sink_logits, .slopes = p.slopes, .log_sum_exp = sums.view()}) !=
      cascada::status::ok)
    return {};
  return {out.template packed<float>(), sums.packed(), attention.report()};
}

template <class Out, cascada::row_scalar Scalar, cascada::kv_view KV, cascada::cpu_backend B = test_backend>
std::vector<float> attend(const attention_options& options, const problem<Scalar>& p, const KV& kv,
                          const std::vector<selection>& selections, const std::vector<index_t>& offsets = {},
                          B where = {}) {
  return attend_and_report<Out>(options, p, kv, selections, offsets, where).out;
}

template <cascada::row_scalar Scalar>
std::vector<float> attend(const attention_options& options, const problem<Scalar>& p,
                          const std::vector<selection>& selections) {
  return attend<Scalar>(options, p, p.kv(), selections);
}

/// What the reference is told of selections.
/// Of a row [tokens, kv_heads] of what the reference found: nats from the threshold to the leaf that most nearly
/// opened, or most nearly did not; infinity if none could.
template <class Real>
Real margin(const cascada::reference::attention_output<Real>& found, std::size_t row) {
  Real least = std::numeric_limits<Real>::infinity();
  for (const Real above : found.above[row]) least = std::min(least, std::fabs(above));
  return least;
}

/// A sequence for plain loops in float whose means and weights are rounded to what kernels multiply, an E.
template <class E, class Problem>
cascada::reference::attention_input<float> input_rounded_to(const Problem& p) {
  auto in = p.template input<float>();
  if constexpr (!std::same_as<E, float>)
    in.round = [](float x) { return cascada::to_float(cascada::from_float<cascada::bfloat16>(x)); };
  return in;
}

inline std::vector<cascada::reference::assignment_of_tokens> assignments(const std::vector<selection>& selections) {
  std::vector<cascada::reference::assignment_of_tokens> all;
  for (const selection& s : selections) all.push_back(s.rep);
  return all;
}

/// The larger of two errors. NaN is the largest, and stays.
inline double larger(double worst, double error) { return error <= worst || worst != worst ? worst : error; }

/// The first result of head `head` of a token, among packed results.
inline std::size_t row_of(const shape& s, index_t token, index_t head = 0) {
  return (static_cast<std::size_t>(token) * static_cast<std::size_t>(s.heads) + static_cast<std::size_t>(head)) *
         static_cast<std::size_t>(s.value_dim);
}

/// Equal bit for bit over [begin, end), NaN included; not empty.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b, std::size_t begin, std::size_t end) {
  return !a.empty() && a.size() == b.size() && end <= a.size() &&
         std::memcmp(a.data() + begin, b.data() + begin, (end - begin) * sizeof(float)) == 0;
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) { return same_bits(a, b, 0, a.size()); }

}  // namespace tests
