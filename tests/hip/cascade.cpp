// Selection and cascade on the simulated gfx942 against the CPU backend: set, rep, counts, Gram operations.

#include <algorithm>
#include <random>
#include <sstream>
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

const std::vector<unsigned> seeds = {1, 2, 3};

/// float16 cannot hold the tiny and the huge.
template <class Scalar>
bool holds(kind k) {
  return std::same_as<Scalar, bfloat16> || k != kind::tiny_and_huge;
}

template <class Scalar>
tests::token_rows<Scalar> rows_of(kind k, index_t T, index_t d, unsigned seed, unsigned layer) {
  return make_tokens<Scalar>(k, T, d, seed, layer);
}

/// Layers of one sequence on both sides.
template <class Scalar>
void compare_layers(kind k, index_t T, index_t d, selection_options options, unsigned seed, unsigned layers,
                    const representatives* adopted = nullptr) {
  cascade<Scalar>                    on_cpu(options);
  cascade<Scalar, simulator::stream> on_device(options, simulator::seeded(seed));
  if (adopted) {
    REQUIRE(on_cpu.inherit(*adopted) == status::ok);
    REQUIRE(on_device.inherit(*adopted) == status::ok);
  }
  for (unsigned layer = 0; layer < layers; ++layer) {
    CAPTURE(layer);
    device_rows<Scalar>       x(rows_of<Scalar>(k, T, d, seed, layer));
    hip::downloaded_selection got;
    REQUIRE(on_cpu.step(x.view()) == status::ok);
    REQUIRE(on_device.step(x.view()) == status::ok);
    REQUIRE(on_device.download(got) == status::ok);
    check_same(got, on_cpu.kept(), on_cpu.report());
  }
}

/// A step on given rows on both sides, from `before` if there is one.
template <class Scalar>
selection_report compare_step(const tests::token_rows<Scalar>& rows, selection_options options, unsigned seed,
                              const tests::owned_representatives& before = {}) {
  CAPTURE(static_cast<int>(options.assign), seed);
  device_rows<Scalar>                x(rows);
  cascade<Scalar>                    on_cpu(options);
  cascade<Scalar, simulator::stream> on_device(options, simulator::seeded(seed));
  hip::downloaded_selection          got;
  if (!before.rep.empty()) {
    REQUIRE(on_cpu.inherit(before.view()) == status::ok);
    REQUIRE(on_device.inherit(before.view()) == status::ok);
  }
  REQUIRE(on_cpu.step(x.view()) == status::ok);
  REQUIRE(on_device.step(x.view()) == status::ok);
  REQUIRE(on_device.download(got) == status::ok);
  check_same(got, on_cpu.kept(), on_cpu.report());
  return got.report;
}

}  // namespace

TEMPLATE_TEST_CASE("hip cascade: layer by layer as on the CPU", "[hip]", bfloat16, float16) {
  const auto     k = GENERATE(kind::random, kind::clustered, kind::duplicates, kind::zero_rows, kind::anti_parallel,
                              kind::tiny_and_huge);
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto     tau    = GENERATE(0.35f, 0.8f, 1.0f);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  if (!holds<TestType>(k)) return;
  CAPTURE(k, static_cast<int>(assign), tau, seed);
  compare_layers<TestType>(k, 150, 24, {.threshold = tau, .assign = assign}, seed, 3);
}

TEMPLATE_TEST_CASE("hip cascade: ragged sizes", "[hip]", bfloat16, float16) {
  const auto T = GENERATE(0, 1, 2, 63, 64, 65, 129);
  const auto d = GENERATE(8, 64, 72, 120, 200);
  CAPTURE(T, d);
  compare_layers<TestType>(kind::clustered, T, d, {.threshold = 0.7f}, 5, 2);
}

TEST_CASE("hip cascade: sizes at the edges of blocks and stretches", "[hip]") {
  const auto     T      = GENERATE(63, 64, 65, 255, 256, 257, 511, 512, 513, 575, 577, 769);
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  const auto     k      = (T + static_cast<index_t>(seed)) % 2 == 0 ? kind::clustered : kind::duplicates;
  CAPTURE(T, static_cast<int>(assign), seed);
  compare_layers<bfloat16>(k, T, 16, {.threshold = 0.7f, .assign = assign}, seed, 2);
}

TEST_CASE("hip cascade: more representatives than a panel, over several stretches", "[hip]") {
  const auto assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto k      = GENERATE(kind::random, kind::clustered);
  compare_layers<bfloat16>(k, 1100, 40, {.threshold = 0.75f, .assign = assign}, 7, 3);
}

