// Selections that grow on the simulated gfx942, however they are cut into calls, against the CPU's: set, rep, counts
// and Gram operations of each call, and the set of one selection of all tokens.

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cascada/cascada.hpp"
#include "cascada/hip.hpp"
#include "catch.hpp"
#include "hip/chip.hpp"
#include "hip/selection_data.hpp"
#include "library/tokens.hpp"
#include "sample.hpp"

using namespace cascada;
using tests::check_same;
using tests::device_rows;
using tests::kind;
using tests::make_tokens;
using tests::sample;
using tests::to_vector;

namespace {

template <class Scalar>
using on_chip = growing_selection<Scalar, simulator::stream>;

const std::vector<unsigned> seeds_of_cuts = {1, 2};

/// Rows [begin, end).
template <class Scalar>
matrix_view<const Scalar> piece_of(device_rows<Scalar>& all, index_t begin, index_t end) {
  auto x = all.view();
  x.data += begin * x.stride, x.rows = end - begin;
  return x;
}

/// Sizes of calls: single tokens, those at the edges of blocks and stretches, and others.
std::vector<index_t> random_cuts(index_t T, unsigned seed) {
  std::mt19937         random(seed);
  const index_t        usual[] = {1, 1, 2, 31, 32, 63, 64, 65, 255, 256, 257};
  std::vector<index_t> cuts;
  for (index_t left = T; left > 0; left -= cuts.back()) {
    const index_t size = random() % 3 == 0 ? 1 + static_cast<index_t>(random() % 200) : usual[random() % 11];
    cuts.push_back(std::min(left, size));
  }
  return cuts;
}

/// A set of the chip against that of a call of the CPU.
template <class Scalar>
void compare(const on_chip<Scalar>& grown, const growing_selection<Scalar>& want) {
  hip::downloaded_selection got;
  REQUIRE(grown.download(got) == status::ok);
  check_same(got, want.kept(), want.report());
}

/// Layers of one sequence, whose pieces pass through all of them one after the other, as an engine's do.
template <class Scalar>
void compare_layers(kind k, index_t T, index_t d, selection_options options, unsigned seed, unsigned depth,
                    const std::vector<index_t>& cuts) {
  std::vector<device_rows<Scalar>>       layers;
  std::vector<growing_selection<Scalar>> want;
  std::vector<on_chip<Scalar>>           grown;
  for (unsigned l = 0; l < depth; ++l) {
    layers.emplace_back(make_tokens<Scalar>(k, T, d, seed, l));
    want.emplace_back(options);
    grown.emplace_back(options, simulator::seeded(seed + l));
  }
  index_t begin = 0;
  for (const index_t size : cuts) {
    CAPTURE(begin, size);
    std::span<const index_t> below;
    for (unsigned l = 0; l < depth; ++l) {
      CAPTURE(l);
      const auto x = piece_of(layers[l], begin, begin + size);
      REQUIRE(want[l].extend(x, below) == status::ok);
      REQUIRE(grown[l].extend(x, l > 0 ? grown[l - 1].kept() : hip::selection_layer{}) == status::ok);
      compare(grown[l], want[l]);
      below = want[l].kept().rep.subspan(static_cast<std::size_t>(begin));
    }
    begin += size;
  }
  cascade<Scalar>           walk(options);
  hip::downloaded_selection got;
  for (unsigned l = 0; l < depth; ++l) {
    REQUIRE(walk.step(layers[l].view()) == status::ok);
    REQUIRE(grown[l].download(got) == status::ok);
    CHECK(got == tests::owned_representatives::of(walk.kept()));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("hip growing: layer by layer, however it is cut", "[hip]", bfloat16, float16) {
  const auto     k      = GENERATE(kind::clustered, kind::duplicates, kind::zero_rows);
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds_of_cuts)));
  CAPTURE(k, static_cast<int>(assign), seed);
  compare_layers<TestType>(k, 330, 16, {.threshold = 0.6f, .assign = assign}, seed, 3, random_cuts(330, seed));
}

