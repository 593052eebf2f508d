// Attention on several processes (MPI). Sequence-parallel ranks hold parts of the tokens: each computes partial results
// for the keys it has, or that pass by, and merge() makes one of them. Tensor-parallel ranks hold KV heads with their
// query heads, and exchange nothing. ranks.sh compiles and runs it.

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/attention/merge.hpp"
#include "cascada/owned_representatives.hpp"
#include "cascada/presets.hpp"
#include "cascada/reference/attention.hpp"

using namespace cascada;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

constexpr index_t T = 700, heads = 6, kv_heads = 3, dim = 32, group = heads / kv_heads;

/// The near field of the tests: edges lie at 0, or beyond the sinks.
constexpr attention_options window = {.keys = key_set::near, .window = 64, .chunk = 32, .sink_tokens = 2};

int  rank = 0, ranks = 1;
bool failed = false;

void expect(bool holds, const char* what) {
  if (!holds) std::fprintf(stderr, "rank %d of %d: FAILED: %s\n", rank, ranks, what);
  failed = failed || !holds;
}

std::size_t size(index_t tokens, index_t of_token) {
  return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(of_token);
}

/// Rows [tokens, count, dim].
struct row_buffer {
  index_t            count;
  std::vector<float> data = {};

  index_t                 tokens() const { return static_cast<index_t>(data.size()) / (count * dim); }
  heads_view<const float> view(index_t begin, index_t end) const {
    return packed_heads(data.data() + size(begin, count * dim), end - begin, count, dim);
  }
  heads_view<const float> view() const { return view(0, tokens()); }
  /// Columns of heads [first, first + some).
  heads_view<const float> some_heads(index_t first, index_t some) const {
    heads_view<const float> part = view();
    part.data += first * dim, part.heads = some;
    return part;
  }
  void append(const float* rows, index_t more) { data.insert(data.end(), rows, rows + size(more, count * dim)); }
};

/// A sequence, the same on every rank: what one process would have. Ranks of the tests look at their parts only.
struct sequence {
  row_buffer q = {heads}, k = {kv_heads}, v = {kv_heads};

  sequence() {
    std::mt19937                    random(5);
    std::normal_distribution<float> normal;
    for (row_buffer* rows : {&q, &k, &v})
      for (std::size_t i = 0; i < size(T, rows->count * dim); ++i) rows->data.push_back(normal(random));
  }
};

/// Outputs [tokens, heads, dim] of some keys, and log-sum-exps [tokens, heads].
struct partial {
  index_t            heads;
  std::vector<float> out, sums;

  partial(index_t tokens, index_t of_heads)
      : heads(of_heads),
        out(size(tokens, of_heads * dim)),
        sums(size(tokens, of_heads), -std::numeric_limits<float>::infinity()) {}

  index_t           tokens() const { return static_cast<index_t>(sums.size()) / heads; }
  heads_view<float> rows(index_t from = 0) {
    return packed_heads(out.data() + size(from, heads * dim), tokens() - from, heads, dim);
  }
  matrix_view<float> lse(index_t from = 0) { return {sums.data() + size(from, heads), tokens() - from, heads, heads}; }

  /// The rows from `from` on have also attended to other keys.
  void take_in(partial more, index_t from = 0) {
    expect(merge<serial>(rows(from), lse(from), more.rows(), more.lse(), rows(from), lse(from)) == status::ok, "merge");
  }
};

partial attend(const attention_options& options, heads_view<const float> q, heads_view<const float> k,
               heads_view<const float> v, std::span<const representatives> kept = {}) {
  partial                  result(q.tokens, q.heads);
  attention<float, serial> attend(options);
  const status answer = attend(q, strided_kv<float>{k, v}, kept, result.rows(), {.log_sum_exp = result.lse()});
  expect(answer == status::ok, message(answer));
  return result;
}

constexpr attention_options dense = {.keys = key_set::all}, all_of_them = {.keys = key_set::all, .causal = false};

