#pragma once
// Arguments of a call of attention, drawn from the bytes of a fuzzer: most often right ones.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "cascada/cascada.hpp"
#include "input.hpp"
#include "library/attention_data.hpp"

namespace fuzz {

using cascada::attention_options;
using cascada::heads_view;
using cascada::index_t;
using cascada::key_set;
using cascada::opening;
using cascada::query_set;
using cascada::status;
using tests::head_rows;
using tests::problem;
using tests::selection;
using tests::shape;

constexpr index_t most = std::numeric_limits<index_t>::max();

inline std::size_t place(index_t i) { return static_cast<std::size_t>(i); }

/// Numbers from a seed, where there are too many for a fuzzer to choose each.
class noise {
 public:
  explicit noise(std::uint32_t seed) : random_(seed) {}

  int below(int n) { return static_cast<int>(random_() >> 8) % n; }

  float any() { return std::bit_cast<float>(static_cast<std::uint32_t>(random_())); }

 private:
  std::minstd_rand random_;
};

/// Mostly one of a few values, else any.
template <class Value, std::size_t N>
Value one_of(input& bytes, const Value (&values)[N]) {
  const int choice = bytes.below(60);
  return choice == 59 ? bytes.take<Value>() : values[place(choice) % N];
}

template <class Value, std::size_t N>
Value any_of(input& bytes, const Value (&values)[N]) {
  return values[place(bytes.below(static_cast<int>(N)))];
}

/// Switches that may contradict each other.
inline void draw_switches(input& bytes, attention_options& options) {
  options.keys     = any_of(bytes, tests::every_key_set);
  options.queries  = any_of(bytes, tests::every_query_set);
  options.causal   = bytes.below(2) == 0;
  options.weighted = bytes.below(2) == 1;
  options.open     = any_of(bytes, tests::every_opening);
}

/// Sizes, mostly small ones that fit each other.
inline void draw_sizes(input& bytes, attention_options& options) {
  options.tile        = one_of<index_t>(bytes, {1, 2, 3, 4, 8, most});
  options.chunk       = options.tile < 1 || options.tile > 100 ? options.tile : options.tile * (1 + bytes.below(5));
  options.window      = one_of<index_t>(bytes, {0, 1, 2, 5, 16, most});
  options.sink_tokens = one_of<index_t>(bytes, {0, 1, 2, 7, most});
  options.leaf        = one_of<index_t>(bytes, {1, 2, 3, 16, most});
  options.moments     = one_of<index_t>(bytes, {1, 2, 3, 8, most});
  if (bytes.below(3) == 2) options.moments = std::nullopt;
}

/// A mode of the tests, and what the fuzzer makes of it.
inline attention_options draw_options(input& bytes) {
  attention_options options = tests::modes[place(bytes.below(static_cast<int>(tests::modes.size())))].options;
  if (bytes.below(16) == 15) draw_switches(bytes, options);
  if (bytes.below(8) != 0) {
    draw_sizes(bytes, options);
    options.leaves         = any_of(bytes, tests::every_leaf_formation);
    options.leaf_threshold = one_of<float>(bytes, {0.7f, 0.3f, 0.1f, 1.0f, 0x1p-149f});
    options.open_above     = one_of<float>(bytes, {0.01f, 0.05f, 0.2f, 0.5f, 1e-20f, 0x1p-149f});
  }
  if (bytes.below(16) == 15) options.chunk = one_of<index_t>(bytes, {1, 5, 32, most});
  if (bytes.below(4) == 3) options.scale = one_of<float>(bytes, {1.0f, 0.1f, 0.01f, 3.0f, 1e-30f, 2.3e38f});
  return options;
}

/// Small numbers and copies of earlier rows; if not `tame`, also powers of two at both ends of the range, and any bits.
template <class Scalar>
head_rows<Scalar> draw_rows(noise& random, const shape& s, index_t heads, index_t dim, index_t padding, bool tame) {
  constexpr float   units[] = {1, 1, 0x1p-30f, 0x1p-149f, 0x1p30f, 0x1p63f, 0x1p100f, 0x1p125f};
  head_rows<Scalar> rows(s.tokens, heads, dim, padding);
  const auto        view = rows.view();
  for (index_t t = 0; t < s.tokens; ++t) {
    const int     way  = random.below(8);
    const float   unit = tame ? 1.0f : units[random.below(8)];
    const index_t like = t > 0 ? random.below(t) : 0;
    for (index_t h = 0; h < heads; ++h)
      for (index_t c = 0; c < dim; ++c) {
        float value = unit * static_cast<float>(random.below(17) - 8) / 4;
        if (way < 2 && t > 0) value = cascada::to_float(view.row(like, h)[c]) + (way == 1 && c == 0 ? 0.25f : 0.0f);
        if (way == 3) value = 0;
        if (way == 4 && !tame && random.below(40) == 0) value = random.any();
        view.row(t, h)[c] = cascada::from_float<Scalar>(value);
      }
  }
  return rows;
}

template <class Scalar>
problem<Scalar> draw_problem(noise& random, const shape& s, index_t padding, bool tame) {
  problem<Scalar> drawn({0, 1, 1, 1, 1}, 1);
  drawn.size = s;
  drawn.q    = draw_rows<Scalar>(random, s, s.heads, s.key_dim, padding, tame);
  drawn.k    = draw_rows<Scalar>(random, s, s.kv_heads, s.key_dim, padding, tame);
  drawn.v    = draw_rows<Scalar>(random, s, s.kv_heads, s.value_dim, padding, tame);
  return drawn;
}

/// Writes something into a selection, or changes the length of its lists.
inline void spoil(input& bytes, selection& drawn, index_t tokens) {
  for (auto* list : {&drawn.rep, &drawn.indices, &drawn.counts}) {
    if (!list->empty() && bytes.below(3) == 0)
      (*list)[place(bytes.below(static_cast<int>(list->size())))] = bytes.take<std::int8_t>();
    if (bytes.below(8) == 0) list->resize(place(bytes.below(tokens + 2)));
  }
}

/// Most often legal.
inline selection draw_selection(input& bytes, noise& random, index_t tokens) {
  std::vector<index_t> rep, members;
  const int            rare = 1 + bytes.below(12);
  for (index_t t = 0; t < tokens; ++t) {
    const bool begins = members.empty() || random.below(rare) == 0;
    if (begins) members.push_back(t);
    rep.push_back(begins ? t : members[place(random.below(static_cast<int>(members.size())))]);
  }
  selection drawn(rep);
  if (bytes.below(32) == 31) spoil(bytes, drawn, tokens);
  return drawn;
}

/// None; or offsets from 0 to `tokens`, and now and then others.
inline std::vector<index_t> draw_offsets(input& bytes, index_t tokens) {
  if (bytes.below(3) != 2) return {};
  std::vector<index_t> offsets = {0};
  for (int cuts = bytes.below(4); cuts > 0; --cuts) offsets.push_back(bytes.below(tokens + 1));
  std::sort(offsets.begin(), offsets.end());
  offsets.push_back(tokens);
  if (bytes.below(16) == 15) offsets[place(bytes.below(static_cast<int>(offsets.size())))] = bytes.take<std::int8_t>();
  return offsets;
}

/// Keys and values in one of the three layouts.
template <class Scalar>
struct any_kv {
  using scalar                               = Scalar;
  int                                  which = 0;
  cascada::strided_kv<Scalar>          strided;
  cascada::transposed_value_kv<Scalar> transposed;
  cascada::paged_kv<Scalar>            paged;