TEST_CASE("hip growing: pieces at the edges of blocks and stretches", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const index_t  first  = GENERATE(63, 64, 65, 255, 256, 257, 511, 512, 513);
  const unsigned seed   = static_cast<unsigned>(first);
  CAPTURE(static_cast<int>(assign), first);
  const std::vector<index_t> cuts = {first, 1, 64, 257};
  compare_layers<bfloat16>(kind::clustered, first + 322, 16, {.threshold = 0.7f, .assign = assign}, seed, 2, cuts);
}

// More than a panel of them, so that there are parts; single tokens meet one panel in each.
TEST_CASE("hip growing: more representatives than a panel", "[hip]") {
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto k      = GENERATE(kind::random, kind::clustered);
  CAPTURE(k, static_cast<int>(assign));
  const std::vector<index_t> cuts = {400, 300, 1, 1, 33, 1, 97, 2};
  compare_layers<bfloat16>(k, 835, 24, {.threshold = 0.75f, .assign = assign}, 7, 2, cuts);
}

// Copies of tokens in other parts of R: of those that cover, the earliest, and the nearest.
TEST_CASE("hip growing: representatives of several parts cover a token", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned              seed   = GENERATE(from_range(sample(seeds_of_cuts)));
  constexpr index_t           d = 264, T = 3 * d;
  tests::token_rows<bfloat16> rows(T, d);
  for (index_t i = 0; i < T; ++i) {  // axes; then sums of two, 130 apart, of which the second one is longer or not
    const index_t other = (i + 130) % d;
    for (index_t c = 0; c < d; ++c)
      rows.set(i, c, c == i % d ? 1.0f : i >= d && c == other ? (i % 2 == 0 ? 1.0f : 1.25f) : 0.0f);
  }
  device_rows<bfloat16>       x(rows);
  growing_selection<bfloat16> want({.threshold = 0.6f, .assign = assign});
  on_chip<bfloat16>           grown({.threshold = 0.6f, .assign = assign}, simulator::seeded(seed));
  index_t                     begin = 0;
  for (const index_t size : {d, index_t{1}, index_t{40}, T - d - 41}) {
    const auto piece = piece_of(x, begin, begin + size);
    REQUIRE(want.extend(piece) == status::ok);
    REQUIRE(grown.extend(piece) == status::ok);
    compare(grown, want);
    begin += size;
  }
  CHECK(want.kept().count() == d);
}

TEST_CASE("hip growing: any inherited state", "[hip]") {
  const unsigned every  = GENERATE(1u, 3u, 40u);
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds_of_cuts)));
  CAPTURE(every, static_cast<int>(assign), seed);
  constexpr index_t           T     = 560;
  const auto                  state = tests::random_state(T, seed, every);
  const index_t               none  = 0;
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, T, 16, seed));
  growing_selection<bfloat16> want({.threshold = 0.6f, .assign = assign});
  on_chip<bfloat16>           grown({.threshold = 0.6f, .assign = assign}, simulator::seeded(seed));
  index_t                     begin = 0;
  for (const index_t size : {200, 1, 300, 59}) {
    const auto                 piece = piece_of(x, begin, begin + size);
    const hip::selection_layer below{.rep = state.rep.data(), .count = &none, .length = begin + size};
    REQUIRE(want.extend(piece, std::span(state.rep).subspan(static_cast<std::size_t>(begin),
                                                            static_cast<std::size_t>(size))) == status::ok);
    REQUIRE(grown.extend(piece, below) == status::ok);
    compare(grown, want);
    begin += size;
  }
}

// An earlier one covers them as well: they wait for what becomes of the new one.
TEST_CASE("hip growing: heirs of new tokens keep what they inherit", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  tests::token_rows<bfloat16> rows(40, 24);
  for (index_t i = 0; i < 40; ++i)  // axes, and behind them sums of two, first one that none of these covers
    for (index_t c = 0; c < 24; ++c)
      rows.set(i, c, i < 24 ? (c == i ? 1.0f : 0.0f) : c == 0 ? 1.0f : c == 1 ? (i == 24 ? 1.0f : 0.6f) : 0.0f);
  device_rows<bfloat16>      x(rows);
  const index_t              count = 25;
  const std::vector<index_t> rep(40, 24);
  on_chip<bfloat16>          grown({.threshold = 0.8f, .assign = assign});
  hip::downloaded_selection  got;
  REQUIRE(grown.extend(piece_of(x, 0, 24)) == status::ok);
  REQUIRE(grown.extend(piece_of(x, 24, 40), {.rep = rep.data(), .count = &count, .length = 40}) == status::ok);
  REQUIRE(grown.download(got) == status::ok);
  CHECK(got.rep[30] == 24);
  CHECK(got.counts.back() == 16);
}