TEST_CASE("hip cascade: one representative, and nothing but representatives", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const bool     one    = GENERATE(false, true);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // One row over and over; or no row like another, since zero rows stand for themselves.
  constexpr index_t           T = 834, d = 8;
  tests::token_rows<bfloat16> rows(T, d);
  for (index_t i = 0; i < T; ++i)
    for (index_t c = 0; c < d; ++c) rows.set(i, c, one || (i < d && c == i) ? 1.0f : 0.0f);
  const selection_options options{.threshold = 1.0f, .assign = assign};
  CHECK(compare_step(rows, options, seed).representatives == (one ? 1 : T));
  for (const unsigned every : {1u, 3u, 400u}) {
    const auto before = tests::random_state(T, seed, every);
    CHECK(compare_step(rows, options, seed, before).representatives == (one ? 1 : T));
  }
}

TEST_CASE("hip cascade: verdicts at the threshold", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  compare_layers<bfloat16>(kind::duplicates, 70, 200, {.threshold = 1.0f, .assign = assign}, seed, 2);
}

// Flushed to zero, tokens would be apart that are alike.
TEST_CASE("hip cascade: rows of subnormal numbers", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  auto           rows   = make_tokens<float16>(kind::clustered, 130, 64, seed);
  for (index_t i = 0; i < 130; ++i)
    for (index_t c = 0; c < 64; ++c) rows.set(i, c, 0x1p-18f * to_float(rows.view().row(i)[c]));
  CHECK(compare_step(rows, {.threshold = 0.7f, .assign = assign}, seed).representatives < 100);
}

TEST_CASE("hip cascade: ties", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // Axes first, in an order that puts ties into the rows of one lane, of two lanes and of two waves; then sums of two:
  // at once, or behind two stretches of axes, so that no axis is their neighbour that is a representative.
  constexpr index_t           d     = 136;
  const index_t               apart = GENERATE(0, 2 * hip::select::stretch_tokens - d);
  tests::token_rows<bfloat16> rows(3 * d + apart, d);
  for (index_t i = 0; i < 3 * d + apart; ++i) {
    const index_t j = i < d + apart ? i % d : i - apart;
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == j % d || (j >= d && c == (j * (j / d) + 1) % d) ? 1.0f : 0.0f);
  }
  compare_step(rows, {.threshold = 0.7f, .assign = assign}, seed);
}

TEST_CASE("hip cascade: all cosines negative", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // All neighbours; or some behind two stretches, most of whose rows are zero.
  constexpr index_t           d = 136, half = d / 2;
  const index_t               apart = GENERATE(0, 2 * hip::select::stretch_tokens - half);
  tests::token_rows<bfloat16> rows(d + apart, d);
  for (index_t i = 0; i < d + apart; ++i)
    for (index_t c = 0; c < d; ++c) {
      const bool zero = i >= half && i < half + apart;
      rows.set(i, c, zero ? 0.0f : c == (i < half ? i : i - apart) ? 128.0f : -1.0f);
    }
  CHECK(compare_step(rows, {.threshold = 0.01f, .assign = assign}, seed).representatives == d + apart);
}

TEST_CASE("hip cascade: orphans meet every representative", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // Axes, which stay, over and over; the last time, each has inherited the next one: at once, in the next stretch, or
  // in one that is compared before it is resolved.
  constexpr index_t            d      = 160;
  const index_t                behind = GENERATE(1, 2, 4);
  tests::token_rows<bfloat16>  rows((behind + 1) * d, d);
  tests::owned_representatives before;
  for (index_t i = 0; i < (behind + 1) * d; ++i) {
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == i % d ? 1.0f : 0.0f);
    before.rep.push_back(i < behind * d ? i % d : (i + 1) % d);
  }
  before.indices.assign(before.rep.begin(), before.rep.begin() + d);
  before.counts.assign(d, behind + 1);
  CHECK(compare_step(rows, {.threshold = 0.8f, .assign = assign}, seed, before).orphans == d);
}

// Nothing is compared before the orphans are: what a wave has found of them, no search has told the others.
TEST_CASE("hip cascade: orphans after a stretch that adds nothing", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // Axes, over and over. Representatives were those that begin stretch 0, which stay, and those that begin stretch 1,
  // no longer needed. Each token of the last block has inherited one of the latter, and not the one like it.
  constexpr index_t            d = hip::select::block_tokens, stretch = hip::select::stretch_tokens;
  tests::token_rows<bfloat16>  rows(3 * stretch + d, d);
  tests::owned_representatives before;
  for (index_t i = 0; i < 3 * stretch + d; ++i) {
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == i % d ? 1.0f : 0.0f);
    const bool was = i < d || (i >= stretch && i < stretch + d);
    before.rep.push_back(was ? i : i < 3 * stretch ? i % d : stretch + (i + 1) % d);
    if (was) before.indices.push_back(i), before.counts.push_back(i < d ? 3 * stretch / d - 1 : 2);
  }
  const selection_report report = compare_step(rows, {.threshold = 0.8f, .assign = assign}, seed, before);
  CHECK(report.representatives == d);
  CHECK(report.removals == d);
  CHECK(report.orphans == d);
}