  template <class Function>
  auto with(const Function& function) const {
    return which == 0 ? function(strided) : which == 1 ? function(transposed) : function(paged);
  }
  index_t tokens() const {
    return with([](const auto& kv) { return kv.tokens(); });
  }
  index_t kv_heads() const {
    return with([](const auto& kv) { return kv.kv_heads(); });
  }
  index_t key_dim() const {
    return with([](const auto& kv) { return kv.key_dim(); });
  }
  index_t value_dim() const {
    return with([](const auto& kv) { return kv.value_dim(); });
  }
  cascada::strided_row<Scalar> key(index_t t, index_t h) const {
    return with([&](const auto& kv) { return kv.key(t, h); });
  }
  cascada::strided_row<Scalar> value(index_t t, index_t h) const {
    return with([&](const auto& kv) { return kv.value(t, h); });
  }
  status check() const {
    return with([](const auto& kv) { return kv.check(); });
  }
};

template <class Scalar>
any_kv<Scalar> strided(const problem<Scalar>& rows) {
  return {0, rows.kv(), {}, {}};
}

/// A call's arguments, but for the output.
template <class Scalar>
struct call {
  attention_options              options;
  std::vector<index_t>           offsets;
  noise                          random;
  problem<Scalar>                rows;
  tests::transposed_copy<Scalar> transposed;
  tests::paged_copy<Scalar>      paged;
  std::vector<selection>         selections;

  call(input& bytes, const shape& size, bool tame)
      : options(draw_options(bytes)),
        offsets(draw_offsets(bytes, size.tokens)),
        random(bytes.take<std::uint32_t>()),
        rows(draw_problem<Scalar>(random, size, bytes.below(4), tame)),
        transposed(rows),
        paged(rows, 1 + bytes.below(8)) {
    draw_selections(bytes);
  }

  /// One for each sequence, or for each of its KV heads; now and then another number of them.
  void draw_selections(input& bytes) {
    const auto edge     = edges();
    const bool per_head = bytes.below(2) == 1;
    for (std::size_t s = 0; s + 1 < edge.size(); ++s)
      for (index_t h = 0; h < (per_head ? rows.size.kv_heads : 1); ++h)
        selections.push_back(draw_selection(bytes, random, std::max(0, edge[s + 1] - edge[s])));
    if (bytes.below(64) == 63) selections.resize(place(bytes.below(6)), selection({}));
  }

  heads_view<const Scalar> q() const { return q(0, rows.size.tokens); }
  heads_view<const Scalar> q(index_t first, index_t end) const {
    auto part = rows.q.view();
    part.data += first * part.token_stride, part.tokens = end - first;
    return part;
  }

  any_kv<Scalar> kv(int layout) const { return {layout, rows.kv(), transposed.view, paged.view}; }

  std::vector<cascada::representatives> selected() const { return tests::views(selections); }

  /// Where sequences begin and end.
  std::vector<index_t> edges() const { return offsets.empty() ? std::vector<index_t>{0, rows.size.tokens} : offsets; }

  bool far() const { return cascada::detail::kinds_of(options.keys).far_field; }
  bool by_mass() const { return cascada::detail::opens_by_mass(options); }
  bool selects() const { return cascada::needs_selections(options); }

  /// Whether attention should accept it.
  bool right() const {
    const auto edge = edges();
    if (check(options) != status::ok) return false;
    if (edge.front() != 0 || edge.back() != rows.size.tokens || !std::is_sorted(edge.begin(), edge.end())) return false;
    return !selects() || right_selections(edge);
  }

  bool right_selections(const std::vector<index_t>& edge) const {
    const std::size_t sequences = edge.size() - 1, count = selections.size();
    if (count != sequences && count != sequences * place(rows.size.kv_heads)) return false;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t s = i / (count / sequences);
      if (check(selections[i].view(), edge[s + 1] - edge[s]) != status::ok) return false;
    }
    return true;
  }
};

}  // namespace fuzz