TEST_CASE("hip growing: truncated, it goes on as if the rest had never been", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned              seed   = GENERATE(from_range(sample(seeds_of_cuts)));
  constexpr index_t           T      = 400;
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, T, 16, seed));
  device_rows<bfloat16>       other(make_tokens<bfloat16>(kind::random, T, 16, seed + 9));
  growing_selection<bfloat16> want({.threshold = 0.6f, .assign = assign});
  on_chip<bfloat16>           grown({.threshold = 0.6f, .assign = assign}, simulator::seeded(seed));
  std::mt19937                random(seed);
  REQUIRE(want.extend(piece_of(x, 0, 300)) == status::ok);
  REQUIRE(grown.extend(piece_of(x, 0, 300)) == status::ok);
  for (int turn = 0; turn < 4; ++turn) {
    const index_t tokens = turn == 3 ? 0 : static_cast<index_t>(random() % static_cast<unsigned>(want.kept().tokens()));
    CAPTURE(tokens);
    const auto view = grown.kept();
    REQUIRE(want.truncate(tokens) == status::ok);
    REQUIRE(grown.truncate(tokens) == status::ok);
    CHECK(view.stamp.stale());
    CHECK(grown.kept().tokens() == tokens);
    compare(grown, want);
    const index_t to = tokens + 1 + static_cast<index_t>(random() % 90);
    REQUIRE(want.extend(piece_of(other, tokens, to)) == status::ok);
    REQUIRE(grown.extend(piece_of(other, tokens, to)) == status::ok);
    compare(grown, want);
  }
  want.clear(), grown.clear();
  CHECK(grown.kept().tokens() == 0);
  device_rows<bfloat16> wide(make_tokens<bfloat16>(kind::clustered, 70, 40, seed));
  REQUIRE(want.extend(wide.view()) == status::ok);
  REQUIRE(grown.extend(wide.view()) == status::ok);
  compare(grown, want);
}

TEST_CASE("hip growing: a fork goes its own way", "[hip]") {
  constexpr index_t           T = 300;
  const selection_options     options{.threshold = 0.7f, .max_representatives = 250};
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, T, 16, 9));
  device_rows<bfloat16>       other(make_tokens<bfloat16>(kind::random, T, 16, 10));
  growing_selection<bfloat16> want(options);
  REQUIRE(want.extend(piece_of(x, 0, 200)) == status::ok);
  const growing_selection<bfloat16> at_fork = want;
  on_chip<bfloat16>                 trunk(options), branch(options);
  REQUIRE(trunk.extend(piece_of(x, 0, 200)) == status::ok);
  const bool used = GENERATE(false, true);
  if (used) {  // memory that is large enough, with what a failed call has left in it
    REQUIRE(branch.extend(other.view()) == status::ok);
    CHECK(branch.kept().failed());
  }
  REQUIRE(trunk.fork(branch) == status::ok);
  compare(branch, want);
  REQUIRE(trunk.extend(piece_of(other, 200, T)) == status::ok);
  REQUIRE(branch.extend(piece_of(x, 200, T)) == status::ok);
  REQUIRE(want.extend(piece_of(x, 200, T)) == status::ok);
  compare(branch, want);
  growing_selection<bfloat16> way = at_fork;
  REQUIRE(way.extend(piece_of(other, 200, T)) == status::ok);
  compare(trunk, way);

  const hip::selection_layer view = branch.kept();
  REQUIRE(branch.fork(branch) == status::ok);
  CHECK_FALSE(view.stamp.stale());
  REQUIRE(on_chip<bfloat16>(options).fork(branch) == status::ok);  // nothing
  CHECK(view.stamp.stale());
  CHECK(branch.kept().tokens() == 0);
  CHECK(branch.report().tokens == 0);
  REQUIRE(branch.extend(piece_of(x, 0, 200)) == status::ok);
  compare(branch, at_fork);
}