/// A rank's tokens [begin, end): the second has three, so that others need keys of two ranks.
struct part {
  index_t begin, end;

  index_t tokens() const { return end - begin; }
};

part part_of(int owner) {
  const index_t step = (T - 3) / (ranks - 1);
  const auto edge = [&](int i) { return i == 0 ? 0 : i == ranks ? T : step * (i == 1 ? 1 : i - 1) + (i > 1 ? 3 : 0); };
  return {edge(owner), edge(owner + 1)};
}

/// use(owner, keys, values) for the part of every other rank: they travel around the ring.
template <class Use>
void around_the_ring(const row_buffer& keys, const row_buffer& values, const Use& use) {
  index_t longest = 0;
  for (int owner = 0; owner < ranks; ++owner) longest = std::max(longest, part_of(owner).tokens());
  row_buffer k = keys, v = values;
  for (int step = 1; step < ranks; ++step) {
    for (row_buffer* rows : {&k, &v}) {
      rows->data.resize(size(longest, kv_heads * dim));
      MPI_Sendrecv_replace(rows->data.data(), static_cast<int>(rows->data.size()), MPI_FLOAT, (rank + 1) % ranks, 0,
                           (rank + ranks - 1) % ranks, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    const int owner = (rank + ranks - step) % ranks;
    for (row_buffer* rows : {&k, &v}) rows->data.resize(size(part_of(owner).tokens(), kv_heads * dim));
    use(owner, k, v);
  }
}

/// What a rank has of a sequence.
struct own_rows {
  part       at;
  row_buffer q = {heads}, k = {kv_heads}, v = {kv_heads};

  explicit own_rows(const sequence& all) : at(part_of(rank)) {
    for (auto [from, to] : {std::pair{&all.q, &q}, std::pair{&all.k, &k}, std::pair{&all.v, &v}})
      to->append(from->view(at.begin, at.end).data, at.tokens());
  }
};

/// A prompt: a rank's tokens attend to their own keys, and to those that pass by.
partial prompt_dense(const own_rows& own) {
  partial sum = attend(dense, own.q.view(), own.k.view(), own.v.view());
  around_the_ring(own.k, own.v, [&](int owner, const row_buffer& k, const row_buffer& v) {
    if (owner < rank) sum.take_in(attend(all_of_them, own.q.view(), k.view(), v.view()));
  });
  return sum;
}

/// Keys and values [from, end of the own part), and the sequence's first `sinks`, as they pass by.
struct halo {
  row_buffer k = {kv_heads}, v = {kv_heads}, sink_keys = {kv_heads}, sink_values = {kv_heads};

  halo(const own_rows& own, index_t from, index_t sinks) {
    std::vector<float> before_k(size(own.at.begin - from, kv_heads * dim)), before_v = before_k;
    const auto         keep = [&](int owner, const row_buffer& keys, const row_buffer& values) {
      const part p = part_of(owner);
      for (auto [passing, before, kept] :
           {std::tuple{&keys, &before_k, &sink_keys}, std::tuple{&values, &before_v, &sink_values}}) {
        if (owner == 0) kept->append(passing->data.data(), std::min(sinks, p.tokens()));
        for (index_t t = std::max(p.begin, from); t < std::min(p.end, own.at.begin); ++t)
          std::copy_n(passing->view(t - p.begin, t - p.begin + 1).data, kv_heads * dim,
                              before->begin() + static_cast<std::ptrdiff_t>(size(t - from, kv_heads * dim)));
      }
    };
    if (rank == 0) keep(0, own.k, own.v);
    around_the_ring(own.k, own.v, keep);
    k.append(before_k.data(), own.at.begin - from), v.append(before_v.data(), own.at.begin - from);
    k.append(own.k.data.data(), own.at.tokens()), v.append(own.v.data.data(), own.at.tokens());
  }
};

index_t edge_of_token(index_t t) { return std::max(0, t / window.chunk * window.chunk - window.window); }

/// A prompt in the near field: a rank needs the keys of its first token's, from a chunk's begin on, and the sinks,
/// which are merged into the rows whose near field begins behind them.
partial prompt_window(const own_rows& own) {
  const index_t from = edge_of_token(own.at.begin) / window.chunk * window.chunk;
  const halo    near(own, from, window.sink_tokens);
  auto          options = window;
  options.sink_tokens   = 0;
  partial sum           = attend(options, own.q.view(), near.k.view(), near.v.view());
  index_t first         = 0;
  while (first < own.at.tokens() && edge_of_token(own.at.begin + first) == 0) ++first;
  if (first < own.at.tokens())
    sum.take_in(attend(all_of_them, own.q.view(first, own.at.tokens()), near.sink_keys.view(), near.sink_values.view()),
                first);
  return sum;
}

/// The same where each token sees a number of tokens: their keys are all it takes.
partial prompt_sliding(const own_rows& own, index_t seen) {
  const halo near(own, std::max(0, own.at.begin - seen + 1), 0);
  return attend({.keys = key_set::all, .sliding_window = seen}, own.q.view(), near.k.view(), near.v.view());
}

/// A step of decoding: the last token's query goes to all ranks, each attends to those of its keys that lie in one of
/// the spans, and the first rank merges. Elsewhere the result means nothing.
partial decode(const own_rows& own, std::span<const part> spans) {
  row_buffer q = {heads, std::vector<float>(size(1, heads * dim))};
  if (rank + 1 == ranks)
    std::copy_n(own.q.view(own.at.tokens() - 1, own.at.tokens()).data, heads * dim, q.data.begin());
  MPI_Bcast(q.data.data(), heads * dim, MPI_FLOAT, ranks - 1, MPI_COMM_WORLD);
  partial mine(1, heads);
  for (const part& span : spans) {
    const index_t begin = std::max(span.begin, own.at.begin) - own.at.begin;
    const index_t end   = std::min(span.end, own.at.end) - own.at.begin;
    if (begin < end) mine.take_in(attend(all_of_them, q.view(), own.k.view(begin, end), own.v.view(begin, end)));
  }
  partial all(ranks, heads), sum(1, heads);
  MPI_Gather(mine.out.data(), heads * dim, MPI_FLOAT, all.out.data(), heads * dim, MPI_FLOAT, 0, MPI_COMM_WORLD);
  MPI_Gather(mine.sums.data(), heads, MPI_FLOAT, all.sums.data(), heads, MPI_FLOAT, 0, MPI_COMM_WORLD);
  for (index_t r = 0; r < ranks; ++r) {
    partial one(1, heads);
    std::copy_n(all.out.begin() + static_cast<std::ptrdiff_t>(size(r, heads * dim)), heads * dim, one.out.begin());
    std::copy_n(all.sums.begin() + static_cast<std::ptrdiff_t>(size(r, heads)), heads, one.sums.begin());
    sum.take_in(one);
  }
  return sum;
}

/// Rows from token `begin` on against one process's, by the rule of attention.cpp: at most twice as far from the result
/// in double as one process is, and a little.
void compare(const char* what, const sequence& all, const attention_options& options, const partial& ours,
             index_t begin) {
  const auto wide = [](const std::vector<float>& rows) { return std::vector<double>(rows.begin(), rows.end()); };
  const reference::attention_input<double> input = {
      T, heads, kv_heads, dim, dim, wide(all.q.data), wide(all.k.data), wide(all.v.data), {}, {}};
  const auto    exact = reference::attention(input, {}, options);
  const partial whole = attend(options, all.q.view(), all.k.view(), all.v.view());
  const auto    error = [](const std::vector<float>& rows, const std::vector<float>& from, std::size_t offset,
                        const std::vector<double>& right) {
    double worst = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double apart = std::fabs(from[i] - right[offset + i]);
      worst              = apart > worst || std::isnan(apart) ? apart : worst;
    }
    return worst;
  };
  const auto suffix = [](const std::vector<float>& rows, std::size_t offset) {
    return std::vector<float>(rows.begin() + static_cast<std::ptrdiff_t>(offset), rows.end());
  };
  const double      eps = std::numeric_limits<float>::epsilon();
  const std::size_t at = size(begin, heads * dim), sums_at = size(begin, heads);
  const double      out         = error(ours.out, ours.out, at, exact.out);
  const double      of_one      = error(ours.out, suffix(whole.out, at), at, exact.out);
  const double      sums        = error(ours.sums, ours.sums, sums_at, exact.log_sum_exp);
  const double      sums_of_one = error(ours.sums, suffix(whole.sums, sums_at), sums_at, exact.log_sum_exp);
  double            largest     = 0;
  for (const double x : exact.out) largest = std::max(largest, std::fabs(x));
  expect(out <= 2 * of_one + 4 * eps * largest, what);
  expect(sums <= 2 * sums_of_one + 4 * eps * 10, what);
  std::printf("%s, rank %d, %d rows: off by %.2g, one process by %.2g\n", what, rank, ours.tokens(), out, of_one);
}

/// Its KV heads alone give a rank the very bits that one process has there.
void compare_heads(const char* what, const sequence& all, const attention_options& options,
                   const representatives& kept) {
  const representatives shared[] = {kept};
  const partial         whole    = attend(options, all.q.view(), all.k.view(), all.v.view(), shared);
  bool                  same     = true;
  for (index_t h = rank; h < kv_heads; h += ranks) {
    const partial own =
        attend(options, all.q.some_heads(h * group, group), all.k.some_heads(h, 1), all.v.some_heads(h, 1), shared);
    for (index_t t = 0; t < T; ++t)
      same = same && std::memcmp(own.out.data() + size(t, group * dim),
                                 whole.out.data() + size(t, heads * dim) + h * group * dim,
                                 size(group, dim) * sizeof(float)) == 0;
  }
  expect(same, what);
}

/// Tokens of one of a few clusters.
struct few_clusters : owned_representatives {
  few_clusters() : owned_representatives{{}, {}, std::vector<index_t>(7, 0)} {
    for (index_t t = 0; t < T; ++t) {
      if (t < 7) indices.push_back(t);
      rep.push_back(t % 7), ++counts[static_cast<std::size_t>(t % 7)];
    }
  }
};

void run() {
  const sequence all;
  const own_rows own(all);
  compare("a prompt, dense", all, dense, prompt_dense(own), own.at.begin);
  compare("a prompt, near field", all, window, prompt_window(own), own.at.begin);
  compare("a prompt, sliding window", all, {.keys = key_set::all, .sliding_window = 100}, prompt_sliding(own, 100),
          own.at.begin);

  const part    everything[] = {{0, T}}, near[] = {{0, window.sink_tokens}, {edge_of_token(T - 1), T}};
  const partial step = decode(own, everything), near_step = decode(own, near);
  if (rank == 0) compare("a step of decoding, dense", all, dense, step, T - 1);
  if (rank == 0) compare("a step of decoding, near field", all, window, near_step, T - 1);

  const few_clusters some;
  auto               near_far = presets::balanced.attention;
  near_far.window = 64, near_far.chunk = 64, near_far.leaf_threshold = 0.3f;
  for (const auto& [name, options] : {std::pair{"heads apart, dense", dense}, std::pair{"heads apart, window", window},
                                      std::pair{"heads apart, near + far", near_far}})
    compare_heads(name, all, options, {some.indices, some.rep, some.counts});
}

}  // namespace

int main(int count, char** values) {
  MPI_Init(&count, &values);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  expect(ranks >= 2 && ranks <= 32, "the test needs 2 to 32 ranks");
  if (!failed) run();
  int mine = failed ? 1 : 0, any = 0;
  MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0 && any == 0) std::printf("%d ranks: all results hold\n", ranks);
  MPI_Finalize();
  return any;
}
