// Attention on any rows, layouts, offsets, selections and options. A call that is not right is refused and leaves
// output and state as they were. One that is right gives the same bits in every layout, on any number of threads, after
// any other call and in pieces; later tokens change nothing before them; where logits are small, results and counts are
// the reference's.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "attention_call.hpp"
#include "attention_reference.hpp"
#include "cascada/cascada.hpp"
#include "library/saved_bytes.hpp"

using namespace cascada;
using fuzz::any_kv;
using fuzz::place;
using fuzz::require;
using tests::problem;
using tests::selection;
using tests::shape;

namespace {

using B = cpu<compiled_isa, pool_executor<compiled_isa>>;

B threads(index_t count) {
  static thread_pool<compiled_isa> one(1), three(3);
  return {{count == 1 ? &one : &three}};
}

/// Rows of results among memory of others.
template <class Out>
class output {
 public:
  output(const shape& s, index_t padding)
      : size_(s),
        stride_(std::int64_t{s.heads} * (s.value_dim + padding) + padding),
        padding_(padding),
        memory_(1 + static_cast<std::size_t>(stride_) * place(s.tokens), from_float<Out>(canary)) {}

  heads_view<Out> view() { return view(0, size_.tokens); }
  heads_view<Out> view(index_t first, index_t end) {
    Out* const data = memory_.data() + 1 + first * stride_;
    return {data, end - first, size_.heads, size_.value_dim, stride_, size_.value_dim + padding_};
  }

  /// Takes the results of tokens [first, end), packed. All else is as it was.
  std::vector<float> take(index_t first, index_t end) {
    std::vector<float> results;
    const auto         rows = view();
    for (index_t t = first; t < end; ++t)
      for (index_t h = 0; h < size_.heads; ++h)
        for (index_t c = 0; c < size_.value_dim; ++c)
          results.push_back(to_float(std::exchange(rows.row(t, h)[c], from_float<Out>(canary))));
    require(untouched());
    return results;
  }
  std::vector<float> take() { return take(0, size_.tokens); }

  bool untouched() const {
    return std::all_of(memory_.begin(), memory_.end(), [](const Out& x) { return to_float(x) == canary; });
  }

 private:
  static constexpr float canary = 42;

  shape            size_;
  std::int64_t     stride_;
  index_t          padding_;
  std::vector<Out> memory_;
};

/// NaN of any kind is as good as another.
bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

/// One call of attention and others that are to agree with it.
template <class Scalar, class Out>
class trial {
  using attend_type = attention<Scalar, B>;
  using state_type  = attention_state<Scalar, B>;

 public:
  trial(fuzz::input& bytes, const shape& size, bool tame)
      : bytes_(bytes), tame_(tame), call_(bytes, size, tame), out_(size, bytes.below(4)) {}

  void run() {
    const any_kv<Scalar> kv = call_.kv(bytes_.below(3));
    attend_type          attend(call_.options, threads(bytes_.below(4) == 0 ? 3 : 1));
    one_wrong_argument(attend, kv);
    if (!first_call(attend, kv)) return;
    check_report();
    if (T() == 0) return;
    later_tokens(attend);
    again(attend, kv);
    attend_type other(call_.options, threads(1));
    again(other, call_.kv((kv.which + 1 + bytes_.below(2)) % 3));
    if (sequences() == 1) last_queries(other, kv), in_pieces(kv);
    if (tame_ && T() <= 60) fuzz::compare_with_reference<kernel::operand_of<Scalar, B>, Out>(call_, result_, report_);
  }

 private:
  index_t     T() const { return call_.rows.size.tokens; }
  std::size_t row(index_t t) const { return tests::row_of(call_.rows.size, t); }
  std::size_t sequences() const { return call_.edges().size() - 1; }

  /// Of `results`, which begin with those of token `first`, tokens [begin, end) have what they had in the first call.
  void expect_rows(const std::vector<float>& results, index_t first, index_t begin, index_t end) const {
    require(results.size() >= row(end) - row(first));
    for (std::size_t i = row(begin); i < row(end); ++i) require(same(results[i - row(first)], result_[i]));
  }

  static void require_refusal(const status& answer) { require(answer != status::ok && message(answer)[0] != '\0'); }

  /// Makes one argument wrong, unless nobody looks at it: false.
  bool spoil(int way, heads_view<const Scalar>& q, any_kv<Scalar>& kv, heads_view<Out>& out,
             std::vector<index_t>& table) {
    constexpr auto far_apart = std::numeric_limits<std::int64_t>::max() / 2;
    const shape&   s         = call_.rows.size;
    switch (way) {
      case 0: return ++out.tokens, true;
      case 1: return ++q.heads, true;
      case 2: return q.data = nullptr, s.tokens > 0;
      case 3: return q.token_stride = far_apart, s.tokens > 0;
      case 4: return out.head_stride = s.value_dim - 1, s.tokens > 0 && s.heads > 1;
      case 5: return ++kv.strided.keys.dim, ++kv.transposed.keys.dim, ++kv.paged.keys.dim, s.tokens > 0;
      case 6: return kv.transposed.dim_stride = s.tokens - 1, kv.which == 1 && s.tokens > 0 && s.value_dim > 1;
      default: break;
    }
    if (table.empty()) return false;
    kv.paged.block_table = table;
    if (way == 7) return kv.paged.block_table = kv.paged.block_table.first(table.size() - 1), kv.which == 2;
    table[place(bytes_.below(static_cast<int>(table.size())))] = way == 8 ? -1 : kv.paged.keys.tokens;
    return kv.which == 2;
  }