TEST_CASE("hip growing: calls that the runtime broke off can be repeated", "[hip]") {
  constexpr index_t           T = 300, before = 200;
  const selection_options     options{.threshold = 0.7f};
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, T, 16, 9));
  growing_selection<bfloat16> want(options);
  REQUIRE(want.extend(piece_of(x, 0, before)) == status::ok);
  const growing_selection<bfloat16> at_fork = want;
  REQUIRE(want.extend(piece_of(x, before, T)) == status::ok);
  int taken = 0;
  for (status extended = status::device_error; extended != status::ok; ++taken) {
    CAPTURE(taken);
    const simulator::stream   where = simulator::seeded(1);
    on_chip<bfloat16>         trunk(options, where), branch(options, where);
    hip::downloaded_selection got;
    REQUIRE(trunk.reserve(T, 16, T) == status::ok);
    REQUIRE(trunk.extend(piece_of(x, 0, before)) == status::ok);
    REQUIRE(branch.reserve(T, 16) == status::ok);
    REQUIRE(branch.extend(piece_of(x, 50, T)) == status::ok);

    extended = simulator::with_requests(where, taken, [&] { return trunk.extend(piece_of(x, before, T)); });
    if (extended != status::ok) {
      REQUIRE(extended == status::device_error);
      REQUIRE(trunk.kept().tokens() == before);
      static_cast<void>(trunk.download(got));
      CHECK(got == tests::owned_representatives::of(at_fork.kept()));
      CHECK(trunk.report().tokens == 0);
      CHECK(got.report.tokens == 0);
      REQUIRE(trunk.extend(piece_of(x, before, T)) == status::ok);
    }
    compare(trunk, want);

    if (simulator::with_requests(where, taken, [&] { return trunk.fork(branch); }) != status::ok) {
      CHECK(branch.kept().tokens() == 0);
      REQUIRE(trunk.fork(branch) == status::ok);
    }
    compare(branch, want);

    simulator::with_requests(where, taken, [&] { trunk.clear(); });
    CHECK(trunk.kept().tokens() == 0);
    REQUIRE(trunk.extend(piece_of(x, 0, before)) == status::ok);
    compare(trunk, at_fork);
  }
  CHECK(taken > 7);
}

TEST_CASE("hip growing: what was moved from is as new", "[hip]") {
  const selection_options     options{.threshold = 0.7f};
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, 150, 16, 9));
  growing_selection<bfloat16> want(options);
  on_chip<bfloat16>           source(options), target({.threshold = 0.9f});
  REQUIRE(source.extend(piece_of(x, 0, 100)) == status::ok);
  REQUIRE(target.extend(piece_of(x, 0, 20)) == status::ok);
  target = std::move(source);
  CHECK(source.kept().tokens() == 0);
  CHECK(source.report().tokens == 0);
  REQUIRE(want.extend(piece_of(x, 0, 100)) == status::ok);
  compare(target, want);
  on_chip<bfloat16> last(std::move(target));
  REQUIRE(want.extend(piece_of(x, 100, 150)) == status::ok);
  REQUIRE(last.extend(piece_of(x, 100, 150)) == status::ok);
  compare(last, want);
  REQUIRE(target.extend(x.view()) == status::ok);
  REQUIRE(source.extend(x.view()) == status::ok);
  compare(source, [&] {
    growing_selection<bfloat16> anew(options);
    REQUIRE(anew.extend(x.view()) == status::ok);
    return anew;
  }());
}