// What they await has given way to a representative of the first stretch, of which no graph tells.
TEST_CASE("hip cascade: heirs of neighbours that are representatives no more", "[hip]") {
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto     mode   = GENERATE(validation::exact, validation::cross_gram);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  // Axes, over and over. At the end, representatives also were the first axes of every 120 tokens, behind which each
  // token has inherited the one like it, or every third that of the next axis.
  constexpr index_t            d = 24, T = 4 * hip::select::stretch_tokens - 30, period = 120, late = 6 * period;
  tests::token_rows<bfloat16>  rows(T, d);
  tests::owned_representatives before;
  for (index_t i = 0; i < T; ++i) {
    for (index_t c = 0; c < d; ++c) rows.set(i, c, c == i % d ? 1.0f : 0.0f);
    const bool    was = i < d || (i >= late && i % period < d);
    const index_t old = i < late ? i % d : i / period * period + (i + (i % 3 == 0)) % d;
    before.rep.push_back(was ? i : old);
    if (was) before.indices.push_back(i);
  }
  for (const index_t j : before.indices)
    before.counts.push_back(static_cast<index_t>(std::count(before.rep.begin(), before.rep.end(), j)));
  const selection_options options{.threshold = 0.8f, .assign = assign, .validate = mode};
  const selection_report  report = compare_step(rows, options, seed, before);
  CHECK(report.representatives == d);
  CHECK(report.orphans > 50);
  CHECK(report.inherited > late);
}

// One representative, 64 tokens equal to it in its block and one in the next; at tau = 1 every verdict needs the chain.
TEST_CASE("hip cascade: no pair is computed without need", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned              seed   = GENERATE(from_range(sample(seeds)));
  tests::token_rows<bfloat16> rows(65, 24);
  for (index_t i = 0; i < 65; ++i)
    for (index_t c = 0; c < 24; ++c) rows.set(i, c, static_cast<float>(c % 5) - 1.7f);
  device_rows<bfloat16>                x(rows);
  const selection_options              options{.threshold = 1.0f, .assign = assign, .validate = validation::cross_gram};
  cascade<bfloat16, simulator::stream> on_device(options, simulator::seeded(seed));
  hip::downloaded_selection            got;
  REQUIRE(on_device.step(x.view()) == status::ok);
  REQUIRE(on_device.download(got) == status::ok);
  CHECK(got.report.representatives == 1);
  const std::int64_t graph    = 65 * 64 / 2;
  const std::int64_t products = assign == assignment::nearest ? 64 : 0;  // with the representative
  CHECK(got.report.pairs_evaluated == 2 * graph + products);

  const std::int64_t cross = 64;
  REQUIRE(on_device.step(x.view()) == status::ok);
  REQUIRE(on_device.download(got) == status::ok);
  CHECK(got.report.pairs_evaluated == 2 * graph + 2 * cross);
}

// The same row in four stretches: those behind the second meet one representative once.
TEST_CASE("hip cascade: no pair is computed twice", "[hip]") {
  const auto                  assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned              seed   = GENERATE(from_range(sample(seeds)));
  constexpr index_t           of = hip::select::stretch_tokens, T = 3 * of + 3;
  tests::token_rows<bfloat16> rows(T, 8);
  for (index_t i = 0; i < T; ++i)
    for (index_t c = 0; c < 8; ++c) rows.set(i, c, 1.0f);
  device_rows<bfloat16>                x(rows);
  cascade<bfloat16, simulator::stream> on_device({.threshold = 0.5f, .assign = assign}, simulator::seeded(seed));
  const bool                           nearest = assign == assignment::nearest;
  const std::int64_t graph = 3 * of * (of - 1) / 2 + 3 + 2 * of * of + 3 * of;  // within stretches; with those before
  for (unsigned layer = 0; layer < 2; ++layer) {
    REQUIRE(on_device.step(x.view()) == status::ok);
    const std::int64_t far = of + 3, near = 2 * of - 1;  // tokens
    const std::int64_t products = layer == 0 && nearest ? far + near : 0;
    CHECK(on_device.report().representatives == 1);
    CHECK(on_device.report().pairs_evaluated == graph + far + products);
  }
}

// At the end, three tokens await one that has given way to the very first one, as they find out while they wait.
TEST_CASE("hip cascade: a token that has found one looks for no other", "[hip]") {
  const auto                   assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned               seed   = GENERATE(from_range(sample(seeds)));
  constexpr index_t            of = hip::select::stretch_tokens, T = 3 * of + 3;
  tests::token_rows<bfloat16>  rows(T, 8);
  tests::owned_representatives before;
  for (index_t i = 0; i < T; ++i) {
    for (index_t c = 0; c < 8; ++c) rows.set(i, c, c == (i == of) ? 1.0f : 0.0f);
    before.rep.push_back(i == of || i == 2 * of ? i : i < 3 * of ? 0 : 2 * of);
  }
  before.indices = {0, of, 2 * of}, before.counts = {3 * of - 2, 1, 4};
  const std::int64_t graph   = 3 * of * (of - 1) / 2 + 3 + 2 * of * of + 3 * of;  // within stretches; and before
  const std::int64_t checked = of - 1 + 3;  // of stretch 2 with token 0; of the last three with what token 2 of has
  const std::int64_t met     = 4;           // token 2 of and the last three, with token 0; then these with token of
  const bool         nearest = assign == assignment::nearest;
  const auto         report  = compare_step(rows, {.threshold = 0.5f, .assign = assign}, seed, before);
  CHECK(report.removals == 1);
  CHECK(report.pairs_evaluated == graph + checked + met + (nearest ? met + 3 : 0));
}

