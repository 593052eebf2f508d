// Sequences that grow on the simulated gfx942: rows are, bit for bit, those of one call for the whole prompt, however
// the tokens are cut, and where a captured call is replayed for each of them.

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "hip/attention_data.hpp"
#include "hip/selection_data.hpp"
#include "library/tokens.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

template <class Scalar>
using on_chip = attention<Scalar, simulator::stream>;
template <class Scalar>
using state_on_chip = attention_state<Scalar, simulator::stream>;

struct grown_mode {
  const char*       name;
  attention_options options;
};

/// Near + far with leaves by keys.
attention_options keyed(attention_options with) {
  with.window = 8;
  if (with.chunk > 32) with.chunk = 16;
  return with;
}

const std::vector<grown_mode> grown_modes = {
    {"dense", {.keys = key_set::all}},
    {"window", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2}},
    {"window, chunks that no block begins with", {.keys = key_set::near, .window = 5, .chunk = 35, .sink_tokens = 0}},
    {"window, chunks of one", {.keys = key_set::near, .window = 20, .chunk = 1}},
    {"window, one chunk", {.keys = key_set::near, .window = 0, .chunk = std::numeric_limits<index_t>::max()}},
    {"all opened", {.window = 8, .chunk = 16, .open = opening::all}},
    {"sliding window", {.keys = key_set::all, .sliding_window = 37}},
    {"sliding window of one", {.keys = key_set::all, .sliding_window = 1}},
    {"sliding window, softcap", {.keys = key_set::all, .softcap = 2.0f, .sliding_window = 50}},
    {"dense, softcap", {.keys = key_set::all, .softcap = 2.0f}},
    {"window, softcap", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2, .softcap = 1.0f}},
    {"closed", closed({.window = 8, .chunk = 16, .leaf = 3})},
    {"closed, chunks of one", closed({.window = 4, .chunk = 1, .sink_tokens = 2, .leaf = 2, .moments = std::nullopt})},
    {"closed, no window, no sinks, whole clusters",
     closed({.window = 0, .chunk = 7, .sink_tokens = 0, .leaf = std::numeric_limits<index_t>::max(), .moments = 1})},
    {"closed, leaves of one", closed({.window = 9, .chunk = 24, .sink_tokens = 5, .leaf = 1})},
    {"closed, one chunk", closed({.chunk = std::numeric_limits<index_t>::max(), .leaf = 3})},
    {"closed, softcap", closed({.window = 8, .chunk = 16, .leaf = 4, .softcap = 1.5f})},
    {"opened, small tiles", opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.03f, .tile = 4})},
    {"opened, tiles of one", opened({.window = 0, .chunk = 12, .leaf = 3, .open_above = 0.05f, .tile = 1})},
    {"opened, tiles of a chunk, no sinks",
     opened({.window = 8, .chunk = 16, .sink_tokens = 0, .leaf = 5, .moments = 1, .open_above = 0.1f})},
    {"opened, tiles that no block begins with, more sinks",
     opened({.window = 5, .chunk = 35, .sink_tokens = 6, .leaf = 6, .moments = 2, .open_above = 0.05f, .tile = 5})},
    {"opened, tiles of more rows than a block",
     opened({.window = 8, .chunk = 48, .leaf = 4, .moments = std::nullopt, .open_above = 0.05f, .tile = 48})},
    {"opened, one tile to a sequence", opened({.chunk      = std::numeric_limits<index_t>::max(),
                                               .open_above = 0.05f,
                                               .tile       = std::numeric_limits<index_t>::max()})},
    {"by keys, closed", keyed({.leaf_threshold = 0.1f, .leaf = 3, .open = opening::none})},
    {"by keys, closed, sinks, no correction",
     keyed({.sink_tokens = 5, .leaf_threshold = 0.02f, .leaf = 4, .moments = std::nullopt, .open = opening::none})},
    {"by keys, opened", keyed({.leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.04f, .tile = 4})},
    {"by keys, opened, larger tiles",
     keyed({.chunk = 32, .sink_tokens = 3, .leaf_threshold = 0.05f, .open_above = 0.08f, .tile = 32})},
    {"opened, softcap", opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.04f, .tile = 8, .softcap = 1.5f})},
};

/// Those that have leaves.
std::vector<grown_mode> far_modes() {
  std::vector<grown_mode> all;
  for (const auto& mode : grown_modes)
    if (detail::has_leaves(mode.options)) all.push_back(mode);
  return all;
}

/// Sink logits, and slopes where there may be any, of each head its own.
template <class Scalar>
void give_head_terms(problem<Scalar>& p, const attention_options& options) {
  give_sink_logits(p);
  for (index_t h = 0; h < p.size.heads && !detail::has_leaves(options); ++h)
    p.slopes.push_back(0.125f * static_cast<float>(h + 1));
}

/// The rows of a sequence in device memory, where those of later tokens are NaN until they come.
template <class Scalar>
class coming_rows {
 public:
  explicit coming_rows(const problem<Scalar>& of)
      : of_(of),
        q_(of.q.view()),
        k_(of.size.tokens, of.size.kv_heads, of.size.key_dim),
        v_(of.size.tokens, of.size.kv_heads, of.size.value_dim) {}

  /// Up to token `end`.
  void come(index_t end) {
    for (; tokens_ < end; ++tokens_)
      for (index_t h = 0; h < of_.size.kv_heads; ++h) {
        std::copy_n(of_.k.view().row(tokens_, h), of_.size.key_dim, k_.view().row(tokens_, h));
        std::copy_n(of_.v.view().row(tokens_, h), of_.size.value_dim, v_.view().row(tokens_, h));
      }
  }
  heads_view<const Scalar> queries(index_t begin, index_t end) { return tests::rows_of(q_.view(), begin, end); }
  strided_kv<Scalar>       kv() { return {k_.view(), v_.view()}; }

 private:
  const problem<Scalar>& of_;
  device_heads<Scalar>   q_, k_, v_;
  index_t                tokens_ = 0;
};

/// Elements with no memory behind them.
template <class Element>
class memory_at_the_edge {
 public:
  memory_at_the_edge() : pages_(mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (pages_ == MAP_FAILED || mprotect(static_cast<char*>(pages_) + size, size, PROT_NONE) != 0)
      throw std::bad_alloc();
  }
  memory_at_the_edge(const memory_at_the_edge&)            = delete;
  memory_at_the_edge& operator=(const memory_at_the_edge&) = delete;
  ~memory_at_the_edge() { munmap(pages_, 2 * size); }

  /// Where `count` of them begin.
  Element* begin(std::size_t count) const {
    if (count * sizeof(Element) > size) throw std::bad_alloc();
    return reinterpret_cast<Element*>(static_cast<char*>(pages_) + size) - count;
  }

 private:
  static constexpr std::size_t size = 1 << 20;  // whole pages, whatever they are

  void* pages_;
};

/// The same rows as coming_rows in blocks of a pool, which are others each time that tokens come, those of earlier
/// tokens among them. What belongs to no token is NaN, and blocks of later tokens are not known: the table ends, or, in
/// memory that stays, it has blocks there that no pool has.
template <class Scalar>
class coming_pages {
 public:
  coming_pages(const problem<Scalar>& of, index_t block_tokens, bool stays = false)
      : of_(of), block_tokens_(block_tokens), stays_(stays), blocks_(blocks_of(of.size.tokens) + 2) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
  }

  /// Up to token `end`, which may be less than before.
  void come(index_t end) {
    std::shuffle(blocks_.begin(), blocks_.end(), random_);
    const std::size_t all = blocks_of(of_.size.tokens), there = blocks_of(end);
    begin_ = table_.begin(stays_ ? all : there);
    for (std::size_t b = 0; b < (stays_ ? all : there); ++b)
      begin_[b] = b < there ? blocks_[b] : std::numeric_limits<index_t>::max() / block_tokens_ - 1;
    fill(k_), fill(v_);
    for (index_t t = 0; t < end; ++t)
      for (index_t h = 0; h < of_.size.kv_heads; ++h) {
        const index_t to = begin_[t / block_tokens_] * block_tokens_ + t % block_tokens_;
        std::copy_n(of_.k.view().row(t, h), of_.size.key_dim, k_.view().row(to, h));
        std::copy_n(of_.v.view().row(t, h), of_.size.value_dim, v_.view().row(to, h));
      }
  }
  paged_kv<Scalar> kv() {
    return {k_.view(), v_.view(), {begin_, blocks_of(of_.size.tokens)}, block_tokens_, of_.size.tokens};
  }

 private:
  std::size_t blocks_of(index_t tokens) const {
    return static_cast<std::size_t>((tokens + block_tokens_ - 1) / block_tokens_);
  }
  device_heads<Scalar> pool() const {
    return {static_cast<index_t>(blocks_.size()) * block_tokens_, of_.size.kv_heads, of_.size.key_dim};
  }
  void fill(device_heads<Scalar>& rows) const {
    auto all = rows.view();
    for (index_t t = 0; t < all.tokens; ++t)
      std::fill_n(all.row(t, 0), all.heads * all.dim, from_float<Scalar>(std::nanf("")));
  }

  const problem<Scalar>&      of_;
  index_t                     block_tokens_;
  bool                        stays_;
  std::vector<index_t>        blocks_;
  device_heads<Scalar>        k_ = pool(), v_ = pool();
  memory_at_the_edge<index_t> table_;
  index_t*                    begin_ = nullptr;
  std::mt19937                random_{11};
};