TEST_CASE("hip growing: an extension that fails on the device adds nothing", "[hip]") {
  constexpr index_t           T = 700;
  device_rows<bfloat16>       spread(make_tokens<bfloat16>(kind::random, T, 16, 4));
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::duplicates, T, 16, 4));
  device_rows<bfloat16>       broken(make_tokens<bfloat16>(kind::duplicates, T, 16, 4));
  const selection_options     options{.threshold = 0.8f, .max_representatives = 260};
  growing_selection<bfloat16> want(options);
  on_chip<bfloat16>           grown(options, simulator::seeded(4)), above(options, simulator::seeded(5));
  hip::downloaded_selection   got;
  broken.data()[410 * 24 + 5] = from_float<bfloat16>(std::nanf(""));
  for (const index_t size : {1, 300}) {  // the second one fails behind the first stretch of it
    CAPTURE(size);
    const index_t before = want.kept().tokens();
    if (before > 0) {
      REQUIRE(grown.extend(piece_of(spread, before, T)) == status::ok);
      CHECK(grown.download(got) == status::too_many_representatives);
      CHECK(got == tests::owned_representatives::of(want.kept()));
      CHECK(grown.report().tokens == 0);
      CHECK(grown.kept().tokens() == T);
      CHECK(grown.kept().failed());
      REQUIRE(grown.truncate(before + 1) == status::ok);  // not all of it
      CHECK(grown.download(got) == status::too_many_representatives);
      CHECK(grown.kept().failed());

      // Later calls fail likewise, and those of the layer above.
      REQUIRE(grown.extend(piece_of(x, before + 1, before + 2)) == status::ok);
      CHECK(grown.download(got) == status::too_many_representatives);
      CHECK(got == tests::owned_representatives::of(want.kept()));
      REQUIRE(above.extend(piece_of(x, 0, before)) == status::ok);
      REQUIRE(above.extend(piece_of(x, before, before + 2), grown.kept()) == status::ok);
      CHECK(above.download(got) == status::invalid_representatives);
      CHECK(got == tests::owned_representatives::of(want.kept()));
      REQUIRE(grown.truncate(before) == status::ok);
      CHECK_FALSE(grown.kept().failed());
      CHECK(grown.download(got) == status::ok);
      CHECK(got == tests::owned_representatives::of(want.kept()));
    }
    REQUIRE(want.extend(piece_of(x, before, before + size)) == status::ok);
    REQUIRE(grown.extend(piece_of(x, before, before + size)) == status::ok);
    compare(grown, want);
  }
  const index_t before = want.kept().tokens();
  REQUIRE(grown.extend(piece_of(broken, before, T)) == status::ok);
  CHECK(grown.download(got) == status::non_finite_token);
  CHECK(got == tests::owned_representatives::of(want.kept()));
  REQUIRE(grown.extend({}) == status::ok);
  CHECK(grown.download(got) == status::non_finite_token);
  REQUIRE(grown.truncate(before) == status::ok);
  REQUIRE(grown.extend(piece_of(x, before, T)) == status::ok);
  REQUIRE(want.extend(piece_of(x, before, T)) == status::ok);
  compare(grown, want);
  REQUIRE(want.extend({}) == status::ok);
  REQUIRE(grown.extend({}) == status::ok);
  compare(grown, want);
  REQUIRE(grown.extend(piece_of(broken, 300, T)) == status::ok);
  grown.clear();
  REQUIRE(grown.extend(x.view()) == status::ok);
  CHECK(grown.download(got) == status::ok);
  CHECK(got == tests::owned_representatives::of(want.kept()));
}

// A layer made by hand. What the host cannot see, the device refuses.
TEST_CASE("hip growing: an inherited state that is none", "[hip]") {
  device_rows<bfloat16>     x(make_tokens<bfloat16>(kind::clustered, 80, 16, 4));
  on_chip<bfloat16>         grown({.threshold = 0.7f});
  hip::downloaded_selection got;
  REQUIRE(grown.extend(piece_of(x, 0, 70)) == status::ok);
  for (const auto& [wrong, count] : {std::pair<index_t, index_t>{-1, 1}, {72, 1}, {0, -1}}) {  // of the last: it failed
    CAPTURE(wrong, count);
    std::vector<index_t> rep(80, 0);
    rep[71] = wrong;
    const hip::selection_layer below{.rep = rep.data(), .count = &count, .length = 80};
    REQUIRE(grown.extend(piece_of(x, 70, 80), below) == status::ok);
    CHECK(grown.download(got) == status::invalid_representatives);
    CHECK(got.rep.size() == 70);
    REQUIRE(grown.truncate(70) == status::ok);
  }
}