TEST_CASE("hip cascade: any inherited state", "[hip]") {
  const unsigned every  = GENERATE(from_range(sample(std::vector{1u, 2u, 5u, 40u})));
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  const auto     T      = GENERATE(200, 840);
  CAPTURE(every, seed, T);
  const auto state   = tests::random_state(T, seed, every);
  const auto adopted = state.view();
  compare_layers<bfloat16>(kind::clustered, T, 16, {.threshold = 0.6f, .assign = assign}, seed, 2, &adopted);
}

// Tokens inherit one of the last hundred, or of their own block.
TEST_CASE("hip cascade: an inherited state of neighbours", "[hip]") {
  const unsigned reach  = GENERATE(from_range(sample(std::vector{30u, 100u, 400u})));
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto     mode   = GENERATE(validation::exact, validation::cross_gram);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  CAPTURE(reach, seed, static_cast<int>(assign), static_cast<int>(mode));
  constexpr index_t            T = 800;
  std::mt19937                 random(seed);
  tests::owned_representatives before;
  for (index_t i = 0; i < T; ++i) {
    const index_t other = i - 1 - static_cast<index_t>(random() % reach);
    const bool    was   = random() % 4 == 0 || other < 0 || before.rep[static_cast<std::size_t>(other)] + 600 < i;
    before.rep.push_back(was ? i : before.rep[static_cast<std::size_t>(other)]);
    if (was) before.indices.push_back(i);
  }
  for (const index_t j : before.indices)
    before.counts.push_back(static_cast<index_t>(std::count(before.rep.begin(), before.rep.end(), j)));
  const auto adopted = before.view();
  compare_layers<bfloat16>(kind::clustered, T, 16, {.threshold = 0.6f, .assign = assign, .validate = mode}, seed, 2,
                           &adopted);
}

TEMPLATE_TEST_CASE("hip cascade: paper mode layer by layer", "[hip]", bfloat16, float16) {
  const auto     k      = GENERATE(kind::clustered, kind::duplicates);
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto     T      = GENERATE(1, 65, 200);
  const auto     tau    = GENERATE(0.45f, 1.0f);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  CAPTURE(k, static_cast<int>(assign), T, tau, seed);
  compare_layers<TestType>(k, T, 24, {.threshold = tau, .assign = assign, .validate = validation::cross_gram}, seed, 3);
}

// Several representatives cover a token, so that one wrongly taken for an orphan gets another.
TEST_CASE("hip cascade: paper mode from any inherited state", "[hip]") {
  const unsigned every  = GENERATE(from_range(sample(std::vector{1u, 2u, 40u})));
  const auto     assign = GENERATE(assignment::lowest_index, assignment::nearest);
  const unsigned seed   = GENERATE(from_range(sample(seeds)));
  const auto     T      = GENERATE(300, 840);
  CAPTURE(every, seed, T);
  const auto              state   = tests::random_state(T, seed, every);
  const auto              adopted = state.view();
  const selection_options options{.threshold = 0.45f, .assign = assign, .validate = validation::cross_gram};
  compare_layers<bfloat16>(kind::clustered, T, 16, options, seed, 2, &adopted);
}

// The verdicts come from the matrix: all of it, at least, is computed.
TEST_CASE("hip cascade: paper mode computes the whole cross-Gram matrix", "[hip]") {
  const unsigned seed = GENERATE(from_range(sample(seeds)));
  std::int64_t   pairs[2];
  for (const auto mode : {validation::exact, validation::cross_gram}) {
    cascade<bfloat16, simulator::stream> on_device({.threshold = 0.8f, .validate = mode}, simulator::seeded(seed));
    hip::downloaded_selection            got;
    for (unsigned layer = 0; layer < 2; ++layer) {
      device_rows<bfloat16> x(make_tokens<bfloat16>(kind::clustered, 200, 64, seed, layer));
      REQUIRE(on_device.step(x.view()) == status::ok);
    }
    REQUIRE(on_device.download(got) == status::ok);
    pairs[mode == validation::cross_gram] = got.report.pairs_evaluated;
    if (mode == validation::exact) continue;
    CHECK(got.report.gram.cross_gram > 0);
    // Without the checks of inherited pairs, which the matrix holds; at most one a token, and its chain.
    CHECK(pairs[1] >= pairs[0] + got.report.gram.cross_gram - 2 * 200);
  }
}