/// The same keys as coming_rows beside transposed values, which lie elsewhere and in other strides each time that
/// tokens come, or stay where they are. What belongs to no token is NaN, and behind the last one there is no memory.
template <class Scalar>
class coming_columns {
 public:
  explicit coming_columns(const problem<Scalar>& of, bool stays = false) : of_(of), stays_(stays), keys_(of) {}

  /// Up to token `end`, which may be less than before.
  void come(index_t end) {
    const index_t heads = of_.size.kv_heads, dim = of_.size.value_dim, T = of_.size.tokens;
    const auto    tokens = stays_ ? T : end;
    const auto    stride = stays_ ? T : T + static_cast<index_t>(random_() % 9);
    const bool    whole  = stays_ || random_() % 2 == 0;  // heads, one after the other
    view_                = {
        {}, nullptr, dim, whole ? std::int64_t{dim} * stride : stride, whole ? stride : std::int64_t{heads} * stride};
    const auto    before = static_cast<std::size_t>(std::int64_t{heads * dim - 1} * stride);
    const auto    all    = before + static_cast<std::size_t>(tokens);
    Scalar* const values = values_.begin(all);
    std::fill_n(values, all, from_float<Scalar>(std::nanf("")));
    for (index_t t = 0; t < end; ++t)
      for (index_t h = 0; h < heads; ++h)
        for (index_t c = 0; c < dim; ++c)
          values[h * view_.head_stride + c * view_.dim_stride + t] = of_.v.view().row(t, h)[c];
    view_.values = values;
    keys_.come(end);
  }
  transposed_value_kv<Scalar> kv() {
    view_.keys = keys_.kv().keys;
    return view_;
  }

 private:
  const problem<Scalar>&      of_;
  bool                        stays_;
  coming_rows<Scalar>         keys_;
  memory_at_the_edge<Scalar>  values_;
  transposed_value_kv<Scalar> view_ = {};
  std::mt19937                random_{13};
};

/// A selection that grows, in memory that stays.
class coming_selection {
 public:
  explicit coming_selection(const selection& of) : of_(of) {}
  hip::selection_layer layer(index_t tokens) const {
    return {of_.indices.data(), of_.rep.data(), of_.counts.data(), &count, tokens};
  }

  index_t count = 1;  // the sign alone is looked at

 private:
  selection of_;
};

/// One that all KV heads share, or each KV head's own.
struct chosen_tokens {
  chosen_tokens(const selection& one) : of_heads{one} {}
  chosen_tokens(const std::vector<selection>& each) : of_heads(each) {}

  std::vector<selection> of_heads;
};

/// Of `count` KV heads, some with more representatives than others.
std::vector<selection> of_each_head(index_t tokens, index_t count, double share, unsigned seed) {
  std::vector<selection> all;
  for (index_t h = 0; h < count; ++h)
    all.push_back(random_selection(tokens, share / (1 + h % 3), seed + 100 * static_cast<unsigned>(h)));
  return all;
}

/// The same, as they grow.
class coming_selections {
 public:
  explicit coming_selections(const chosen_tokens& of) : of_heads(of.of_heads.begin(), of.of_heads.end()) {}
  std::vector<hip::selection_layer> layers(index_t tokens) const {
    std::vector<hip::selection_layer> all;
    for (const auto& one : of_heads) all.push_back(one.layer(tokens));
    return all;
  }

  std::vector<coming_selection> of_heads;
};

/// Rows [T, heads, dim] and log-sum-exps [T, heads].
struct answers {
  std::vector<float> rows, sums;
};

/// Those of one call.
template <class Scalar, class Out = float>
answers answers_of_one_call(const attention_options& options, const problem<Scalar>& p, const chosen_tokens& chosen,
                            const simulator::stream& where) {
  std::vector<float>       sums(static_cast<std::size_t>(p.size.tokens * p.size.heads));
  const matrix_view<float> to = {sums.data(), p.size.tokens, p.size.heads, p.size.heads};
  auto rows = attend_part<Out>(options, p, chosen.of_heads, 0, p.size.tokens, where, {.log_sum_exp = to});
  return {std::move(rows), std::move(sums)};
}

/// A sequence that grows, and what it has to give.
template <class Scalar, class Out = float>
class grown {
 public:
  grown(const attention_options& options, const problem<Scalar>& p, const chosen_tokens& chosen, unsigned seed)
      : state(simulator::steady(seed)),
        p_(p),
        chosen_(chosen),
        rows_(p),
        selections_(chosen),
        attend_(options, simulator::steady(seed + 5)),
        want_(answers_of_one_call<Scalar, Out>(options, p, chosen, simulator::steady(seed))) {}

  /// From now on keys and values lie in pages, or values in columns; in each third call in rows. Where both were
  /// asked for, by turns.
  void in_pages(index_t block_tokens) { pages_.emplace(p_, block_tokens); }
  void in_columns() { columns_.emplace(p_); }

  /// The next tokens, up to `end`.
  void extend(index_t end) {
    const int turn = ++calls_ % 3;
    if (columns_ && (turn == 1 || (turn == 2 && !pages_))) return extend(end, *columns_);
    if (pages_ && turn != 0) return extend(end, *pages_);
    extend(end, rows_);
  }

  /// The same, where they lie in `keys`.
  template <class Keys>
  void extend(index_t end, Keys& keys) {
    const index_t begin = state.tokens();
    CAPTURE(begin, end);
    const index_t      heads = p_.size.heads;
    device_heads<Out>  out(end - begin, heads, p_.size.value_dim);
    std::vector<float> sums(static_cast<std::size_t>((end - begin) * heads));
    keys.come(end);
    REQUIRE(attend_.extend(state, rows_.queries(begin, end), keys.kv(), selections_.layers(end), out.view(),
                           {.sink_logits = p_.sink_logits,
                            .slopes      = p_.slopes,
                            .log_sum_exp = {sums.data(), end - begin, heads, heads}}) == status::ok);
    CHECK(state.tokens() == end);
    CHECK(same_bits(out.packed(), part_of(want_.rows, heads * p_.size.value_dim, begin, end)));
    CHECK(same_bits(sums, part_of(want_.sums, heads, begin, end)));
  }

  /// The same with rows of another sequence, which has those so far in common. Nobody looks at the answers.
  void extend_apart(const problem<Scalar>& other, const chosen_tokens& chosen, index_t end) {
    const index_t begin = state.tokens();
    if (begin == end) return;
    device_heads<Out>      out(end - begin, p_.size.heads, p_.size.value_dim);
    problem<Scalar>        both = other;
    std::vector<selection> with;
    for (index_t t = 0; t < begin; ++t)
      for (index_t h = 0; h < p_.size.kv_heads; ++h) {
        std::copy_n(p_.k.view().row(t, h), p_.size.key_dim, both.k.view().row(t, h));
        std::copy_n(p_.v.view().row(t, h), p_.size.value_dim, both.v.view().row(t, h));
      }
    for (std::size_t s = 0; s < chosen.of_heads.size(); ++s) {
      std::vector<index_t>        rep    = chosen.of_heads[s].rep;
      const std::vector<index_t>& before = chosen_.of_heads[s].rep;
      for (index_t t = 0; t < p_.size.tokens; ++t) {
        index_t& of = rep[static_cast<std::size_t>(t)];
        if (t < begin || of < begin) of = before[static_cast<std::size_t>(t < begin ? t : of)];
      }
      with.push_back(selection(rep));
    }
    coming_rows<Scalar>     rows(both);
    const coming_selections own(with);
    rows.come(end);
    REQUIRE(attend_.extend(state, rows.queries(begin, end), rows.kv(), own.layers(end), out.view(),
                           {.sink_logits = p_.sink_logits}) == status::ok);
  }

  state_on_chip<Scalar> state;

 private:
  const problem<Scalar>& p_;
  chosen_tokens          chosen_;
  coming_rows<Scalar>    rows_;
  coming_selections      selections_;
  on_chip<Scalar>        attend_;
  answers                want_;

  std::optional<coming_pages<Scalar>>   pages_;
  std::optional<coming_columns<Scalar>> columns_;
  int                                   calls_ = 0;
};

/// A step of decoding as a graph, captured behind a prompt. What it holds are rows of one token and where its answer
/// goes, in memory that stays.
template <class Keys>
class step_as_graph {
 public:
  /// With room for `room` tokens.
  step_as_graph(const attention_options& options, const problem<bfloat16>& p, const chosen_tokens& chosen, Keys& keys,
                index_t prompt, index_t room)
      : state(where_),
        out(1, p.size.heads, 64),
        p_(p),
        keys_(keys),
        kept_(chosen),
        want_(answers_of_one_call(options, p, chosen, simulator::steady(6)).rows),
        attend_(options, where_),
        one_(1, p.size.heads, 64),
        next_(prompt),
        graph_(begin(prompt, room)) {}