TEST_CASE("hip growing: what is refused leaves it as it was", "[hip]") {
  device_rows<bfloat16> x(make_tokens<bfloat16>(kind::random, 100, 16, 1));
  on_chip<bfloat16>     grown({.threshold = 0.7f}), below({.threshold = 0.7f});
  REQUIRE(grown.extend(piece_of(x, 0, 50)) == status::ok);
  REQUIRE(below.extend(piece_of(x, 0, 60)) == status::ok);
  const hip::selection_layer view = grown.kept(), old = below.kept();
  const auto                 view_of = x.view();
  const auto said = [&](const matrix_view<const bfloat16>& rows, const hip::selection_layer& from = {}) {
    return std::string(message(grown.extend(rows, from)));
  };
  CHECK(said({view_of.data, 10, 8, 24}) == "x.cols differs from that of earlier calls");
  CHECK(said({view_of.data, 10, 12, 24}) == "x.cols is no multiple of 8, as gfx942 needs it");
  CHECK(said({view_of.data + 1, 10, 16, 24}) == "x is not on 16-byte boundaries, row by row, as gfx942 needs it");
  CHECK(said({nullptr, 10, 16, 24}) == "x.data is null");
  CHECK(said({view_of.data, detail::largest_size - 49, 16, 24}) ==
        "x makes the sequence longer than 2^31 - 4097 tokens");
  CHECK(said(piece_of(x, 50, 59), old) == "below has not one entry for each token up to the last of x");
  REQUIRE(below.extend(piece_of(x, 60, 61)) == status::ok);
  CHECK(said(piece_of(x, 50, 60), old) == "below is a view of a set that its owner has replaced: call kept() again");
  CHECK(std::string(message(grown.truncate(-1))) == "tokens is negative");
  CHECK(std::string(message(grown.truncate(51))) == "tokens is more than the selection has");
  CHECK(std::string(message(grown.reserve(-1, 16))) == "tokens is negative");
  CHECK(std::string(message(grown.reserve(10, 16, 0))) == "piece is less than 1");
  CHECK(std::string(message(grown.reserve(10, 0))) == "cols is less than 1");
  CHECK(std::string(message(grown.reserve(10, 24))) == "cols differs from that of earlier calls");
  CHECK(std::string(message(on_chip<bfloat16>().reserve(10, 12))) == "x.cols is no multiple of 8, as gfx942 needs it");
  CHECK(std::string(message(grown.replayed(-1))) == "tokens is negative");
  CHECK(std::string(message(grown.replayed(1))) == "tokens is more than there is memory for");
  CHECK(std::string(message(on_chip<bfloat16>({.threshold = 0}).extend(x.view()))) ==
        "options.threshold does not lie in (0, 1]");
  CHECK_FALSE(view.stamp.stale());
  CHECK(grown.kept().tokens() == 50);
  growing_selection<bfloat16> want({.threshold = 0.7f});
  REQUIRE(want.extend(piece_of(x, 0, 50)) == status::ok);
  compare(grown, want);

  on_chip<bfloat16>         empty;
  hip::downloaded_selection got;
  CHECK(empty.extend({}) == status::ok);
  CHECK(empty.truncate(0) == status::ok);
  CHECK(empty.download(got) == status::ok);
  CHECK(empty.report().tokens == 0);
  CHECK(empty.kept().tokens() == 0);
  CHECK(empty.bytes() == 0);
}