TEST_CASE("hip selector: as on the CPU", "[hip]") {
  const unsigned                       seed = GENERATE(from_range(sample(seeds)));
  selector<float16>                    on_cpu({.threshold = 0.7f});
  selector<float16, simulator::stream> on_device({.threshold = 0.7f}, simulator::seeded(seed));
  for (unsigned layer = 0; layer < 2; ++layer) {
    device_rows<float16>      x(make_tokens<float16>(kind::clustered, 130, 32, seed, layer));
    hip::downloaded_selection got;
    REQUIRE(on_cpu(x.view()) == status::ok);
    REQUIRE(on_device(x.view()) == status::ok);
    REQUIRE(on_device.download(got) == status::ok);
    check_same(got, on_cpu.kept(), on_cpu.report());
  }
}

TEST_CASE("hip cascade: where the runtime breaks off a step, the next one selects in full", "[hip]") {
  constexpr index_t         T = 300;
  const selection_options   options{.threshold = 0.8f};
  device_rows<bfloat16>     first(make_tokens<bfloat16>(kind::clustered, T, 16, 4, 0));
  device_rows<bfloat16>     next(make_tokens<bfloat16>(kind::clustered, T, 16, 4, 1));
  cascade<bfloat16>         on_cpu(options), anew(options);
  hip::downloaded_selection got;
  REQUIRE(on_cpu.step(first.view()) == status::ok);
  const tests::owned_representatives inherited = tests::owned_representatives::of(on_cpu.kept());
  REQUIRE(on_cpu.step(next.view()) == status::ok);
  REQUIRE(anew.step(next.view()) == status::ok);
  int taken = 0;
  for (bool broken = true; broken; ++taken) {
    CAPTURE(taken);
    const simulator::stream              where = simulator::seeded(1);
    cascade<bfloat16, simulator::stream> walk(options, where), branch(options, where);
    REQUIRE(walk.step(first.view()) == status::ok);
    REQUIRE(branch.step(next.view()) == status::ok);

    const status forked = simulator::with_requests(where, taken, [&] { return walk.fork(branch); });
    CHECK((forked == status::ok ? branch.kept().tokens() == T : branch.kept().tokens() == 0));
    const status adopted = simulator::with_requests(where, taken, [&] { return branch.inherit(inherited.view()); });
    CHECK((adopted == status::ok || adopted == status::device_error));
    if (adopted != status::ok) REQUIRE(branch.inherit(inherited.view()) == status::ok);
    const status stepped = simulator::with_requests(where, taken, [&] { return branch.step(next.view()); });
    broken               = stepped != status::ok;
    CHECK((!broken || stepped == status::device_error));
    if (broken) {
      CHECK(branch.kept().tokens() == 0);
      CHECK(branch.report().tokens == 0);
      REQUIRE(branch.step(next.view()) == status::ok);
    }
    REQUIRE(branch.download(got) == status::ok);
    const auto& want = broken ? anew : on_cpu;
    check_same(got, want.kept(), want.report());
  }
  CHECK(taken > 5);
}

TEST_CASE("hip cascade: a step that fails on the device leaves the state", "[hip]") {
  const index_t                        T     = GENERATE(140, 820);
  simulator::stream                    where = simulator::seeded(4);
  const selection_options              options{.threshold = 0.8f, .max_representatives = 3 * T / 7};
  cascade<bfloat16, simulator::stream> on_device(options, where);
  cascade<bfloat16>                    on_cpu(options);
  hip::downloaded_selection            got;

  device_rows<bfloat16> spread(make_tokens<bfloat16>(kind::random, T, 16, 4, 0));
  CHECK(on_cpu.step(spread.view()) == status::too_many_representatives);
  CHECK(on_device.step(spread.view()) == status::ok);
  CHECK(on_device.download(got) == status::too_many_representatives);
  CHECK(got.rep.empty());
  CHECK(on_device.report().tokens == 0);

  for (unsigned layer = 0; layer < 2; ++layer) {  // the first of them selects in full
    device_rows<bfloat16> x(make_tokens<bfloat16>(kind::duplicates, T, 16, 4, layer));
    REQUIRE(on_cpu.step(x.view()) == status::ok);
    REQUIRE(on_device.step(x.view()) == status::ok);
    REQUIRE(on_device.download(got) == status::ok);
    check_same(got, on_cpu.kept(), on_cpu.report());
  }

  device_rows<bfloat16> broken(make_tokens<bfloat16>(kind::duplicates, T, 16, 4, 2));
  broken.data()[100 * 24 + 5] = from_float<bfloat16>(std::nanf(""));
  CHECK(on_cpu.step(broken.view()) == status::non_finite_token);
  CHECK(on_device.step(broken.view()) == status::ok);
  CHECK(on_device.download(got) == status::non_finite_token);
  CHECK(got.indices == to_vector(on_cpu.kept().indices));
  CHECK(got.rep == to_vector(on_cpu.kept().rep));
  CHECK(got.counts == to_vector(on_cpu.kept().counts));

  CHECK(on_device.step(spread.view()) == status::ok);
  CHECK(on_device.download(got) == status::too_many_representatives);
  CHECK(got.indices == to_vector(on_cpu.kept().indices));

  device_rows<bfloat16> next(make_tokens<bfloat16>(kind::duplicates, T, 16, 4, 3));
  REQUIRE(on_cpu.step(next.view()) == status::ok);
  REQUIRE(on_device.step(next.view()) == status::ok);
  REQUIRE(on_device.download(got) == status::ok);
  check_same(got, on_cpu.kept(), on_cpu.report());
}

