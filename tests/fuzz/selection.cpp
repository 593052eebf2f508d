// Selection and cascade on any rows, options and inherited states: every path gives the reference's set, also in
// pieces, and a refusal leaves the state as it was.

#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "input.hpp"
#include "library/saved_bytes.hpp"
#include "library/tokens.hpp"

using namespace cascada;
using fuzz::require;
using tests::owned_representatives;

namespace {

using serial = cpu<compiled_isa, serial_executor>;

/// Small integers and copies of earlier rows make ties, zeros and duplicates; powers of two reach both ends of the
/// range.
template <class Scalar>
tests::token_rows<Scalar> draw_rows(fuzz::input& bytes, index_t T, index_t d) {
  constexpr float units[] = {1, 1, 0x1p-30f, 0x1p-29f, 0x1p-31f, 0x1p-149f, 0x1p30f, 0x1p61f, 0x1p63f, 0x1p-10f};
  tests::token_rows<Scalar> rows(T, d, bytes.below(4), bytes.below(3));
  for (index_t i = 0; i < T; ++i) {
    const int     way  = bytes.below(8);
    const float   unit = units[bytes.below(10)];
    const index_t like = i > 0 ? bytes.below(i) : 0;
    for (index_t k = 0; k < d; ++k) {
      float value = unit * static_cast<float>(bytes.below(9) - 4);
      if (way < 3 && i > 0) value = rows.get(like, k) * (way == 0 ? 1.0f : unit) + (way == 2 && k == 0 ? unit : 0.0f);
      if (way == 3) value = unit * static_cast<float>(bytes.take<std::int16_t>());
      if (way == 4) value = 0;
      if (way == 5 && bytes.below(8) == 0) value = bytes.take<float>();
      rows.set(i, k, value);
    }
  }
  return rows;
}

/// Most often legal; else anything.
owned_representatives draw_state(fuzz::input& bytes, index_t T) {
  owned_representatives state;
  const bool            legal = bytes.below(4) != 0;
  for (index_t i = 0; i < T; ++i) {
    const auto members = static_cast<int>(state.indices.size());
    if (legal && members > 0 && bytes.below(3) != 0) {
      const auto choice = static_cast<std::size_t>(bytes.below(members));
      state.rep.push_back(state.indices[choice]);
      ++state.counts[choice];
    } else {
      state.rep.push_back(legal ? i : bytes.take<std::int8_t>());
      state.indices.push_back(legal ? i : bytes.take<std::int8_t>());
      state.counts.push_back(legal ? 1 : bytes.take<std::int8_t>());
    }
  }
  if (!legal && T > 0) state.indices.resize(static_cast<std::size_t>(bytes.below(T + 1)));
  return state;
}

selection_options draw_options(fuzz::input& bytes, index_t T) {
  constexpr float thresholds[] = {1, 0.9f, 0.8f, 0.5f, 0.25f, 0.1f, 0x1p-20f, 0x1p-90f};
  const int       tau          = bytes.below(9);
  return {.threshold           = tau < 8 ? thresholds[tau] : bytes.take<float>(),
          .assign              = bytes.below(2) ? assignment::nearest : assignment::lowest_index,
          .validate            = bytes.below(3) == 0 ? validation::cross_gram : validation::exact,
          .max_representatives = bytes.below(4) == 0 ? bytes.below(T + 2) : no_limit,
          .filter              = tests::all_filters[bytes.below(5)]};
}

/// As bytes and back; other bytes are refused, or give a selection that is none the worse for it.
template <class Scalar>
void through_bytes(fuzz::input& bytes, const selection_options& options, matrix_view<const Scalar> next,
                   growing_selection<Scalar, serial>& grow) {
  const auto                        saved = tests::bytes_of(grow);
  growing_selection<Scalar, serial> other(options), strange(options);
  require(other.load(saved) == status::ok &&
          owned_representatives::of(other.kept()) == owned_representatives::of(grow.kept()));
  require(tests::bytes_of(other) == saved);
  std::minstd_rand random(bytes.take<std::uint32_t>());
  const status     answer = strange.load(tests::made_up(saved, tests::header_bytes, random));
  require(check(strange.kept(), strange.kept().tokens()) == status::ok);
  require(answer == status::ok || strange.kept().tokens() == 0);
  if (strange.extend(next) == status::ok) require(check(strange.kept(), strange.kept().tokens()) == status::ok);
  grow = std::move(other);
}

/// Grows in pieces, now and then cut back or saved, to what one call gives; none: one call is refused.
template <class Scalar>
void in_pieces(fuzz::input& bytes, const selection_options& options, matrix_view<const Scalar> x,
               std::span<const index_t> below, const std::optional<owned_representatives>& expected) {
  growing_selection<Scalar, serial> grow(options);
  while (grow.kept().tokens() < x.rows) {
    if (bytes.below(4) == 3) through_bytes(bytes, options, x, grow);
    const auto    before = owned_representatives::of(grow.kept());
    const index_t begin = grow.kept().tokens(), count = 1 + bytes.below(x.rows - begin);
    const auto    some =
        below.empty() ? below : below.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    if (grow.extend({x.row(begin), count, x.cols, x.stride}, some) != status::ok)
      return require(!expected && owned_representatives::of(grow.kept()) == before);
    if (bytes.below(4) == 3) require(grow.truncate(bytes.below(begin + count + 1)) == status::ok);
  }
  require(expected && owned_representatives::of(grow.kept()) == *expected);
}

template <class Scalar>
void run(fuzz::input& bytes, index_t T, index_t d) {
  const selection_options options = draw_options(bytes, T);
  const auto              state   = draw_state(bytes, T);
  const auto              rows    = draw_rows<Scalar>(bytes, T, d);
  const auto              x       = rows.view();

  selector<Scalar, serial> select(options), literal(options);
  cascade<Scalar, serial>  walk(options), fresh(options);
  const status             answer    = select(x);
  const bool               ok        = answer == status::ok;
  const bool               inherited = walk.inherit(state.view()) == status::ok;
  require(inherited == (check(state.view(), T) == status::ok));
  const auto before = owned_representatives::of(walk.kept());
  require((literal.literal(x) == status::ok) == ok);
  require((fresh.step(x) == status::ok) == ok);
  require((walk.step(x) == status::ok) == ok);
  if (!ok) {
    require(owned_representatives::of(walk.kept()) == before);
    require(select.kept().tokens() == 0 && literal.kept().tokens() == 0 && fresh.kept().tokens() == 0);
    if (T > 0) in_pieces(bytes, options, x, {}, {});
    return;
  }

  const auto full = reference::select(x, options);
  require(check(select.kept(), T) == status::ok && check(walk.kept(), T) == status::ok);
  require(owned_representatives::of(select.kept()) == owned_representatives::of(full.view()) &&
          owned_representatives::of(literal.kept()) == owned_representatives::of(full.view()));
  require(owned_representatives::of(fresh.kept()) == owned_representatives::of(full.view()) &&
          select.report().gram == full.report.gram);
  const auto step = inherited ? reference::cascade(x, state.view(), options) : full;
  require(owned_representatives::of(walk.kept()) == owned_representatives::of(step.view()) &&
          step.indices == full.indices);
  require(walk.report().gram == step.report.gram);
  in_pieces(bytes, options, x, {}, owned_representatives::of(select.kept()));
  if (inherited && options.validate == validation::exact)
    in_pieces(bytes, options, x, state.view().rep, owned_representatives::of(walk.kept()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input   bytes(data, size);
  const int     kind = bytes.below(8);
  const index_t T = bytes.below(kind == 0 ? 90 : 24), d = 1 + bytes.below(kind == 1 ? 100 : 12);
  const int     scalar = bytes.below(4);
  if (scalar < 2) run<float>(bytes, T, d);
  if (scalar == 2) run<bfloat16>(bytes, T, d);
  if (scalar == 3) run<float16>(bytes, T, d);
  return 0;
}