  void one_wrong_argument(attend_type& attend, any_kv<Scalar> kv) {
    auto                 q     = call_.q();
    auto                 out   = out_.view();
    std::vector<index_t> table = call_.paged.blocks.table;
    if (!spoil(bytes_.below(10), q, kv, out, table)) return;
    require_refusal(attend(q, kv, call_.selected(), out, {.query_offsets = call_.offsets}));
    require(out_.untouched());
  }

  /// The call that all others are compared with; false: it is refused, as it should be.
  bool first_call(attend_type& attend, const any_kv<Scalar>& kv) {
    const status answer = attend(call_.q(), kv, call_.selected(), out_.view(), {.query_offsets = call_.offsets});
    require((answer == status::ok) == call_.right());
    if (answer != status::ok) {
      require_refusal(answer);
      require(out_.untouched() && attend.report() == attention_report{});
      return false;
    }
    result_ = out_.take(), report_ = attend.report();
    return true;
  }

  void check_report() const {
    const auto   edge = call_.edges();
    std::int64_t keys = 0;
    for (std::size_t s = 0; s + 1 < edge.size(); ++s) {
      const std::int64_t n = edge[s + 1] - edge[s];
      keys += call_.options.causal ? n * (n + 1) / 2 : n * n;
    }
    const std::int64_t kv_heads = call_.rows.size.kv_heads;
    require(report_.rows == kv_heads * T() && report_.dense_keys == kv_heads * keys);
    require(0 <= report_.near_keys && report_.near_keys + report_.opened <= report_.dense_keys);
    require(0 <= report_.leaves && report_.near_keys + report_.leaves <= report_.dense_keys);
    require(0 <= report_.opened && report_.opened <= report_.computed);
    require(call_.by_mass() || report_.computed == 0);
    require(0 <= report_.far_rows && report_.far_rows <= report_.rows);
    require(0 <= report_.mass && report_.mass <= 1.001 * static_cast<double>(report_.far_rows));
  }

  /// The same call once more.
  void again(attend_type& attend, const any_kv<Scalar>& kv) {
    require(attend(call_.q(), kv, call_.selected(), out_.view(), {.query_offsets = call_.offsets}) == status::ok);
    require(attend.report() == report_);
    expect_rows(out_.take(), 0, 0, T());
  }

  /// Rows from some token to the end of its sequence change: rows before it do not, nor other sequences.
  void later_tokens(attend_type& attend) {
    constexpr float odd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f,
                             -3};
    const auto      edge  = call_.edges();
    const index_t   t     = bytes_.below(T());
    const auto      next  = std::upper_bound(edge.begin(), edge.end(), t);
    const index_t   end = *next, begin = call_.options.causal ? t : *(next - 1);
    const float     unit    = odd[bytes_.below(4)];
    problem<Scalar> changed = call_.rows;
    for (auto* rows : {&changed.q, &changed.k, &changed.v})
      for (index_t i = begin; i < end; ++i)
        for (index_t h = 0; h < rows->view().heads; ++h)
          for (index_t c = 0; c < rows->view().dim; ++c)
            rows->view().row(i, h)[c] = from_float<Scalar>(unit * static_cast<float>(1 + (i + c) % 3));
    require(attend(std::as_const(changed.q).view(), fuzz::strided(changed), call_.selected(), out_.view(),
                   {.query_offsets = call_.offsets}) == status::ok);
    const auto results = out_.take();
    expect_rows(results, 0, 0, begin), expect_rows(results, 0, end, T());
  }

  /// Only the last queries, without what earlier calls knew.
  void last_queries(attend_type& attend, const any_kv<Scalar>& kv) {
    const auto&   options = call_.options;
    const index_t first   = bytes_.below(T());
    const bool    begins  = first == 0 || (options.keys != key_set::representatives &&
                                       (options.queries != query_set::grouped || first % options.chunk == 0) &&
                                       (!call_.by_mass() || first % options.tile == 0));
    const status  answer  = attend(call_.q(first, T()), kv, call_.selected(), out_.view(first, T()));
    require((answer == status::ok) == begins);
    if (!begins) return require(out_.untouched());
    expect_rows(out_.take(first, T()), first, first, T());
  }

  /// As a sequence that grows, is cut back, and grows again.
  void in_pieces(const any_kv<Scalar>& kv) {
    attend_type attend(call_.options, threads(1));
    state_type  state = fresh_state();
    bool        whole = true;  // nothing was cut off so far
    for (int pieces = 3 + bytes_.below(6); pieces > 0 && state.tokens() < T(); --pieces) {
      const index_t end = state.tokens() + 1 + bytes_.below(T() - state.tokens());
      if (!extend(attend, state, kv, end)) return;
      if (bytes_.below(4) == 3) refused_extension(state, end);
      if (bytes_.below(4) == 3) state = state_type(state);
      if (bytes_.below(4) == 3) through_bytes(attend, state, kv);
      if (bytes_.below(8) == 7) state.reserve(bytes_.below(200));
      if (bytes_.below(4) == 3) truncate(state, std::exchange(whole, false));
    }
  }