TEST_CASE("hip cascade: what the device does not take", "[hip]") {
  cascade<bfloat16, simulator::stream> on_device;
  device_rows<bfloat16>                x(make_tokens<bfloat16>(kind::random, 10, 16, 1));
  auto                                 view = x.view();
  const auto                           said = [&](const matrix_view<const bfloat16>& rows) {
    const status answer = on_device.step(rows);
    return answer == status::unsupported_by_device ? std::string(message(answer)) : std::string();
  };
  CHECK(said({view.data, 10, 12, view.stride}) == "x.cols is no multiple of 8, as gfx942 needs it");
  CHECK(said({view.data, 10, (1 << 18) + 8, 1 << 19}) == "x.cols is more than 2^18, too much for gfx942");
  CHECK(said({view.data, 10, 8, 20}) == "x is not on 16-byte boundaries, row by row, as gfx942 needs it");
  CHECK(said({view.data + 1, 10, 8, 24}) == "x is not on 16-byte boundaries, row by row, as gfx942 needs it");
  CHECK(on_device.step({nullptr, 10, 16, 24}) == status::invalid_shape);
  cascade<bfloat16, simulator::stream> without_room({.max_representatives = 0});
  CHECK(without_room.step(view) == status::invalid_shape);
  REQUIRE(on_device.step(view) == status::ok);
  CHECK(on_device.step({view.data, 9, 16, 24}) == status::invalid_representatives);
  on_device.reset();
  CHECK(on_device.step({view.data, 9, 16, 24}) == status::ok);
}

TEST_CASE("hip cascade: after the first layer nothing is allocated, and no step waits", "[hip]") {
  const auto                           mode  = GENERATE(validation::exact, validation::cross_gram);
  simulator::stream                    where = simulator::seeded(2);
  cascade<bfloat16, simulator::stream> on_device({.threshold = 0.7f, .validate = mode}, where);
  for (unsigned layer = 0; layer < 3; ++layer) {
    device_rows<bfloat16> x(make_tokens<bfloat16>(kind::clustered, 130, 16, 2, layer));
    REQUIRE(on_device.step(x.view()) == status::ok);
    CHECK(where.calls->allocations == 1);
  }
  CHECK(where.calls->waits == 0);
  CHECK(where.calls->launches == 3 * (3 + 1) + (mode == validation::exact ? 0 : 2));  // one stretch
}

// As few as the README says, whatever the data.
TEST_CASE("hip cascade: the launches of a step", "[hip]") {
  const auto                    k          = GENERATE(kind::random, kind::duplicates);
  const auto                    assign     = GENERATE(assignment::lowest_index, assignment::nearest);
  const std::pair<index_t, int> expected[] = {{0, 2}, {1, 4}, {256, 4}, {257, 5}, {1024, 7}, {1025, 8}};
  for (const auto& [T, launches] : expected) {
    simulator::stream                   where = simulator::seeded(2);
    cascade<float16, simulator::stream> on_device({.threshold = 0.7f, .assign = assign}, where);
    device_rows<float16>                x(make_tokens<float16>(k, T, 8, 2));
    REQUIRE(on_device.step(x.view()) == status::ok);
    CAPTURE(T);
    CHECK(where.calls->launches == launches);
  }
}