TEST_CASE("hip growing: memory doubles, or is reserved, and no call waits", "[hip]") {
  constexpr index_t           T = 300;
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, T, 16, 2));
  simulator::stream           where = simulator::seeded(2), other = simulator::seeded(3);
  const selection_options     options{.threshold = 0.7f};
  growing_selection<bfloat16> want(options);
  on_chip<bfloat16>           grown(options, where), reserved(options, other);
  REQUIRE(reserved.reserve(T, 16, 32) == status::ok);
  const std::size_t bytes = reserved.bytes();
  for (index_t begin = 0; begin < T; begin += 20) {
    const auto piece = piece_of(x, begin, begin + 20);
    REQUIRE(want.extend(piece) == status::ok);
    REQUIRE(grown.extend(piece) == status::ok);
    REQUIRE(reserved.extend(piece) == status::ok);
  }
  CHECK(where.calls->allocations == 5);  // of 20, 40, 80, 160, 320 tokens
  CHECK(other.calls->allocations == 1);
  CHECK(where.calls->waits == 0);
  CHECK(reserved.bytes() == bytes);
  compare(grown, want);
  compare(reserved, want);

  // A larger piece, and more tokens, take what is there along.
  REQUIRE(reserved.reserve(10, 16, 64) == status::ok);
  CHECK(reserved.bytes() > bytes);
  REQUIRE(reserved.reserve(400, 16) == status::ok);
  CHECK(other.calls->allocations == 3);
  compare(reserved, want);

  // Of few representatives there are few rows.
  on_chip<bfloat16> capped({.threshold = 0.7f, .max_representatives = 20}), open({.threshold = 0.7f});
  REQUIRE(capped.reserve(4000, 512) == status::ok);
  REQUIRE(open.reserve(4000, 512) == status::ok);
  CHECK(open.bytes() - capped.bytes() > 3900u * 512u * 2u);
}

TEST_CASE("hip growing: where memory runs out, the set stays as it was", "[hip]") {
  simulator::stream           where;
  device_rows<bfloat16>       x(make_tokens<bfloat16>(kind::clustered, 200, 16, 2));
  growing_selection<bfloat16> want({.threshold = 0.7f});
  on_chip<bfloat16>           grown({.threshold = 0.7f}, where), branch({.threshold = 0.7f}, where);
  REQUIRE(grown.extend(piece_of(x, 0, 70)) == status::ok);
  REQUIRE(branch.extend(piece_of(x, 0, 20)) == status::ok);
  const hip::selection_layer view = grown.kept(), of_branch = branch.kept();
  where.calls->most_allocations = where.calls->allocations;
  CHECK(grown.extend(piece_of(x, 70, 200)) == status::device_error);
  CHECK(grown.reserve(200, 16) == status::device_error);
  CHECK(grown.fork(branch) == status::device_error);
  CHECK_FALSE(view.stamp.stale());
  CHECK_FALSE(of_branch.stamp.stale());
  CHECK(branch.kept().tokens() == 20);
  REQUIRE(want.extend(piece_of(x, 0, 70)) == status::ok);
  compare(grown, want);
  where.calls->most_allocations = where.calls->allocations + 1;
  REQUIRE(grown.extend(piece_of(x, 70, 200)) == status::ok);
  REQUIRE(want.extend(piece_of(x, 70, 200)) == status::ok);
  compare(grown, want);
}

// A token that is covered by what it inherits meets no other; its neighbours are met by what comes with it.
TEST_CASE("hip growing: no pair is computed without need", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  tests::token_rows<bfloat16> rows(100, 24);
  for (index_t i = 0; i < 100; ++i)
    for (index_t c = 0; c < 24; ++c) rows.set(i, c, c == i % 24 ? 1.0f : 0.0f);
  device_rows<bfloat16> x(rows);
  const index_t         none = 0;
  std::vector<index_t>  rep;
  for (index_t i = 0; i < 100; ++i) rep.push_back(i % 24);
  on_chip<bfloat16> grown({.threshold = 0.5f, .assign = assign});
  REQUIRE(grown.extend(piece_of(x, 0, 60)) == status::ok);
  for (const index_t size : {1, 39}) {
    const index_t begin = grown.kept().tokens();
    REQUIRE(grown.extend(piece_of(x, begin, begin + size),
                         {.rep = rep.data(), .count = &none, .length = begin + size}) == status::ok);
    CHECK(grown.report().inherited == size);
    CHECK(grown.report().pairs_evaluated == size + size * (size - 1) / 2);
  }
}