  /// One token after the other, which gets what one call for all tokens gives.
  void replay_up_to(index_t end) {
    const index_t heads = p_.size.heads;
    for (bool counted = true; next_ < end; ++next_, counted = false) {  // by the host: the call that it captured
      CAPTURE(next_);
      for (index_t h = 0; h < heads; ++h) std::copy_n(p_.q.view().row(next_, h), 64, one_.view().row(0, h));
      keys_.come(next_ + 1);
      replay();
      REQUIRE(same_bits(out.packed(), part_of(want_, heads * 64, next_, next_ + 1)));
      if (!counted) REQUIRE(state.replayed(1) == status::ok);
    }
    CHECK(where_.calls->allocations == allocations_);
    CHECK(where_.calls->waits == 0);
    CHECK(state.answer() == status::ok);
  }

  /// The token at hand once more.
  void replay() { graph_.replay(); }

 private:
  simulator::graph begin(index_t prompt, index_t room) {
    const shape&          size = p_.size;
    const auto            sets = static_cast<index_t>(kept_.of_heads.size());
    coming_rows<bfloat16> rows(p_);
    device_heads<float>   out_of_prompt(prompt, size.heads, 64);
    REQUIRE(attend_.template reserve<decltype(keys_.kv())>(state, room, size.heads, size.kv_heads, 64, prompt, sets) ==
            status::ok);
    allocations_ = where_.calls->allocations;
    keys_.come(prompt);
    const auto extend = [&](heads_view<const bfloat16> q, index_t tokens, heads_view<float> to) {
      REQUIRE(attend_.extend(state, q, keys_.kv(), kept_.layers(tokens), to) == status::ok);
    };
    extend(rows.queries(0, prompt), prompt, out_of_prompt.view());
    return simulator::capture(where_, [&] { extend(one_.view(), prompt + 1, out.view()); });
  }

  simulator::stream where_       = simulator::steady(6);
  int               allocations_ = 0;

 public:
  state_on_chip<bfloat16> state;
  device_heads<float>     out;

 private:
  const problem<bfloat16>& p_;
  Keys&                    keys_;
  coming_selections        kept_;
  std::vector<float>       want_;
  on_chip<bfloat16>        attend_;
  device_heads<bfloat16>   one_;
  index_t                  next_;
  simulator::graph         graph_;
};

/// To which tokens a sequence that opens by mass can be cut: edges of bands, those of its last two bands, and those
/// before any far field.
class remembered_tokens {
 public:
  remembered_tokens(const attention_options& options, const shape& size)
      : options_(options), band_(hip::attention::band_of(options, size.heads / size.kv_heads)) {}

  void extend(index_t end) { from_ = std::max(from_, ((end - 1) / band_ - 1) * band_); }
  void truncate(index_t tokens) { from_ = std::min(from_, tokens); }

  bool holds(index_t tokens) const {
    return !detail::opens_by_mass(options_) || tokens >= from_ || tokens % band_ == 0 ||
           edge_of(options_, tokens) <= options_.sink_tokens;
  }
  index_t edge_before(index_t tokens) const { return tokens / band_ * band_; }

 private:
  attention_options options_;
  index_t           band_, from_ = 0;
};

}  // namespace

TEMPLATE_TEST_CASE("hip states: pieces of a prompt give what one call gives", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{150, 2, 1, 64, 64}, shape{100, 6, 2, 64, 64});  // blocks that begin inside a token
  const unsigned seed = GENERATE(from_range(sample(std::vector{1u, 2u})));
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name, size, seed);
    problem<TestType> p(size, seed);
    if (seed == 2) give_head_terms(p, mode.options);
    std::mt19937    random(seed);
    grown<TestType> sequence(mode.options, p, random_selection(size.tokens, 0.3, seed), seed);
    for (const index_t end : random_ends(size.tokens, random, seed == 1 ? 70 : 9)) sequence.extend(end);
    CHECK(sequence.state.answer() == status::ok);
  }
}

TEMPLATE_TEST_CASE("hip states: head sizes, and results in the type of the rows", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{70, 4, 1, 128, 128}, shape{60, 2, 2, 256, 256});
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name, size);
    const problem<TestType>   p(size, 3);
    grown<TestType, TestType> sequence(mode.options, p, random_selection(size.tokens, 0.3, 3), 3);
    for (const index_t end : {33, 34, 57, size.tokens}) sequence.extend(end);
  }
}

TEMPLATE_TEST_CASE("hip states: pieces in pages give what one call gives to rows", "[hip]", ROW_TYPES) {
  struct pages_of {
    shape   size;
    index_t block_tokens;
  };
  const auto [size, block_tokens] = GENERATE(pages_of{{150, 2, 1, 64, 64}, 1}, pages_of{{100, 6, 2, 64, 64}, 12},
                                             pages_of{{70, 4, 2, 128, 128}, 64}, pages_of{{60, 2, 2, 256, 256}, 7});
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name, size, block_tokens);
    problem<TestType> p(size, 3);
    if (block_tokens == 12) give_head_terms(p, mode.options);
    std::mt19937    random(3);
    const bool      each = detail::has_leaves(mode.options) && block_tokens == 64;  // KV head has its selection
    grown<TestType> sequence(mode.options, p, of_each_head(size.tokens, each ? size.kv_heads : 1, 0.3, 3), 3);
    sequence.in_pages(block_tokens);
    for (const index_t end : random_ends(size.tokens, random, 40)) sequence.extend(end);
    CHECK(sequence.state.answer() == status::ok);
  }
}

TEMPLATE_TEST_CASE("hip states: pieces with transposed values give what one call gives to rows", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{150, 2, 1, 64, 64}, shape{100, 6, 2, 64, 64}, shape{70, 4, 2, 128, 128},
                             shape{60, 2, 2, 256, 256});
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name, size);
    problem<TestType> p(size, 3);
    if (size.heads == 6) give_head_terms(p, mode.options);
    std::mt19937    random(4);
    const bool      each = detail::has_leaves(mode.options) && size.key_dim == 128;  // KV head has its selection
    grown<TestType> sequence(mode.options, p, of_each_head(size.tokens, each ? size.kv_heads : 1, 0.3, 3), 3);
    sequence.in_columns();
    for (const index_t end : random_ends(size.tokens, random, 40)) sequence.extend(end);
    CHECK(sequence.state.answer() == status::ok);
  }
}

TEST_CASE("hip states: transposed values, pages and rows by turns, token by token", "[hip]") {
  const problem<bfloat16> p({80, 4, 2, 64, 64}, 4);
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name);
    grown<bfloat16> sequence(mode.options, p, random_selection(80, 0.3, 4), 4);
    sequence.in_columns(), sequence.in_pages(16);
    for (index_t end = 1; end <= 80; ++end) sequence.extend(end);
  }
}

TEST_CASE("hip states: pages token by token", "[hip]") {
  const problem<bfloat16> p({80, 4, 2, 64, 64}, 4);
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name);
    grown<bfloat16> sequence(mode.options, p, random_selection(80, 0.3, 4), 4);
    sequence.in_pages(16);
    for (index_t end = 1; end <= 80; ++end) sequence.extend(end);
  }
}

namespace {

/// A captured step for each token behind a prompt, keys and values in memory that stays.
template <class Keys>
void check_replayed_steps() {
  constexpr index_t T = 90, prompt = 45;
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name);
    const problem<bfloat16> p({T, 4, 2, 64, 64}, 6);
    Keys                    keys(p);
    step_as_graph           step(mode.options, p, random_selection(T, 0.3, 6), keys, prompt, T);
    step.replay_up_to(T);
  }
}

struct pages_that_stay : coming_pages<bfloat16> {
  explicit pages_that_stay(const problem<bfloat16>& of, index_t block_tokens = 8)
      : coming_pages(of, block_tokens, true) {}
};
struct columns_that_stay : coming_columns<bfloat16> {
  explicit columns_that_stay(const problem<bfloat16>& of) : coming_columns(of, true) {}
};

}  // namespace

// An engine writes the table in place, and moves what lies in blocks.
TEST_CASE("hip states: a step of decoding in pages as a graph", "[hip]") { check_replayed_steps<pages_that_stay>(); }

TEST_CASE("hip states: a step of decoding with transposed values as a graph", "[hip]") {
  check_replayed_steps<columns_that_stay>();
}

TEST_CASE("hip states: pages, and transposed values, of sequences that are truncated or forked or moved", "[hip]") {
  constexpr index_t T       = 120;
  const bool        columns = GENERATE(false, true);
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name, columns);
    const shape             size = {T, 2, 2, 64, 64};
    const problem<bfloat16> p(size, 8), other(size, 9);
    const chosen_tokens     chosen = random_selection(T, 0.3, 8);
    grown<bfloat16>         sequence(mode.options, p, chosen, 3), branch(mode.options, p, chosen, 3);
    remembered_tokens       remembered(mode.options, size);
    if (columns)
      sequence.in_columns(), branch.in_columns();
    else
      sequence.in_pages(16), branch.in_pages(5);
    sequence.extend(70), remembered.extend(70);
    sequence.extend_apart(other, random_selection(T, 0.5, 10), 90), remembered.extend(90);
    const index_t left = remembered.holds(41) ? 41 : remembered.edge_before(41);
    REQUIRE(sequence.state.truncate(left) == status::ok);
    sequence.extend(84);
    REQUIRE(sequence.state.fork(branch.state) == status::ok);
    sequence.extend(99), branch.extend(85), branch.extend(110);
    state_on_chip<bfloat16> moved(std::move(branch.state));
    branch.state = std::move(moved);
    branch.extend(T), sequence.extend(T);
    CHECK(branch.state.answer() == status::ok);
    CHECK(sequence.state.answer() == status::ok);
  }
}