// One buffer for the rows of every layer: all that changes between replays is what it holds.
TEST_CASE("hip cascade: a step as a graph", "[hip]") {
  const auto                           mode   = GENERATE(validation::exact, validation::cross_gram);
  const auto                           assign = GENERATE(assignment::lowest_index, assignment::nearest);
  constexpr index_t                    T = 270, d = 16;
  const selection_options              options{.threshold = 0.7f, .assign = assign, .validate = mode};
  simulator::stream                    where = simulator::capturable(2);
  cascade<bfloat16, simulator::stream> on_device(options, where);
  cascade<bfloat16>                    on_cpu(options);
  device_rows<bfloat16>                x(make_tokens<bfloat16>(kind::clustered, T, d, 2, 0));
  REQUIRE(on_device.step(x.view()) == status::ok);
  REQUIRE(on_cpu.step(x.view()) == status::ok);
  const simulator::graph graph = simulator::capture(where, [&] { REQUIRE(on_device.step(x.view()) == status::ok); });
  for (unsigned layer = 1; layer < 6; ++layer) {
    CAPTURE(layer);
    const device_rows<bfloat16> next(make_tokens<bfloat16>(kind::clustered, T, d, 2, layer));
    x.storage = next.storage;  // as long: it lies where it was
    graph.replay();
    REQUIRE(on_cpu.step(x.view()) == status::ok);
    hip::downloaded_selection got;
    REQUIRE(on_device.download(got) == status::ok);
    check_same(got, on_cpu.kept(), on_cpu.report());
    if (layer != 3) continue;
    REQUIRE(on_device.step(x.view()) == status::ok);  // between replays, a call
    REQUIRE(on_cpu.step(x.view()) == status::ok);
    const auto state = tests::random_state(T, 4);  // and an adopted state
    REQUIRE(on_device.inherit(state.view()) == status::ok);
    REQUIRE(on_cpu.inherit(state.view()) == status::ok);
  }
}

TEST_CASE("hip cascade: a first call as a graph", "[hip]") {
  simulator::stream                     where = simulator::capturable(2);
  cascade<bfloat16, simulator::stream>  walk({.threshold = 0.7f}, where), without({.threshold = 0.7f}, where);
  selector<bfloat16, simulator::stream> select({.threshold = 0.7f}, where);
  device_rows<bfloat16>                 x(make_tokens<bfloat16>(kind::clustered, 130, 16, 2, 0));
  device_rows<bfloat16>                 next(make_tokens<bfloat16>(kind::clustered, 130, 16, 2, 1));
  CHECK_THROWS(simulator::capture(where, [&] { (void)without.step(x.view()); }));
  REQUIRE(walk.reserve(130) == status::ok);
  REQUIRE(select.reserve(130) == status::ok);
  CHECK(walk.kept().tokens() == 0);
  CHECK(select.kept().tokens() == 0);
  const simulator::graph graph = simulator::capture(where, [&] {  // two layers
    REQUIRE(walk.step(x.view()) == status::ok);
    REQUIRE(select(x.view()) == status::ok);
    REQUIRE(walk.step(next.view()) == status::ok);
  });
  cascade<bfloat16>      want({.threshold = 0.7f});
  selector<bfloat16>     want_one({.threshold = 0.7f});
  REQUIRE(want_one(x.view()) == status::ok);
  REQUIRE(want.step(x.view()) == status::ok);
  REQUIRE(want.step(next.view()) == status::ok);
  for (int turn = 0; turn < 3; ++turn) {
    hip::downloaded_selection got;
    graph.replay();
    REQUIRE(walk.download(got) == status::ok);
    check_same(got, want.kept(), want.report());
    REQUIRE(select.download(got) == status::ok);
    check_same(got, want_one.kept(), want_one.report());
  }
  CHECK(std::string(message(walk.reserve(-1))) == "tokens is negative");
  CHECK(std::string(message(select.reserve(detail::largest_size + 1))) == "tokens is more than 2^31 - 4097");
  const hip::selection_layer view = walk.kept();
  REQUIRE(walk.reserve(130) == status::ok);
  CHECK_FALSE(view.stamp.stale());
  REQUIRE(walk.reserve(10) == status::ok);
  CHECK(view.stamp.stale());
  CHECK(walk.kept().tokens() == 0);
}

TEST_CASE("hip cascade: a fork goes its own way", "[hip]") {
  cascade<bfloat16, simulator::stream> trunk({.threshold = 0.7f}), branch({.threshold = 0.7f});
  cascade<bfloat16>                    want({.threshold = 0.7f});
  device_rows<bfloat16>                first(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 0));
  device_rows<bfloat16>                second(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 1));
  device_rows<bfloat16>                other(make_tokens<bfloat16>(kind::random, 70, 16, 9, 2));
  hip::downloaded_selection            got;
  REQUIRE(trunk.step(first.view()) == status::ok);
  REQUIRE(trunk.fork(branch) == status::ok);
  REQUIRE(trunk.step(other.view()) == status::ok);
  REQUIRE(branch.step(second.view()) == status::ok);
  REQUIRE(want.step(first.view()) == status::ok);
  REQUIRE(want.step(second.view()) == status::ok);
  REQUIRE(branch.download(got) == status::ok);
  check_same(got, want.kept(), want.report());
  check_same(got, want.kept(), branch.report());
  const hip::selection_layer view = branch.kept();
  REQUIRE(branch.fork(branch) == status::ok);
  CHECK_FALSE(view.stamp.stale());
  device_rows<bfloat16>                longer(make_tokens<bfloat16>(kind::clustered, 130, 16, 9, 3));
  cascade<bfloat16, simulator::stream> long_trunk({.threshold = 0.7f});
  REQUIRE(long_trunk.step(longer.view()) == status::ok);
  REQUIRE(long_trunk.fork(branch) == status::ok);
  CHECK(view.stamp.stale());
  CHECK(branch.kept().tokens() == 130);
  CHECK(branch.report().representatives == long_trunk.report().representatives);
  const std::vector<index_t> own = {0, 0}, one = {0}, two = {2};
  REQUIRE(branch.inherit({one, own, two}) == status::ok);
  CHECK(branch.report().tokens == 2);
  CHECK(branch.report().representatives == 1);
  branch.reset();
  CHECK(branch.report().tokens == 0);
  REQUIRE(branch.fork(trunk) == status::ok);  // nothing
  CHECK(trunk.kept().tokens() == 0);
}