  /// As bytes and back; other bytes are refused, or give a state with which calls are as safe.
  void through_bytes(attend_type& attend, state_type& state, const any_kv<Scalar>& kv) {
    const auto saved = tests::bytes_of(state);
    state_type other = fresh_state(), strange;
    require(attend.load(other, kv, saved) == status::ok && tests::bytes_of(other) == saved);
    std::minstd_rand random(bytes_.take<std::uint32_t>());
    const status     answer = attend.load(strange, kv, tests::made_up(saved, tests::header_bytes, random));
    require(answer == status::ok || strange.tokens() == 0);
    const index_t begin = strange.tokens();
    if (attend.extend(strange, call_.q(begin, T()), kv, call_.selected(), out_.view(begin, T())) == status::ok)
      out_.take(begin, T());
    state = std::move(other);
  }

  /// Of a state that has served another sequence, of another shape and with other options, nothing is left.
  state_type fresh_state() {
    state_type state;
    if (bytes_.below(4) != 3) return state;
    const index_t            kv_heads = 1 + bytes_.below(4);
    const problem<Scalar>    p({20, kv_heads, kv_heads, 5, 3}, 1);
    const std::vector        kept(place(kv_heads), tests::identity_selection(20));
    tests::head_rows<Scalar> out(20, kv_heads, 3);
    attend_type              attend({.window = 3, .chunk = 4, .sink_tokens = 0, .leaf = 2, .tile = 2}, threads(1));
    require(attend.extend(state, std::as_const(p.q).view(), fuzz::strided(p), tests::views(kept), out.view()) ==
            status::ok);
    state.clear();
    require(state.tokens() == 0 && state.bytes() == 0);
    return state;
  }

  /// False: the mode does not grow, and the call is refused.
  bool extend(attend_type& attend, state_type& state, const any_kv<Scalar>& kv, index_t end) {
    const auto&   options = call_.options;
    const index_t begin   = state.tokens();
    const bool    grows =
        options.keys != key_set::representatives && options.causal && options.queries != query_set::grouped;
    const status answer = attend.extend(state, call_.q(begin, end), kv, call_.selected(), out_.view(begin, end));
    require((answer == status::ok) == grows);
    require(state.tokens() == (grows ? end : begin));
    if (!grows) return require(out_.untouched()), false;
    expect_rows(out_.take(begin, end), begin, begin, end);
    return true;
  }

  /// After `end` tokens, with other options or too few keys.
  void refused_extension(state_type& state, index_t end) {
    if (end == T()) return;
    attention_options options = call_.options;
    any_kv<Scalar>    kv      = fuzz::strided(call_.rows);
    if (bytes_.below(2) == 0)
      options.leaf = options.leaf == 1 ? 2 : 1;
    else
      kv.strided.keys.tokens = kv.strided.values.tokens = T() - 1;
    attend_type attend(options, threads(1));
    require_refusal(attend.extend(state, call_.q(end, T()), kv, call_.selected(), out_.view(end, T())));
    require(state.tokens() == end && out_.untouched());
  }

  /// Back into the last two tiles at least, if the state is still whole.
  void truncate(state_type& state, bool whole) {
    const index_t end = state.tokens(), back = bytes_.below(end + 1), tile = call_.options.tile;
    const status  answer = state.truncate(back);
    if (answer != status::ok) {
      require_refusal(answer);
      require(call_.by_mass() && back % tile != 0 && !(whole && back / tile + 1 >= (end - 1) / tile));
    }
    require(state.tokens() == (answer == status::ok ? back : end));
  }

  fuzz::input&       bytes_;
  bool               tame_;
  fuzz::call<Scalar> call_;
  output<Out>        out_;
  std::vector<float> result_;
  attention_report   report_;
};

template <class Scalar, class Out = Scalar>
void run(fuzz::input& bytes) {
  const int     kind = bytes.below(16), kv_heads = 1 + bytes.below(3), group = 1 + bytes.below(kind == 2 ? 20 : 3);
  const int     tokens = bytes.below(kind == 3 ? 160 : 34), dims = kind == 1 ? 70 : 20;
  const index_t key_dim = 1 + bytes.below(dims), value_dim = 1 + bytes.below(dims);
  const bool    tame = bytes.below(2) == 0;
  trial<Scalar, Out>(bytes, {tokens, kv_heads * group, kv_heads, key_dim, value_dim}, tame).run();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input bytes(data, size);
  switch (bytes.below(4)) {
    case 0: run<float>(bytes); break;
    case 1: run<bfloat16>(bytes); break;
    case 2: run<bfloat16, float>(bytes); break;
    default: run<float16>(bytes); break;
  }
  return 0;
}