// The same whatever came before.
TEST_CASE("hip growing: the launches of an extension", "[hip]") {
  const std::pair<index_t, int> expected[] = {{0, 2}, {1, 5}, {2, 6}, {256, 6}, {257, 7}, {1, 5}};
  device_rows<float16>          x(make_tokens<float16>(kind::random, 600, 8, 2));
  simulator::stream             where = simulator::seeded(2);
  on_chip<float16>              grown({.threshold = 0.9f}, where);
  REQUIRE(grown.reserve(600, 8, 300) == status::ok);
  index_t begin = 0;
  for (const auto& [n, launches] : expected) {
    const int before = where.calls->launches, blocks = where.calls->blocks;
    REQUIRE(grown.extend(piece_of(x, begin, begin + n)) == status::ok);
    CAPTURE(n);
    CHECK(where.calls->launches == before + launches);
    if (n == 1) CHECK(where.calls->blocks == blocks + 4 + 5);  // five panels of 128 in memory
    begin += n;
  }
}

// Two layers, one token a replay: all that changes is what the token's rows hold.
TEST_CASE("hip growing: a step of decoding as a graph", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  constexpr index_t           T = 330, prompt = 240, d = 16;
  const selection_options     options{.threshold = 0.7f, .assign = assign};
  device_rows<bfloat16>       lower(make_tokens<bfloat16>(kind::clustered, T, d, 3, 0));
  device_rows<bfloat16>       upper(make_tokens<bfloat16>(kind::clustered, T, d, 3, 1));
  device_rows<bfloat16>       one(make_tokens<bfloat16>(kind::random, 2, d, 3));  // a row for each layer
  simulator::stream           where = simulator::capturable(3);
  on_chip<bfloat16>           first(options, where), second(options, where);
  growing_selection<bfloat16> want_first(options), want_second(options);
  REQUIRE(first.reserve(T - 1, d, prompt) == status::ok);
  REQUIRE(second.reserve(T - 1, d, prompt) == status::ok);
  REQUIRE(first.extend(piece_of(lower, 0, prompt)) == status::ok);
  REQUIRE(second.extend(piece_of(upper, 0, prompt), first.kept()) == status::ok);
  REQUIRE(want_first.extend(piece_of(lower, 0, prompt)) == status::ok);
  REQUIRE(want_second.extend(piece_of(upper, 0, prompt), want_first.kept().rep) == status::ok);

  const simulator::graph step = simulator::capture(where, [&] {
    REQUIRE(first.extend(piece_of(one, 0, 1)) == status::ok);
    REQUIRE(second.extend(piece_of(one, 1, 2), first.kept()) == status::ok);
  });
  compare(first, want_first);  // nothing has run
  for (index_t t = prompt; t < T - 1; ++t) {
    std::copy_n(lower.view().row(t), d, one.data());
    std::copy_n(upper.view().row(t), d, one.data() + one.view().stride);
    step.replay();
    REQUIRE(want_first.extend(piece_of(lower, t, t + 1)) == status::ok);
    REQUIRE(want_second.extend(piece_of(upper, t, t + 1), want_first.kept().rep.subspan(static_cast<std::size_t>(t))) ==
            status::ok);
    if (t > prompt) {  // the host has counted the call that it captured
      REQUIRE(first.replayed(1) == status::ok);
      REQUIRE(second.replayed(1) == status::ok);
    }
    if (t % 20 == 0 || t == T - 2) {
      CAPTURE(t);
      compare(first, want_first);
      compare(second, want_second);
      CHECK(second.kept().tokens() == t + 1);
    }
  }
  CHECK(second.replayed(1) == status::too_large);

  // Nor does the device go beyond its memory.
  hip::downloaded_selection got;
  step.replay();
  CHECK(first.download(got) == status::too_large);
  CHECK(got == tests::owned_representatives::of(want_first.kept()));
  REQUIRE(first.truncate(T - 1) == status::ok);
  CHECK(first.download(got) == status::ok);

  on_chip<bfloat16> without(options, where);
  CHECK_THROWS(simulator::capture(where, [&] { (void)without.extend(piece_of(one, 0, 1)); }));
}