TEST_CASE("hip cascade: what was moved from is as new, and an object that was assigned to has all that it was given",
          "[hip]") {
  using walking = cascade<bfloat16, simulator::stream>;
  cascade<bfloat16>         want({.threshold = 0.7f});
  device_rows<bfloat16>     first(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 0));
  device_rows<bfloat16>     second(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 1));
  device_rows<bfloat16>     shorter(make_tokens<bfloat16>(kind::random, 30, 16, 9, 2));
  hip::downloaded_selection got;
  walking                   source({.threshold = 0.7f}), target({.threshold = 0.9f});
  REQUIRE(source.step(first.view()) == status::ok);
  REQUIRE(target.step(shorter.view()) == status::ok);
  target = std::move(source);
  CHECK(source.kept().tokens() == 0);
  REQUIRE(source.download(got) == status::ok);
  CHECK(got.rep.empty());
  REQUIRE(target.step(second.view()) == status::ok);
  REQUIRE(want.step(first.view()) == status::ok);
  REQUIRE(want.step(second.view()) == status::ok);
  REQUIRE(target.download(got) == status::ok);
  check_same(got, want.kept(), want.report());

  cascade<bfloat16> anew({.threshold = 0.7f});  // with the options of what was moved
  REQUIRE(source.step(shorter.view()) == status::ok);
  REQUIRE(anew.step(shorter.view()) == status::ok);
  REQUIRE(source.download(got) == status::ok);
  check_same(got, anew.kept(), anew.report());

  selector<bfloat16, simulator::stream> select({.threshold = 0.7f});
  REQUIRE(select(first.view()) == status::ok);
  selector<bfloat16, simulator::stream> other(std::move(select));
  CHECK(other.kept().tokens() == 70);
  CHECK(select.kept().tokens() == 0);
  REQUIRE(select(shorter.view()) == status::ok);
  REQUIRE(select.download(got) == status::ok);
  CHECK(got.rep == to_vector(anew.kept().rep));
}

TEST_CASE("hip cascade: where memory runs out, the state stays as it was", "[hip]") {
  simulator::stream                     where;
  cascade<bfloat16, simulator::stream>  walk({.threshold = 0.7f}, where);
  selector<bfloat16, simulator::stream> select({.threshold = 0.7f}, where);
  cascade<bfloat16>                     want({.threshold = 0.7f});
  device_rows<bfloat16>                 first(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 0));
  device_rows<bfloat16>                 second(make_tokens<bfloat16>(kind::clustered, 70, 16, 9, 1));
  device_rows<bfloat16>                 longer(make_tokens<bfloat16>(kind::random, 300, 16, 9, 2));
  hip::downloaded_selection             got;
  const auto                            state = tests::random_state(300, 4);
  REQUIRE(walk.step(first.view()) == status::ok);
  REQUIRE(select(first.view()) == status::ok);
  const hip::selection_layer selected = select.kept();
  where.calls->most_allocations       = where.calls->allocations;
  CHECK(walk.inherit(state.view()) == status::device_error);
  CHECK(select(longer.view()) == status::device_error);
  CHECK_FALSE(selected.stamp.stale());
  CHECK(select.kept().tokens() == 70);
  REQUIRE(want.step(first.view()) == status::ok);
  REQUIRE(select.download(got) == status::ok);
  CHECK(got.rep == to_vector(want.kept().rep));
  REQUIRE(walk.step(second.view()) == status::ok);
  REQUIRE(want.step(second.view()) == status::ok);
  REQUIRE(walk.download(got) == status::ok);
  check_same(got, want.kept(), want.report());
}

TEST_CASE("hip cascade: an adopted state is there to be downloaded, without a report of a step", "[hip]") {
  cascade<bfloat16, simulator::stream> walk({.threshold = 0.7f});
  hip::downloaded_selection            got;
  const auto                           state = tests::random_state(70, 4);
  REQUIRE(walk.inherit(state.view()) == status::ok);
  REQUIRE(walk.download(got) == status::ok);
  CHECK(got.rep == state.rep);
  CHECK(got.indices == state.indices);
  CHECK(got.counts == state.counts);
  CHECK(got.report.gram.total() == 0);
  CHECK(!got.report.jaccard);
  walk.reset();
  REQUIRE(walk.download(got) == status::ok);
  CHECK(got.rep.empty());
}