// Of a call that has no room for its tokens, no block and no value is looked up: others have come since it was
// captured.
TEST_CASE("hip states: a graph for fewer tokens than are there", "[hip]") {
  const bool              columns = GENERATE(false, true);
  const problem<bfloat16> p({120, 2, 1, 64, 64}, 7), first({40, 2, 1, 64, 64}, 7);
  simulator::stream       where = simulator::steady(7);
  on_chip<bfloat16>       attend({.keys = key_set::all}, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  pages_that_stay         pages(first, 1);
  columns_that_stay       values(first);
  device_heads<float>     out(1, 2, 64), others(80, 2, 64);
  REQUIRE(attend.reserve<transposed_value_kv<bfloat16>>(state, 120, 2, 1, 64, 80) == status::ok);
  pages.come(40), values.come(40), rows.come(120);
  const auto extend = [&](const auto& kv) { return attend.extend(state, rows.queries(0, 1), kv, out.view()); };
  const simulator::graph step =
      simulator::capture(where, [&] { REQUIRE((columns ? extend(values.kv()) : extend(pages.kv())) == status::ok); });
  REQUIRE(state.truncate(0) == status::ok);
  REQUIRE(attend.extend(state, rows.queries(0, 80), rows.kv(), others.view()) == status::ok);
  step.replay();
  CHECK(state.answer() == status::too_large);
  for (const float x : out.packed()) REQUIRE(x != x);  // untouched
}

TEST_CASE("hip states: pages that are refused", "[hip]") {
  const problem<bfloat16> p({40, 2, 1, 64, 64}, 7);
  simulator::stream       where = simulator::steady(7);
  on_chip<bfloat16>       attend({.keys = key_set::all}, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  coming_pages<bfloat16>  pages(p, 8);
  device_heads<float>     out(40, 2, 64);
  pages.come(40);
  const auto answer = [&](const paged_kv<bfloat16>& kv) {
    return std::string(message(attend.extend(state, rows.queries(0, 40), kv, out.view())));
  };
  auto shorter   = pages.kv();
  shorter.length = 39;
  CHECK(answer(shorter) == "kv.tokens() is less than the state's tokens and those of q");
  auto fewer        = pages.kv();
  fewer.block_table = fewer.block_table.first(4);
  CHECK(answer(fewer) == "kv.block_table has fewer blocks than kv.length tokens fill");
  auto apart = pages.kv();
  apart.values.token_stride += 1;
  CHECK(answer(apart).starts_with("kv.values are not on 16-byte boundaries"));
  CHECK(where.calls->launches == 0);
  CHECK(state.tokens() == 0);
}

TEST_CASE("hip states: transposed values that are refused", "[hip]") {
  const problem<bfloat16> p({40, 2, 1, 64, 64}, 7);
  simulator::stream       where = simulator::steady(7);
  on_chip<bfloat16>       attend({.keys = key_set::all}, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  columns_that_stay       columns(p);
  device_heads<float>     out(40, 2, 64);
  columns.come(40);
  const auto answer = [&](auto change) {
    auto kv = columns.kv();
    change(kv);
    return std::string(message(attend.extend(state, rows.queries(0, 40), kv, out.view())));
  };
  CHECK(answer([](auto& kv) { kv.keys.tokens = 39; }) == "kv.tokens() is less than the state's tokens and those of q");
  CHECK(answer([](auto& kv) { kv.dim_stride = 39; }) == "kv.dim_stride is less than kv.keys.tokens");
  CHECK(answer([](auto& kv) { kv.values = nullptr; }) == "kv.values is null");
  CHECK(answer([](auto& kv) { kv.dim = 128; }) == "out.dim differs from kv.value_dim()");
  CHECK(where.calls->launches == 0);
  CHECK(state.tokens() == 0);
}

// Rows of values take much memory, which nobody has who does not ask for it.
TEST_CASE("hip states: memory for transposed values is made where they are", "[hip]") {
  constexpr index_t       T = 40;
  const problem<bfloat16> p({T, 2, 1, 64, 64}, 7);
  simulator::stream       where = simulator::steady(7);
  on_chip<bfloat16>       attend({.keys = key_set::all}, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  coming_pages<bfloat16>  pages(p, 8);
  columns_that_stay       columns(p);
  device_heads<float>     out(1, 2, 64);
  rows.come(T), pages.come(T), columns.come(T);
  const auto extend = [&](const auto& kv) {
    REQUIRE(attend.extend(state, rows.queries(state.tokens(), state.tokens() + 1), kv, out.view()) == status::ok);
    return where.calls->allocations;
  };
  REQUIRE(attend.reserve(state, T, 2, 1, 64) == status::ok);
  const int made = where.calls->allocations;
  CHECK(extend(rows.kv()) == made);
  CHECK(extend(pages.kv()) == made);
  CHECK(extend(columns.kv()) == made + 1);
  CHECK(extend(columns.kv()) == made + 1);
}

TEST_CASE("hip states: pieces where KV heads have selections of their own, as alone", "[hip]") {
  const shape    size = {100, 6, 3, 64, 64}, alone = {100, 2, 1, 64, 64};
  const unsigned seed = GENERATE(from_range(sample(std::vector{1u, 2u})));
  for (const auto& mode : sample(far_modes())) {
    CAPTURE(mode.name, seed);
    problem<bfloat16> p(size, seed);
    if (detail::forms_by_keys(mode.options)) gather_keys(p, 1.5f);
    const auto           chosen = of_each_head(size.tokens, size.kv_heads, 0.3, seed);
    std::mt19937         random(seed);
    std::vector<index_t> ends = random_ends(size.tokens, random, seed == 1 ? 60 : 9);
    grown<bfloat16>      sequence(mode.options, p, chosen, seed);
    for (const index_t end : ends) sequence.extend(end);
    CHECK(sequence.state.answer() == status::ok);
    const auto all = answers_of_one_call(mode.options, p, chosen, simulator::steady(seed)).rows;
    for (index_t h = 0; h < size.kv_heads; ++h) {
      CAPTURE(h);
      problem<bfloat16> own(alone, seed);
      for (index_t t = 0; t < size.tokens; ++t) {
        for (index_t i = 0; i < 2; ++i) std::copy_n(p.q.view().row(t, 2 * h + i), 64, own.q.view().row(t, i));
        std::copy_n(p.k.view().row(t, h), 64, own.k.view().row(t, 0));
        std::copy_n(p.v.view().row(t, h), 64, own.v.view().row(t, 0));
      }
      const auto rows =
          answers_of_one_call(mode.options, own, chosen[static_cast<std::size_t>(h)], simulator::steady(seed)).rows;
      for (index_t t = 0; t < size.tokens; ++t)
        REQUIRE(same_bits(part_of(rows, 2 * 64, t, t + 1), part_of(all, 2 * 64, 3 * t + h, 3 * t + h + 1)));
      grown<bfloat16> one(mode.options, own, chosen[static_cast<std::size_t>(h)], seed);
      one.extend(size.tokens);
    }
  }
}

TEST_CASE("hip states: token by token where KV heads have selections of their own", "[hip]") {
  const problem<bfloat16> p({80, 4, 2, 64, 64}, 4);
  for (const auto& mode : sample(far_modes())) {
    CAPTURE(mode.name);
    grown<bfloat16> sequence(mode.options, p, of_each_head(80, 2, 0.3, 4), 4);
    for (index_t end = 1; end <= 80; ++end) sequence.extend(end);
  }
}

TEST_CASE("hip states: more KV heads than a launch gathers selections of", "[hip]") {
  constexpr index_t       T = 40, heads = hip::attention::heads_of_launch + 3;
  const problem<bfloat16> p({T, heads, heads, 64, 64}, 9);
  const auto              chosen = of_each_head(T, heads, 0.4, 9);
  grown<bfloat16>         sequence(closed({.window = 2, .chunk = 8, .leaf = 3}), p, chosen, 9);
  for (const index_t end : {13, 14, 33, T}) sequence.extend(end);
}

TEST_CASE("hip states: one token after the other", "[hip]") {
  const problem<bfloat16> p({80, 3, 1, 64, 64}, 4);
  for (const auto& mode : sample(grown_modes)) {
    CAPTURE(mode.name);
    grown<bfloat16> sequence(mode.options, p, random_selection(80, 0.3, 4), 4);
    for (index_t end = 1; end <= 80; ++end) sequence.extend(end);
  }
}

TEST_CASE("hip states: a step of decoding as a graph", "[hip]") {
  constexpr index_t T = 110, prompt = 45;
  const shape       size = GENERATE(shape{T, 2, 1, 64, 64}, shape{T, 6, 2, 64, 64});
  const bool        each = GENERATE(false, true);  // KV head has its selection
  for (const auto& mode : sample(each ? far_modes() : grown_modes)) {
    CAPTURE(mode.name, size, each);
    const problem<bfloat16> p(size, 6);
    coming_rows<bfloat16>   rows(p);
    step_as_graph step(mode.options, p, of_each_head(T, each ? size.kv_heads : 1, 0.3, 6), rows, prompt, T - 1);
    step.replay_up_to(T - 1);
    CHECK(step.state.tokens() == T - 1);
    CHECK(step.state.replayed(1) == status::too_large);

    // Nor does the device go beyond its memory.
    const auto last = step.out.packed();
    std::fill_n(step.out.view().row(0, 0), size.heads * 64, 7.0f);
    step.replay();
    CHECK(step.state.answer() == status::too_large);
    for (const float x : step.out.packed()) REQUIRE(x == 7);
    REQUIRE(step.state.truncate(T - 1) == status::ok);
    CHECK(step.state.answer() == status::ok);
    REQUIRE(step.state.truncate(T - 2) == status::ok);  // the token at hand once more
    step.replay();
    CHECK(step.state.answer() == status::ok);
    CHECK(same_bits(step.out.packed(), last));
  }
}

TEST_CASE("hip states: truncated, forked or moved, it goes on as if the rest had never been", "[hip]") {
  constexpr index_t T    = 120;
  const bool        each = GENERATE(false, true);  // KV head has its selection
  for (const auto& mode : sample(each ? far_modes() : grown_modes)) {
    CAPTURE(mode.name, each);
    const index_t           sets = each ? 2 : 1;
    const shape             size = {T, 2, 2, 64, 64};
    const problem<bfloat16> p(size, 8);
    problem<bfloat16>       other(size, 9);
    std::mt19937            random(8);
    const chosen_tokens     chosen = of_each_head(T, sets, 0.3, 8);
    grown<bfloat16>         sequence(mode.options, p, chosen, 3), branch(mode.options, p, chosen, 3);
    remembered_tokens       remembered(mode.options, size);
    sequence.extend(90);
    for (int turn = 0; turn < 4; ++turn) {
      remembered.extend(sequence.state.tokens());
      const index_t all    = sequence.state.tokens();
      auto          tokens = turn == 3 ? 0 : static_cast<index_t>(random() % static_cast<unsigned>(all));
      sequence.extend_apart(other, of_each_head(T, sets, 0.5, 10), std::min(T, all + 20));
      remembered.extend(sequence.state.tokens());
      if (!remembered.holds(tokens)) {
        CHECK(std::string(message(sequence.state.truncate(tokens))) ==
              "tokens lies inside a band of tiles of long ago: only its edges are left");
        tokens = remembered.edge_before(tokens);
      }
      REQUIRE(sequence.state.truncate(tokens) == status::ok);
      remembered.truncate(tokens);
      CHECK(sequence.state.tokens() == tokens);
      sequence.extend(std::min(T, tokens + 1 + static_cast<index_t>(random() % 70)));
    }
    const index_t at_fork = sequence.state.tokens();
    branch.extend(3);  // what it had is forgotten
    REQUIRE(sequence.state.fork(branch.state) == status::ok);
    CHECK(branch.state.tokens() == at_fork);
    sequence.extend_apart(other, of_each_head(T, sets, 0.5, 11), std::min(T, at_fork + 30));
    branch.extend(std::min(T, at_fork + 9));
    branch.extend(T);
    CHECK(branch.state.answer() == status::ok);

    state_on_chip<bfloat16> moved(std::move(branch.state));
    CHECK(branch.state.tokens() == 0);
    branch.extend(20);
    CHECK(moved.tokens() == T);
    remembered.extend(T);
    REQUIRE(moved.truncate(remembered.holds(100) ? 100 : remembered.edge_before(100)) == status::ok);
    branch.state = std::move(moved);
    branch.extend(T);
    branch.state.clear();
    CHECK(branch.state.tokens() == 0);
    branch.extend(T);
    REQUIRE(state_on_chip<bfloat16>(simulator::steady(3)).fork(branch.state) == status::ok);  // nothing
    CHECK(branch.state.tokens() == 0);
    branch.extend(31);
  }
}

TEST_CASE("hip states: what the last two bands opened is remembered, token by token", "[hip]") {
  constexpr index_t T = 100, end = 96;  // bands of 16 tokens, tiles of 4
  const shape       size    = {T, 8, 1, 64, 64};
  const auto        options = opened({.window = 8, .chunk = 32, .leaf = 4, .open_above = 0.05f, .tile = 4});
  REQUIRE(hip::attention::band_of(options, 8) == 16);
  const problem<bfloat16> p(size, 5), other(size, 6);
  const selection         chosen = random_selection(T, 0.3, 5);
  grown<bfloat16>         sequence(options, p, chosen, 2);
  const char* const       lost = "tokens lies inside a band of tiles of long ago: only its edges are left";
  sequence.extend(end);
  for (index_t tokens = end - 1; tokens >= 64; --tokens) {
    CAPTURE(tokens);
    REQUIRE(sequence.state.truncate(tokens) == status::ok);
    sequence.extend_apart(other, random_selection(T, 0.5, 10), std::min(end, tokens + 3));
    REQUIRE(sequence.state.truncate(tokens) == status::ok);
    sequence.extend(tokens + 1);
    const index_t more = tokens % 2 == 0 ? end : std::min(end, tokens + 9);  // over several bands, or one edge at most
    if (more > tokens + 1) sequence.extend(more);
  }
  CHECK(std::string(message(sequence.state.truncate(63))) == lost);
  CHECK(sequence.state.tokens() == end);
  REQUIRE(sequence.state.truncate(48) == status::ok);
  CHECK(std::string(message(sequence.state.truncate(47))) == lost);
  sequence.extend(50);
  CHECK(std::string(message(sequence.state.truncate(47))) == lost);
  REQUIRE(sequence.state.truncate(30) == status::ok);  // before any far field
  for (const index_t more : {53, T}) sequence.extend(more);
  REQUIRE(sequence.state.truncate(30) == status::ok);
  for (index_t t = 31; t <= T; ++t) sequence.extend(t);
  CHECK(sequence.state.answer() == status::ok);

  auto fewer       = options;
  fewer.open_above = 0.12f;
  grown<bfloat16> whole_bands(fewer, p, chosen, 2);  // of which a call has several behind the one it begins in
  for (const index_t more : {62, T}) whole_bands.extend(more);
}

TEST_CASE("hip states: tokens of calls that failed hide no band that is remembered", "[hip]") {
  constexpr index_t       T       = 100;
  const auto              options = opened({.window = 8, .chunk = 32, .leaf = 4, .open_above = 0.05f, .tile = 16});
  const problem<bfloat16> p({T, 8, 1, 64, 64}, 5);
  const selection         chosen = random_selection(T, 0.3, 5);
  const auto              want   = answers_of_one_call(options, p, chosen, simulator::steady(1)).rows;
  const simulator::stream where  = simulator::steady(1);
  on_chip<bfloat16>       attend(options, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  coming_selection        kept(chosen);
  const auto              extend = [&](index_t end) {
    const index_t       begin = state.tokens();
    device_heads<float> out(end - begin, 8, 64);
    rows.come(end);
    REQUIRE(attend.extend(state, rows.queries(begin, end), rows.kv(), kept.layer(end), out.view()) == status::ok);
    return out.packed();
  };
  extend(T);
  REQUIRE(state.truncate(64) == status::ok);
  extend(70);
  kept.count = -1;
  extend(T);
  kept.count = 1;
  CHECK(where.calls->waits == 0);
  CHECK(state.truncate(47) == status::unsupported);
  REQUIRE(state.truncate(69) == status::ok);
  CHECK(where.calls->waits == 2);
  CHECK(same_bits(extend(T), part_of(want, 8 * 64, 69, T)));
  CHECK(state.answer() == status::ok);
}

// Bands of two blocks, of which calls begin in the second one.
TEST_CASE("hip states: tiles of more rows than a block", "[hip]") {
  constexpr index_t T       = 150;
  const shape       size    = {T, 8, 1, 64, 64};
  const auto        options = opened({.window = 8, .chunk = 64, .leaf = 4, .open_above = 0.15f, .tile = 32});
  REQUIRE(hip::attention::band_of(options, 8) == 32);
  const problem<bfloat16> p(size, 7);
  grown<bfloat16>         sequence(options, p, random_selection(T, 0.3, 7), 7);
  for (const index_t end : {90, 115, 117, 127, 130, 149, T}) sequence.extend(end);
  REQUIRE(sequence.state.truncate(122) == status::ok);
  for (const index_t end : {123, 148}) sequence.extend(end);
}

namespace {

/// The chip, with segments of four tiles.
struct wide_segments : simulator::stream {};

}  // namespace

template <>
inline constexpr index_t cascada::hip::attention::segment_tiles<wide_segments> = 4;

// The band is a chunk, over which near keys come to fill one to five tiles: they end a segment, or do not.
TEST_CASE("hip states: opened tokens lie where no later row of the band moves them", "[hip]") {
  constexpr index_t T       = 260;
  const auto        options = opened({.window = 8, .chunk = 128, .leaf = 4, .open_above = 0.01f, .tile = 16});
  REQUIRE(hip::attention::band_of(options, 1) == 128);
  const problem<bfloat16> p({T, 1, 1, 64, 64}, 7);
  const wide_segments     where{simulator::steady(7)};
  const selection         chosen = random_selection(T, 0.3, 7);
  const device_selection  whole(chosen);
  const coming_selection  kept(chosen);
  coming_rows<bfloat16>   rows(p);
  device_heads<float>     all(T, 1, 64);
  rows.come(T);
  attention<bfloat16, wide_segments>       attend(options, where);
  attention_state<bfloat16, wide_segments> state(where);
  REQUIRE(attend(rows.queries(0, T), rows.kv(), whole.layer(), all.view()) == status::ok);
  for (const index_t end : {130, 150, 151, 152, 177, 201, 202, 230, 231, 257, T}) {
    const index_t       begin = state.tokens();
    device_heads<float> out(end - begin, 1, 64);
    REQUIRE(attend.extend(state, rows.queries(begin, end), rows.kv(), kept.layer(end), out.view()) == status::ok);
    CAPTURE(begin, end);
    CHECK(same_bits(out.packed(), part_of(all.packed(), 64, begin, end)));
  }
}

TEST_CASE("hip states: leaves by keys that open, token by token and in pieces", "[hip]") {
  constexpr index_t T    = 100;
  const shape       size = {T, 4, 2, 64, 64};
  const auto        options =
      keyed({.chunk = 32, .sink_tokens = 2, .leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.08f, .tile = 8});
  problem<bfloat16> p(size, 6);
  gather_keys(p, 2.0f);
  const selection chosen = random_selection(T, 0.1, 6);
  grown<bfloat16> sequence(options, p, chosen, 6), pieces(options, p, chosen, 6);
  for (index_t end = 1; end <= T; ++end) sequence.extend(end);
  pieces.extend(40);
  problem<bfloat16> other(size, 7);
  pieces.extend_apart(other, random_selection(T, 0.2, 8), 70);
  REQUIRE(pieces.state.truncate(40) == status::ok);
  for (const index_t end : {61, 63, 77, T}) pieces.extend(end);
}

// As rows of models, keys are alike; longer than window and chunk, so that some leaves open.
TEST_CASE("hip states: every preset", "[hip]") {
  const std::vector<attention_options> all = {presets::accurate.attention, presets::balanced.attention,
                                              presets::fast.attention};
  problem<bfloat16>                    p({600, 2, 1, 64, 64}, 5);
  gather_keys(p);
  for (const attention_options& options : sample(all)) {
    CAPTURE(options.open_above);
    attention_options without = options;
    without.open              = opening::none;
    const selection chosen    = random_selection(600, 0.004, 7);
    const auto      shut      = answers_of_one_call(without, p, chosen, simulator::steady(5)).rows;
    CHECK_FALSE(same_bits(answers_of_one_call(options, p, chosen, simulator::steady(5)).rows, shut));
    grown<bfloat16> sequence(options, p, chosen, 5);
    for (const index_t end : {5, 390, 511, 512, 513, 514, 530, 590}) sequence.extend(end);
    REQUIRE(sequence.state.truncate(583) == status::ok);
    for (index_t end = 584; end <= 600; ++end) sequence.extend(end);
    CHECK(sequence.state.answer() == status::ok);
  }
}

TEST_CASE("hip states: more tokens than a batch join chains by keys", "[hip]") {
  constexpr index_t T       = 2 * hip::attention::chain_batch + 200;
  const float       tau     = GENERATE(0.15f, 0.9f);  // of few anchors, or of more than a batch
  const auto        options = attention_options{
             .window = 8, .chunk = 64, .sink_tokens = 3, .leaf_threshold = tau, .leaf = 4, .open = opening::none};
  const problem<bfloat16> p({T, 2, 2, 64, 64}, 4);
  const selection         chosen = random_selection(T, 0.003, 4);
  CAPTURE(tau);
  grown<bfloat16> sequence(options, p, chosen, 4), whole(options, p, chosen, 4);
  whole.extend(T);
  for (const index_t end : {70, 700, 701, 1150, T}) sequence.extend(end);
  REQUIRE(sequence.state.truncate(640) == status::ok);
  sequence.extend(T);
  grown<bfloat16> each(options, p, of_each_head(T, 2, 0.006, 5), 4);  // KV head has its selection
  for (const index_t end : {700, T}) each.extend(end);
}

// Keys that are zero or not finite are alone, and of equally near anchors the oldest is joined.
TEST_CASE("hip states: odd keys and ties of leaves by keys", "[hip]") {
  constexpr index_t T    = 90;
  const shape       size = {T, 1, 1, 64, 64};
  problem<bfloat16> p(size, 6);
  const float       odd[] = {0.0f, std::numeric_limits<float>::infinity(), 0x1p70f};
  for (index_t t = 0; t < T; ++t)
    for (index_t c = 0; c < 64; ++c) {
      const float x           = t % 9 == 4 ? odd[t % 3] * (c == 0) : t % 5 == 0 ? 1.0f : c == t % 4 ? 1.0f : 0.0f;
      p.k.view().row(t, 0)[c] = from_float<bfloat16>(x);
    }
  const auto      options = keyed({.leaf_threshold = 0.1f, .leaf = 4, .moments = std::nullopt, .open = opening::none});
  grown<bfloat16> sequence(options, p, selection(std::vector<index_t>(T, 0)), 4);
  for (index_t end = 1; end <= T; ++end) sequence.extend(end);
}

TEST_CASE("hip states: the launches of a step do not depend on the token", "[hip]") {
  struct step {
    attention_options options;
    int               launches;
  };
  const std::vector<step> all = {
      {{.keys = key_set::all}, 3},
      {closed({.window = 8, .chunk = 16, .leaf = 3}), 7},
      {opened({.window = 8, .chunk = 16, .leaf = 3, .open_above = 0.05f, .tile = 4}), 10},
      {keyed({.leaf = 3, .open = opening::none}), 9},
      {keyed({.leaf = 3, .open_above = 0.05f, .tile = 4}), 12},
  };
  constexpr index_t       T    = 70;
  const index_t           sets = GENERATE(1, 2);  // selections of two KV heads: one launch more
  const std::string       lie  = GENERATE("in rows", "in pages", "in columns");  // of the latter two the same
  const problem<bfloat16> p({T, 2, 2, 64, 64}, 2);
  for (const auto& own : all) {
    const simulator::stream  where = simulator::steady(2);
    on_chip<bfloat16>        attend(own.options, where);
    state_on_chip<bfloat16>  state(where);
    coming_rows<bfloat16>    rows(p);
    const coming_selections  kept(of_each_head(T, sets, 0.3, 2));
    const int                more = (sets > 1 && detail::has_leaves(own.options) ? 1 : 0) + (lie != "in rows" ? 1 : 0);
    device_heads<float>      out(1, 2, 64);
    coming_pages<bfloat16>   pages(p, 16);
    coming_columns<bfloat16> columns(p);
    REQUIRE((lie == "in columns" ? attend.reserve<transposed_value_kv<bfloat16>>(state, T, 2, 2, 64, 1, sets)
                                 : attend.reserve(state, T, 2, 2, 64, 1, sets)) == status::ok);
    for (index_t t = 0; t < T; ++t) {
      CAPTURE(t, lie);
      rows.come(t + 1), pages.come(t + 1), columns.come(t + 1);
      const int  before = where.calls->launches;
      const auto extend = [&](const auto& kv) {
        return attend.extend(state, rows.queries(t, t + 1), kv, kept.layers(t + 1), out.view());
      };
      REQUIRE((lie == "in rows"    ? extend(rows.kv())
               : lie == "in pages" ? extend(pages.kv())
                                   : extend(columns.kv())) == status::ok);
      REQUIRE(where.calls->launches - before == own.launches + more);
    }
    CHECK(where.calls->waits == 0);
    CHECK(where.calls->allocations == 2);
  }
}

TEST_CASE("hip states: memory doubles, or is reserved, and no call waits", "[hip]") {
  constexpr index_t       T = 100;
  const problem<bfloat16> p({T, 2, 1, 64, 64}, 2);
  simulator::stream       where = simulator::steady(2), other = simulator::steady(2);
  on_chip<bfloat16>       attend({.keys = key_set::all}, where), wide({.keys = key_set::all}, other);
  state_on_chip<bfloat16> state(where), reserved(other);
  coming_rows<bfloat16>   rows(p);
  device_heads<float>     out(1, 2, 64);
  rows.come(T);
  CHECK(state.bytes() == 0);
  reserved.reserve(T);
  for (index_t t = 0; t < T; ++t) {
    REQUIRE(attend.extend(state, rows.queries(t, t + 1), rows.kv(), out.view()) == status::ok);
    REQUIRE(wide.extend(reserved, rows.queries(t, t + 1), rows.kv(), out.view()) == status::ok);
  }
  CHECK(where.calls->waits == 0);
  CHECK(where.calls->allocations > 8);   // 1, 2, 4, .. 128 tokens, and as often room for their segments
  CHECK(other.calls->allocations == 2);  // the state, and the segments
  CHECK(state.bytes() > 0);

  // Where memory runs out, the state stays as it was.
  other.calls->most_allocations = other.calls->allocations;
  device_heads<bfloat16>     k(2 * T, 1, 64), v(2 * T, 1, 64);
  const strided_kv<bfloat16> longer = {k.view(), v.view()};
  CHECK(wide.extend(reserved, rows.queries(0, 1), longer, out.view()) == status::device_error);
  CHECK(wide.reserve(reserved, 2 * T, 2, 1, 64) == status::device_error);
  CHECK(reserved.fork(state) == status::ok);  // it has room
  state_on_chip<bfloat16> empty(other);
  CHECK(reserved.fork(empty) == status::device_error);
  CHECK(reserved.tokens() == T);
  CHECK(empty.tokens() == 0);
  REQUIRE(reserved.truncate(T - 1) == status::ok);
  CHECK(wide.extend(reserved, rows.queries(T - 1, T), rows.kv(), out.view()) == status::ok);
  state_on_chip<bfloat16> without(where);
  CHECK_THROWS(
      simulator::capture(where, [&] { (void)attend.extend(without, rows.queries(0, 1), rows.kv(), out.view()); }));
}

TEST_CASE("hip states: what is refused leaves it as it was", "[hip]") {
  constexpr index_t       T = 60;
  const problem<bfloat16> p({T, 2, 1, 64, 64}, 2), wide({T, 2, 1, 128, 128}, 2), many({T, 4, 2, 64, 64}, 2);
  simulator::stream       where = simulator::steady(2);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p), wide_rows(wide), many_rows(many);
  const float             slopes[2] = {1, 1};
  rows.come(T);
  const auto answer = [&](attention_options options, coming_rows<bfloat16>& from, index_t begin, index_t end,
                          index_t heads, index_t dim, attention_extension call = {}) {
    on_chip<bfloat16>   attend(options, where);
    device_heads<float> out(end - begin, heads, dim);
    return attend.extend(state, from.queries(begin, end), from.kv(), out.view(), call);
  };
  const auto              said  = [](status refused) { return std::string(message(refused)); };
  const attention_options dense = {.keys = key_set::all, .leaf_threshold = std::nanf("")};  // nobody looks at the NaN
  REQUIRE(answer(dense, rows, 0, 20, 2, 64) == status::ok);
  const int launches = where.calls->launches;
  CHECK(said(answer({.keys = key_set::near}, rows, 20, 21, 2, 64)) == "state belongs to attention with other options");
  CHECK(said(answer({.keys = key_set::all}, rows, 20, 21, 2, 64)) == "state belongs to attention with other options");
  CHECK(said(answer(dense, wide_rows, 20, 21, 2, 128)) == "state belongs to keys and values of another shape");
  CHECK(said(answer(dense, rows, 0, 41, 2, 64)) == "kv.tokens() is less than the state's tokens and those of q");
  CHECK(said(answer({.keys = key_set::all, .causal = false}, rows, 20, 21, 2, 64)) ==
        "options.causal == false cannot grow: old rows would change");
  CHECK(said(answer(dense, rows, 20, 21, 2, 64, {.slopes = std::span(slopes, 1)})) ==
        "slopes has not one entry for each of q.heads");
  CHECK(said(answer(dense, many_rows, 20, 21, 4, 64)) == "state belongs to keys and values of another shape");
  const auto reserve = [&](index_t tokens, index_t heads, index_t kv_heads, index_t dim, index_t piece = 1) {
    return std::string(message(on_chip<bfloat16>(dense, where).reserve(state, tokens, heads, kv_heads, dim, piece)));
  };
  CHECK(reserve(-1, 2, 1, 64) == "tokens is negative");
  CHECK(reserve(9, 2, 1, 64, 0) == "piece is less than 1");
  CHECK(reserve(9, 3, 1, 64) == "state belongs to another number of query heads");
  CHECK(reserve(9, 3, 2, 64) == "q.heads is no multiple of kv.kv_heads()");
  CHECK(reserve(9, 2, 1, 72) == "q.dim is not 64, 128 or 256, as gfx942 needs it");
  CHECK(std::string(message(state.truncate(-1))) == "tokens is negative");
  CHECK(std::string(message(state.truncate(21))) == "tokens is more than the state has");
  CHECK(std::string(message(state.replayed(-1))) == "tokens is negative");
  CHECK(std::string(message(state.replayed(1))) == "tokens is more than there is memory for");
  CHECK(where.calls->launches == launches);
  CHECK(answer(dense, rows, 20, 20, 2, 64) == status::ok);  // no token
  CHECK(state.tokens() == 20);
  CHECK(answer(dense, rows, 20, 60, 2, 64) == status::ok);

  state_on_chip<bfloat16> empty(where);
  CHECK(empty.answer() == status::ok);
  CHECK(empty.truncate(0) == status::ok);
  CHECK(empty.bytes() == 0);
}

TEST_CASE("hip states: after a selection that failed nothing is written, until tokens are forgotten", "[hip]") {
  const shape             size = {64, 2, 1, 64, 64};
  const problem<bfloat16> p(size, 8);
  const auto              options = closed({.window = 8, .chunk = 8, .leaf = 3});
  const selection         chosen  = random_selection(64, 0.3, 8);
  const auto              want    = answers_of_one_call(options, p, chosen, simulator::steady(1)).rows;
  const simulator::stream where   = simulator::steady(1);
  on_chip<bfloat16>       attend(options, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  coming_selection        kept(chosen);
  device_heads<float>     out(64, 2, 64);
  const auto              extend = [&](index_t end) {
    auto          to    = out.view();
    const index_t begin = state.tokens();
    to.data += begin * to.token_stride, to.tokens = end - begin;
    rows.come(end);
    return attend.extend(state, rows.queries(begin, end), rows.kv(), kept.layer(end), to);
  };
  REQUIRE(extend(40) == status::ok);
  kept.count = -1;
  REQUIRE(extend(50) == status::ok);
  kept.count = 1;
  REQUIRE(extend(52) == status::ok);
  CHECK(state.tokens() == 52);
  CHECK(state.answer() == status::invalid_representatives);
  REQUIRE(state.truncate(41) == status::ok);  // not all of it
  REQUIRE(extend(64) == status::ok);
  CHECK(state.answer() == status::invalid_representatives);
  for (index_t t = 40; t < 64; ++t)
    for (index_t c = 0; c < 128; ++c) REQUIRE(std::isnan(out.view().row(t, 0)[c]));
  REQUIRE(state.truncate(40) == status::ok);
  REQUIRE(extend(64) == status::ok);
  CHECK(state.answer() == status::ok);
  CHECK(same_bits(out.packed(), want));
}

TEST_CASE("hip states: a call that the runtime broke off leaves a state that is refused until it is cleared", "[hip]") {
  constexpr index_t       T = 64, before = 40;
  const problem<bfloat16> p({T, 2, 1, 64, 64}, 8);
  const auto              options = keyed({.leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.04f, .tile = 4});
  const selection         chosen  = random_selection(T, 0.3, 8);
  const auto              want    = answers_of_one_call(options, p, chosen, simulator::steady(1)).rows;
  const char* const       why     = "state is that of a call that was broken off; clear it";
  coming_rows<bfloat16>   rows(p);
  const coming_selection  kept(chosen);
  device_heads<float>     out(T, 2, 64);
  rows.come(T);
  int taken = 0;
  for (bool broken = true; broken; ++taken) {
    CAPTURE(taken);
    const simulator::stream where = simulator::steady(1);
    on_chip<bfloat16>       attend(options, where);
    state_on_chip<bfloat16> state(where), branch(where), shorter(where);
    const auto              extend = [&](state_on_chip<bfloat16>& of, index_t begin, index_t end) {
      auto to = out.view();
      to.data += begin * to.token_stride, to.tokens = end - begin;
      return attend.extend(of, rows.queries(begin, end), rows.kv(), kept.layer(end), to);
    };
    const auto goes_on = [&](state_on_chip<bfloat16>& of, index_t begin) {
      if (of.tokens() == 0) REQUIRE(extend(of, 0, begin) == status::ok);
      REQUIRE(of.tokens() == begin);
      REQUIRE(extend(of, begin, T) == status::ok);
      CHECK(same_bits(out.packed(), want));
    };
    const auto refused = [&](state_on_chip<bfloat16>& of) {
      const std::string answer = message(extend(of, of.tokens(), of.tokens() + 1));
      CHECK(std::string(message(of.replayed(0))) == answer);
      CHECK(std::string(message(of.fork(branch))) == answer);
      if (of.tokens() > 0) CHECK(std::string(message(of.truncate(1))) == answer);
      return answer == why;
    };
    REQUIRE(attend.reserve(state, T, 2, 1, 64, T) == status::ok);
    REQUIRE(extend(state, 0, before) == status::ok);
    REQUIRE(extend(shorter, 0, T) == status::ok);
    const status extended = simulator::with_requests(where, taken, [&] { return extend(state, before, T); });
    broken                = extended != status::ok;
    if (broken) {
      CHECK(extended == status::device_error);
      CHECK(refused(state));
      state.clear();
      REQUIRE(extend(state, 0, before) == status::ok);
    } else {
      REQUIRE(state.truncate(before) == status::ok);
    }

    if (simulator::with_requests(where, taken, [&] { return state.fork(shorter); }) != status::ok) {
      CHECK(refused(shorter));
      REQUIRE(state.fork(shorter) == status::ok);
    }
    if (simulator::with_requests(where, taken, [&] { return shorter.truncate(before - 7); }) != status::ok) {
      CHECK(refused(shorter));
      shorter.clear();
    }
    goes_on(shorter, before - 7);
    goes_on(state, before);
    simulator::with_requests(where, taken, [&] { state.clear(); });
    goes_on(state, before);
  }
  CHECK(taken > 12);
}

// The tokens of a sequence are those of all its heads: where one KV head cannot go on, none does.
TEST_CASE("hip states: after the selection of one KV head that failed nothing is written for any", "[hip]") {
  constexpr index_t       T = 64, heads = 3;
  const shape             size = {T, heads, heads, 64, 64};
  const problem<bfloat16> p(size, 8);
  const auto              failing = GENERATE(range(0, 3));
  const auto options = GENERATE(closed({.window = 8, .chunk = 8, .leaf = 3}), keyed({.leaf = 3, .tile = 4}));
  const auto chosen  = of_each_head(T, heads, 0.3, 8);
  CAPTURE(failing);
  const auto              want  = answers_of_one_call(options, p, chosen, simulator::steady(1)).rows;
  const simulator::stream where = simulator::steady(1);
  on_chip<bfloat16>       attend(options, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  coming_selections       kept(chosen);
  index_t&                count = kept.of_heads[static_cast<std::size_t>(failing)].count;
  device_heads<float>     out(T, heads, 64);
  const auto              extend = [&](index_t end, bool wrong = false) {
    auto          to    = out.view();
    const index_t begin = state.tokens();
    to.data += begin * to.token_stride, to.tokens = end - begin;
    rows.come(end);
    auto layers = kept.layers(end);
    if (wrong) layers[static_cast<std::size_t>(failing)].rep = nullptr;  // nobody reads it
    return attend.extend(state, rows.queries(begin, end), rows.kv(), layers, to);
  };
  REQUIRE(extend(40) == status::ok);
  count = -1;
  REQUIRE(extend(50, true) == status::ok);
  count = 1;
  REQUIRE(extend(52) == status::ok);
  CHECK(state.answer() == status::invalid_representatives);
  for (index_t t = 40; t < 52; ++t)
    for (index_t c = 0; c < heads * 64; ++c) REQUIRE(std::isnan(out.view().row(t, 0)[c]));
  REQUIRE(state.truncate(40) == status::ok);
  REQUIRE(extend(T) == status::ok);
  CHECK(state.answer() == status::ok);
  CHECK(same_bits(out.packed(), want));
}

TEST_CASE("hip states: selections of KV heads that are refused, each with its sentence", "[hip]") {
  constexpr index_t       T       = 40;
  const auto              options = closed({.window = 8, .chunk = 8, .leaf = 3});
  const problem<bfloat16> p({T, 3, 3, 64, 64}, 8);
  const coming_selections kept(of_each_head(T, 3, 0.3, 8));
  const simulator::stream where = simulator::steady(1);
  on_chip<bfloat16>       attend(options, where);
  state_on_chip<bfloat16> state(where);
  coming_rows<bfloat16>   rows(p);
  rows.come(T);
  const auto extend = [&](const std::vector<hip::selection_layer>& layers, index_t end) {
    const index_t       begin = state.tokens();
    device_heads<float> out(end - begin, 3, 64);
    return std::string(message(attend.extend(state, rows.queries(begin, end), rows.kv(), layers, out.view())));
  };
  const auto reserve = [&](index_t selections) {
    return std::string(message(attend.reserve(state, T, 3, 3, 64, 1, selections)));
  };
  const auto all = kept.layers(T);
  CHECK(extend({}, 5) == "selections is empty: options.keys == representatives and leaves need them");
  CHECK(extend({all[0], all[1]}, 5) == "selections has neither one nor one for each KV head");
  CHECK(reserve(2) == "selections is neither 1 nor kv_heads");
  CHECK(where.calls->launches == 0);
  REQUIRE(reserve(1) == "ok");
  REQUIRE(extend(all, 20) == "ok");  // makes room of its own
  const int launches = where.calls->launches;
  CHECK(extend({all[0]}, 21) == "selections has another number than before");
  CHECK(reserve(1) == "selections is another number than the state's");
  CHECK(extend({all[0], all[1], kept.layers(20)[2]}, T) == "selections has one that ends before the last chunk's edge");
  CHECK(where.calls->launches == launches);
  CHECK(extend(all, T) == "ok");
  state.clear();
  CHECK(extend({all[0]}, 20) == "ok");
  CHECK(extend(all, 21) == "selections has another number than before");

  // Where there are no leaves, nobody looks at selections.
  const std::vector<hip::selection_layer> nothing(3);
  on_chip<bfloat16>                       dense({.keys = key_set::all}, where);
  state_on_chip<bfloat16>                 other(where);
  device_heads<float>                     out(T, 3, 64);
  CHECK(dense.extend(other, rows.queries(0, T), rows.kv(), nothing, out.view()) == status::ok);
  CHECK(dense.reserve(other, T, 3, 3, 64, 1, 3) == status::ok);
  CHECK(other.answer() == status::ok);
}

// All layers of a step: each token is selected, and attends; all that changes are its rows.
TEST_CASE("hip states: a step through layers as a graph", "[hip]") {
  constexpr index_t       T = 90, prompt = 40, layers = 3, d = 16;
  const selection_options by_gram{.threshold = 0.6f};
  const attention_options options = closed({.window = 8, .chunk = 16, .leaf = 3});
  const shape             size    = {T, 2, 1, 64, 64};
  simulator::stream       where   = simulator::steady(3);
  on_chip<bfloat16>       attend(options, where), anew(options, simulator::steady(3));
  device_rows<bfloat16>   one(make_tokens<bfloat16>(kind::random, layers, d, 3));  // a row for each layer
  device_heads<bfloat16>  q(layers, 2, 64);
  device_heads<float>     out(layers, 2, 64), out_of_prompt(prompt, 2, 64);
  struct layer {
    device_rows<bfloat16>                          x;
    problem<bfloat16>                              p;
    std::unique_ptr<coming_rows<bfloat16>>         rows;
    growing_selection<bfloat16, simulator::stream> selection;
    state_on_chip<bfloat16>                        state;
    std::vector<float>                             want = {};
  };
  std::vector<layer> all;
  for (index_t l = 0; l < layers; ++l)
    all.push_back({device_rows<bfloat16>(make_tokens<bfloat16>(kind::clustered, T, d, 3, static_cast<unsigned>(l))),
                   problem<bfloat16>(size, static_cast<unsigned>(l)), nullptr,
                   growing_selection<bfloat16, simulator::stream>(by_gram, where), state_on_chip<bfloat16>(where)});
  const auto rows_of_layer = [](auto view, index_t begin, index_t end) {
    view.data += begin * view.stride, view.rows = end - begin;
    return view;
  };
  cascade<bfloat16, simulator::stream> walk(by_gram, simulator::steady(3));
  for (auto& own : all) {
    own.rows = std::make_unique<coming_rows<bfloat16>>(own.p);
    REQUIRE(walk.step(own.x.view()) == status::ok);
    device_heads<bfloat16> every(own.p.q.view()), k(own.p.k.view()), v(own.p.v.view());
    device_heads<float>    to(T, 2, 64);
    REQUIRE(anew(every.view(), strided_kv<bfloat16>{k.view(), v.view()}, walk.kept(), to.view()) == status::ok);
    own.want = to.packed();
  }
  hip::selection_layer below;
  for (auto& own : all) {
    REQUIRE(own.selection.reserve(T, d, prompt) == status::ok);
    REQUIRE(attend.reserve(own.state, T, 2, 1, 64, prompt) == status::ok);
    own.rows->come(prompt);
    REQUIRE(own.selection.extend(rows_of_layer(own.x.view(), 0, prompt), below) == status::ok);
    below = own.selection.kept();
    REQUIRE(attend.extend(own.state, own.rows->queries(0, prompt), own.rows->kv(), below, out_of_prompt.view()) ==
            status::ok);
    CHECK(same_bits(out_of_prompt.packed(), part_of(own.want, size.heads * size.value_dim, 0, prompt)));
  }
  const int              allocations = where.calls->allocations, launches = where.calls->launches;
  const simulator::graph step = simulator::capture(where, [&] {
    below = {};
    for (index_t l = 0; l < layers; ++l) {
      auto& own = all[static_cast<std::size_t>(l)];
      auto  to  = out.view();
      to.data += l * to.token_stride, to.tokens = 1;
      REQUIRE(own.selection.extend(rows_of_layer(one.view(), l, l + 1), below) == status::ok);
      below = own.selection.kept();
      REQUIRE(attend.extend(own.state, tests::rows_of(heads_view<const bfloat16>(q.view()), l, l + 1), own.rows->kv(),
                            below, to) == status::ok);
    }
  });
  CHECK(where.calls->launches == launches + layers * (5 + 7));
  for (index_t t = prompt; t < T; ++t) {
    CAPTURE(t);
    std::vector<float> want;
    for (index_t l = 0; l < layers; ++l) {
      auto& own = all[static_cast<std::size_t>(l)];
      own.rows->come(t + 1);
      std::copy_n(own.x.view().row(t), d, one.data() + l * one.view().stride);
      for (index_t h = 0; h < 2; ++h) std::copy_n(own.p.q.view().row(t, h), 64, q.view().row(l, h));
      const auto row = part_of(own.want, size.heads * size.value_dim, t, t + 1);
      want.insert(want.end(), row.begin(), row.end());
      if (t == prompt) continue;  // the host has counted the call that it captured
      REQUIRE(own.selection.replayed(1) == status::ok);
      REQUIRE(own.state.replayed(1) == status::ok);
    }
    step.replay();
    REQUIRE(same_bits(out.packed(), want));
  }
  CHECK(where.calls->allocations == allocations);
  CHECK(where.calls->waits == 0);
  for (auto& own : all) CHECK(own.state.answer() == status::ok);
}
