// Fewer queries than keys on the simulated gfx942: rows are, bit for bit, those of a call with all queries.

#include <set>
#include <string>

#include "hip/plain_attention.hpp"
#include "sample.hpp"

using namespace cascada;
using namespace tests;

namespace {

/// Modes that take fewer queries than keys, and where these may begin.
struct cut_mode {
  const char*       name;
  attention_options options;
  index_t           unit = 1;  // queries begin at multiples of it
};

const std::vector<cut_mode> cut_modes = {
    {"dense", {.keys = key_set::all}},
    {"window", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2}},
    {"window, chunks that no block begins with", {.keys = key_set::near, .window = 5, .chunk = 35, .sink_tokens = 0}},
    {"closed", closed({.window = 8, .chunk = 16, .leaf = 3})},
    {"closed, chunks of one", closed({.window = 4, .chunk = 1, .sink_tokens = 2, .leaf = 2, .moments = std::nullopt})},
    {"closed, one chunk", closed({.leaf = 3})},
    {"closed, by keys", {.window = 8, .chunk = 24, .leaf_threshold = 0.1f, .leaf = 3, .open = opening::none}},
    {"grouped", closed({.queries = query_set::grouped, .window = 8, .chunk = 24, .sink_tokens = 5}), 24},
    {"all opened", {.window = 8, .chunk = 16, .open = opening::all}},
    {"sliding window", {.keys = key_set::all, .sliding_window = 37}},
    {"sliding window, tiles that all of a block see", {.keys = key_set::all, .sliding_window = 75}},
    {"sliding window of one", {.keys = key_set::all, .sliding_window = 1}},
    {"sliding window, softcap", {.keys = key_set::all, .softcap = 2.0f, .sliding_window = 50}},
    {"dense, softcap", {.keys = key_set::all, .softcap = 2.0f}},
    {"window, softcap", {.keys = key_set::near, .window = 16, .chunk = 32, .sink_tokens = 2, .softcap = 1.0f}},
    {"closed, softcap", closed({.window = 8, .chunk = 16, .leaf = 3, .softcap = 1.5f})},
    {"opened, softcap", opened({.window = 8, .chunk = 32, .leaf = 4, .open_above = 0.05f, .tile = 4, .softcap = 3.0f}),
     32},
    {"opened, bands of several tiles", opened({.window = 8, .chunk = 32, .leaf = 4, .open_above = 0.05f, .tile = 4}),
     32},
    {"opened, tiles of one", opened({.window = 0, .chunk = 6, .leaf = 3, .open_above = 0.05f, .tile = 1}), 6},
    {"opened, tiles of more rows than a block",
     opened({.window = 8, .chunk = 48, .leaf = 4, .moments = 1, .open_above = 0.1f, .tile = 48}), 48},
    {"opened, by keys",
     {.window = 8, .chunk = 16, .leaf_threshold = 0.1f, .leaf = 4, .open_above = 0.05f, .tile = 8},
     16},
};

/// Rows [begin, end) of a sequence that has `end` tokens, by a chip that always adds alike.
template <class Scalar, class Out = float>
std::vector<float> attend_rows(const attention_options& options, const problem<Scalar>& p,
                               const std::vector<selection>& selections, index_t begin, index_t end,
                               const simulator::stream& where) {
  return attend_part<Out>(options, p, first_of(selections, end), begin, end, where);
}

/// Ends of pieces, at multiples of `unit` but for the last.
std::vector<index_t> ends_of_pieces(index_t T, index_t unit, unsigned seed) {
  std::mt19937         random(seed);
  std::vector<index_t> ends;
  for (index_t end = 0; end < T;) {
    const auto units = static_cast<index_t>(1 + random() % 3) * (unit > 1 || random() % 2 == 0 ? 1 : 11);
    ends.push_back(end = std::min(T, end + units * unit));
  }
  return ends;
}

template <class Scalar, class Out = float>
void check_pieces(const cut_mode& mode, const problem<Scalar>& p, const std::vector<selection>& selections,
                  unsigned seed) {
  const index_t T     = p.size.tokens;
  const auto    all   = attend_rows<Scalar, Out>(mode.options, p, selections, 0, T, simulator::steady(seed));
  const auto    ends  = ends_of_pieces(T, mode.unit, seed);
  index_t       begin = 0, tried = 0;
  for (const index_t end : ends) {
    CAPTURE(begin, end);
    if (end == T || tried++ % 3 == 0)  // of many pieces some
      CHECK(same_bits(attend_rows<Scalar, Out>(mode.options, p, selections, begin, end, simulator::steady(seed)),
                      part_of(all, p.size, begin, end)));
    begin = end;
  }
}

}  // namespace

TEMPLATE_TEST_CASE("hip decode: pieces of a prompt give what one call gives", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{70, 2, 1, 64, 64}, shape{100, 6, 2, 64, 64});  // blocks that begin inside a token
  const unsigned seed = GENERATE(from_range(sample(std::vector{1u, 2u})));
  for (const auto& mode : sample(cut_modes)) {
    CAPTURE(mode.name, size, seed);
    problem<TestType> p(size, seed);
    if (seed == 2)  // of each head its own
      give_sink_logits(p);
    check_pieces(mode, p, {random_selection(size.tokens, 0.3, seed)}, seed);
  }
}

TEMPLATE_TEST_CASE("hip decode: head sizes, and results in the type of the rows", "[hip]", ROW_TYPES) {
  const auto size = GENERATE(shape{70, 4, 1, 128, 128}, shape{60, 2, 2, 256, 256});
  for (const auto& mode : sample(cut_modes)) {
    CAPTURE(mode.name, size);
    check_pieces<TestType, TestType>(mode, problem<TestType>(size, 3), {random_selection(size.tokens, 0.3, 3)}, 3);
  }
}

TEST_CASE("hip decode: pieces with slopes", "[hip]") {
  problem<bfloat16> p({200, 4, 2, 64, 64}, 46);
  p.slopes = {0.5f, 0.1f, 0.02f, 0.0f};
  for (const cut_mode& mode : cut_modes) {
    if (mode.options.keys == key_set::representatives || detail::has_leaves(mode.options)) continue;
    CAPTURE(mode.name);
    check_pieces(mode, p, {random_selection(200, 0.3, 46)}, 46);
  }
}

TEST_CASE("hip decode: segments of a KV head whose selection has failed are not merged, others are", "[hip]") {
  const problem<bfloat16>      p({200, 4, 2, 64, 64}, 48);
  const std::vector<selection> good    = {random_selection(200, 0.3, 1), random_selection(200, 0.2, 2)};
  const attention_options      options = closed({.window = 8, .chunk = 16, .leaf = 3});
  const auto                   usual   = attend_rows(options, p, good, 199, 200, simulator::steady(8));
  device_heads<bfloat16>       q(rows_of(p.q.view(), 199, 200)), k(p.k.view()), v(p.v.view());
  for (const std::size_t failing : {0u, 1u}) {
    CAPTURE(failing);
    std::vector<device_selection> kept(good.begin(), good.end());
    kept[failing].count                            = -1;
    const std::vector<hip::selection_layer> layers = {kept[0].layer(), kept[1].layer()};
    device_heads<float>                     out(1, 4, 64);
    const simulator::stream                 where = simulator::steady(8);
    attention<bfloat16, simulator::stream>  attention(options, where);
    REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, layers, out.view()) == status::ok);
    const auto got = out.packed();
    for (std::size_t i = 0; i < got.size(); ++i) REQUIRE((i / 128 == failing ? got[i] != got[i] : got[i] == usual[i]));
  }
}

TEST_CASE("hip decode: log-sum-exps of pieces", "[hip]") {
  problem<bfloat16> p({200, 2, 1, 64, 64}, 47);
  p.sink_logits     = {1.0f, -1.0f};
  const auto chosen = random_selection(200, 0.3, 47);
  for (const cut_mode& mode : cut_modes) {
    CAPTURE(mode.name);
    const auto sums_of = [&](index_t begin) {
      device_heads<bfloat16>                 q(rows_of(p.q.view(), begin, 200)), k(p.k.view()), v(p.v.view());
      device_heads<float>                    out(200 - begin, 2, 64);
      device_selection                       kept(chosen);
      std::vector<float>                     sums(static_cast<std::size_t>(200 - begin) * 2, -777.0f);
      attention<bfloat16, simulator::stream> attention(mode.options, simulator::steady(7));
      REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, kept.layer(), out.view(),
                        {.sink_logits = p.sink_logits, .log_sum_exp = {sums.data(), 200 - begin, 2, 2}}) == status::ok);
      return sums;
    };
    const index_t begin = std::min(199, 199 / mode.unit * mode.unit);
    const auto    all = sums_of(0), last = sums_of(begin);
    CHECK(std::vector<float>(all.begin() + begin * 2, all.end()) == last);
  }
}

TEST_CASE("hip decode: a selection for each KV head", "[hip]") {
  const problem<bfloat16> p({70, 4, 2, 64, 64}, 14);
  for (const auto& mode : sample(cut_modes)) {
    if (mode.options.keys != key_set::near_and_far || mode.options.open == opening::all) continue;
    CAPTURE(mode.name);
    check_pieces(mode, p, {random_selection(70, 0.1, 1), random_selection(70, 0.5, 2)}, 5);
  }
}

TEST_CASE("hip decode: one token after the other", "[hip]") {
  const shape             size = {50, 3, 1, 64, 64};
  const problem<bfloat16> p(size, 4);
  const auto              chosen = random_selection(50, 0.3, 4);
  for (const auto& options : {attention_options{.keys = key_set::all}, closed({.window = 4, .chunk = 8, .leaf = 3})}) {
    const auto all = attend_rows(options, p, {chosen}, 0, 50, simulator::steady(4));
    for (index_t t = 30; t < 50; ++t) {
      CAPTURE(t);
      CHECK(same_bits(attend_rows(options, p, {chosen}, t, t + 1, simulator::steady(4)), part_of(all, size, t, t + 1)));
    }
  }
}

TEMPLATE_TEST_CASE("hip decode: as many segments as there may be", "[hip]", ROW_TYPES) {
  // More than are read at once; of near keys and of leaves. With a sink, once for all segments.
  const shape             size = {600, 1, 1, 64, 64};
  const auto              mode = GENERATE(0, 1, 2, 3);
  const attention_options options =
      mode == 0   ? attention_options{.keys = key_set::all}
      : mode == 3 ? attention_options{.keys = key_set::all, .sliding_window = 290}
                  : closed({.window = 40, .chunk = mode == 1 ? 32 : 300, .leaf = 3 - mode, .moments = std::nullopt});
  problem<TestType> p(size, 9);
  p.sink_logits                       = {4.0f};
  const std::vector<selection> chosen = {random_selection(600, 0.3, 9)};
  const auto late = attend_rows(options, p, chosen, 300, 600, simulator::steady(3));  // one segment after the other
  for (const index_t end : {450, 600}) {
    CAPTURE(mode, end);
    CHECK(same_bits(attend_rows(options, p, chosen, end - 3, end, simulator::steady(3)),
                    part_of(late, size, end - 303, end - 300)));
  }
  const auto exact = reference::attention(p.template input<double>(), assignments(chosen), options).out;
  const auto from  = tests::row_of(size, 300);
  double     worst = 0;
  for (std::size_t i = 0; i < late.size(); ++i) worst = larger(worst, std::fabs(late[i] - exact[from + i]));
  CHECK(worst < 0.02);
}

TEST_CASE("hip decode: as many segments as there may be where all leaves open", "[hip]") {
  // Leaves of two. The keys before their tokens end with a segment that is not full; or there are more of the tokens.
  const index_t           T       = GENERATE(97, 321);
  const attention_options options = opened(
      {.window = 0, .chunk = 1, .sink_tokens = 0, .leaf = 2, .moments = std::nullopt, .open_above = 1e-30f, .tile = 1});
  const problem<bfloat16> p({T, 1, 1, 64, 64}, 9);
  const selection         chosen(std::vector<index_t>(static_cast<std::size_t>(T), 0));
  const auto              last = attend_rows(options, p, {chosen}, T - 3, T, simulator::steady(3));
  CHECK(same_bits(attend_rows(options, p, {chosen}, T - 1, T, simulator::steady(3)), part_of(last, p.size, 2, 3)));
}

TEST_CASE("hip decode: leaves of several segments ask and open", "[hip]") {
  constexpr index_t       T       = 320;  // of which the last tokens are a band
  const bool              capped  = GENERATE(false, true);
  const attention_options options = opened({.window     = 8,
                                            .chunk      = 32,
                                            .leaf       = 2,
                                            .open_above = 0.012f,
                                            .tile       = 4,
                                            .softcap    = capped ? std::optional(5.0f) : std::nullopt});
  const problem<bfloat16> p({T, 1, 1, 64, 64}, 5);
  const selection         chosen = random_selection(T, 0.1, 5);
  const auto              late   = attend_rows(options, p, {chosen}, T - 96, T, simulator::steady(3));
  CHECK(same_bits(attend_rows(options, p, {chosen}, T - 32, T, simulator::steady(3)), part_of(late, p.size, 64, 96)));
  double     worst = 0;
  const auto exact = reference::attention(p.input<double>(), assignments({chosen}), options);
  for (std::size_t i = 0; i < late.size(); ++i)
    if (margin(exact, T - 96 + i / 64) >= undecided)
      worst = larger(worst, std::fabs(late[i] - exact.out[(T - 96) * 64 + i]));
  CHECK(worst < 0.02);  // weights and leaves' means have 8 bits
  CHECK(exact.opened.back() > 64);
  CHECK(exact.opened.back() < T - 80);
}

TEST_CASE("hip decode: near + far without a far field is dense, bit for bit", "[hip]") {
  const shape             size = {170, 6, 2, 64, 64};
  const problem<bfloat16> p(size, 7);
  const auto              chosen = random_selection(170, 0.2, 7);
  const auto              options =
      GENERATE(closed({.window = 170, .chunk = 35}), closed({.chunk = std::numeric_limits<index_t>::max()}),
               attention_options{.window = 8, .chunk = 16, .open = opening::all});
  const auto dense = attend_rows({.keys = key_set::all}, p, {chosen}, 0, 170, simulator::steady(7));
  CHECK(same_bits(attend_rows(options, p, {chosen}, 0, 170, simulator::steady(7)), dense));
  CHECK(same_bits(attend_rows(options, p, {chosen}, 163, 170, simulator::steady(7)), part_of(dense, size, 163, 170)));
}

TEST_CASE("hip decode: rows that see only logits of -infinity are zero, and a large one gives its value", "[hip]") {
  const shape       size = {300, 2, 1, 64, 64};
  problem<bfloat16> p(size, 5);
  p.q.fill([] { return 1.0f; });
  p.k.fill([] { return -std::numeric_limits<float>::infinity(); }, 0);
  for (index_t c = 0; c < 64; ++c) {
    p.k.view().row(250, 0)[c] = from_float<bfloat16>(0.0f);
    p.k.view().row(290, 0)[c] = from_float<bfloat16>(100.0f);  // outweighs all of the segments before
  }
  for (const index_t begin : {0, 285}) {
    const auto rows = attend_rows({.keys = key_set::all}, p, {}, begin, 300, simulator::steady(5));
    for (index_t t = begin; t < 300; ++t)
      for (index_t c = 0; c < 128; ++c) {
        const float got = rows[static_cast<std::size_t>((t - begin) * 128 + c)];
        REQUIRE(got == (t < 250 ? 0.0f : to_float(p.v.view().row(t < 290 ? 250 : 290, 0)[c % 64])));
      }
  }
}

TEST_CASE("hip decode: without causal, any number of queries for any number of keys", "[hip]") {
  const attention_options options = {.keys = key_set::all, .causal = false};
  const shape             size    = {70, 2, 1, 64, 64};
  const problem<bfloat16> p(size, 6);
  const auto              all    = attend_rows(options, p, {}, 0, 70, simulator::steady(6));
  const auto              answer = [&](index_t begin, index_t end, index_t keys) {
    device_heads<bfloat16> q(tests::rows_of(p.q.view(), begin, end));
    device_heads<bfloat16> k(tests::rows_of(p.k.view(), 0, keys)), v(tests::rows_of(p.v.view(), 0, keys));
    device_heads<float>    out(end - begin, 2, 64);
    attention<bfloat16, simulator::stream> attention(options, simulator::steady(6));
    REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, out.view()) == status::ok);
    return out.packed();
  };
  CHECK(same_bits(answer(11, 30, 70), part_of(all, size, 11, 30)));
  const auto few = answer(0, 70, 21);  // more queries than keys
  CHECK_FALSE(same_bits(few, all));
  CHECK(same_bits(answer(40, 70, 21), part_of(few, size, 40, 70)));
  for (const float x : answer(0, 3, 0)) CHECK(x == 0);
}

TEST_CASE("hip decode: ragged batches of queries and keys", "[hip]") {
  const auto options = GENERATE(attention_options{.keys = key_set::all}, closed({.window = 8, .chunk = 16, .leaf = 3}),
                                opened({.window = 8, .chunk = 16, .leaf = 4, .open_above = 0.05f, .tile = 16}));
  problem<bfloat16> p({120, 2, 1, 64, 64}, 8);
  p.sink_logits = {1.0f, -0.5f};
  // Sequences of 40, 10, 0 and 64 keys, rows that nobody reads, and 8, 0, 0 and 32 queries.
  const std::vector<index_t>        key_offsets = {0, 40, 50, 50, 114}, query_offsets = {0, 8, 8, 8, 40};
  device_heads<bfloat16>            q(40, 2, 64), k(p.k.view()), v(p.v.view());
  device_heads<float>               out(40, 2, 64);
  const std::vector<selection>      chosen = {random_selection(40, 0.3, 1), random_selection(10, 0.3, 2),
                                              identity_selection(0), random_selection(64, 0.3, 3)};
  std::vector<device_selection>     kept(chosen.begin(), chosen.end());
  std::vector<hip::selection_layer> layers;
  for (auto& one : kept) layers.push_back(one.layer());
  const auto copy_queries = [&](index_t from, index_t begin, index_t end) {
    for (index_t t = begin; t < end; ++t)
      for (index_t h = 0; h < 2; ++h) std::copy_n(p.q.view().row(from + t - begin, h), 64, q.view().row(t, h));
  };
  copy_queries(32, 0, 8), copy_queries(82, 8, 40);
  simulator::stream                      where = simulator::steady(7);
  attention<bfloat16, simulator::stream> attention(options, where);
  REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, layers, out.view(),
                    {.query_offsets = query_offsets, .key_offsets = key_offsets, .sink_logits = p.sink_logits}) ==
          status::ok);
  CHECK(where.calls->allocations <= 1);
  const auto together = out.packed();
  const auto alone    = [&](index_t key_begin, index_t tokens, index_t asking, const selection& own) {
    problem<bfloat16> one({tokens, 2, 1, 64, 64}, 1);
    one.sink_logits = p.sink_logits;
    for (auto [to, from] : {std::pair{&one.q, &p.q}, {&one.k, &p.k}, {&one.v, &p.v}})
      for (index_t t = 0; t < tokens; ++t)
        for (index_t h = 0; h < to->view().heads; ++h)
          std::copy_n(from->view().row(key_begin + t, h), 64, to->view().row(t, h));
    return attend_rows(options, one, {own}, tokens - asking, tokens, simulator::steady(7));
  };
  CHECK(same_bits(part_of(together, p.size, 0, 8), alone(0, 40, 8, chosen[0])));
  CHECK(same_bits(part_of(together, p.size, 8, 40), alone(50, 64, 32, chosen[3])));
}

namespace {

/// A stream with slices, segments and blocks as on the chip.
struct usual_stream : simulator::stream {};

/// The workspace for the last queries of 640 tokens.
template <class Stream>
std::size_t bytes_of(const attention_options& options, index_t asking) {
  return hip::device_memory<Stream>::bytes_of([&](hip::carver& from) {
    hip::attention::attention_memory<bfloat16, Stream>{}.cut(from, options, {640, 1, 1, 64, asking});
  });
}

}  // namespace

TEST_CASE("hip decode: a call costs what its queries need", "[hip]") {
  const auto              options = closed({.window = 4, .chunk = 8, .leaf = 3});
  const problem<bfloat16> p({640, 1, 1, 64, 64}, 4);
  const auto              chosen = random_selection(640, 0.3, 4);
  const auto              blocks = [&](const attention_options& with, index_t asking) {
    const simulator::stream where = simulator::steady(4);
    attend_rows(with, p, {chosen}, 640 - asking, 640, where);
    return where.calls->blocks;
  };
  CHECK(blocks({.keys = key_set::all}, 1) == 10 + 1);  // segments of 64 keys, and what merges them
  CHECK(blocks({.keys = key_set::near, .window = 16, .chunk = 16}, 17) == 2);  // one segment
  CHECK(blocks({.keys = key_set::all, .sliding_window = 120}, 1) == 4 + 1);    // of 120 keys, and 128 in a block
  // Of 80 chunks, those that ask have far fields, of 3 blocks, and 11 segments; of rows 4 are merged by a block.
  CHECK(blocks(options, 9) - blocks(options, 1) == 3 + 11 + 2);

  // Lists of far fields are there for the chunks that ask, or for a slice of them.
  CHECK(bytes_of<usual_stream>(options, 25) - bytes_of<usual_stream>(options, 17) <=
        2 * 640 * sizeof(index_t) + 8 * 2 * 69 * sizeof(float) + 512);
  CHECK(bytes_of<usual_stream>(options, 640) - bytes_of<usual_stream>(options, 17) >= 77 * 2 * 640 * sizeof(index_t));
  CHECK(bytes_of<simulator::stream>(options, 640) == bytes_of<simulator::stream>(options, 17));
}

TEST_CASE("hip decode: after a selection that failed nothing is written", "[hip]") {
  const problem<bfloat16> p({64, 2, 1, 64, 64}, 8);
  device_heads<bfloat16>  q(tests::rows_of(p.q.view(), 56, 64)), k(p.k.view()), v(p.v.view());
  device_selection        failed(identity_selection(64));
  failed.count = -1;
  for (const auto& options : {closed({.window = 8, .chunk = 8}), opened({.window = 8, .chunk = 8, .tile = 8})}) {
    device_heads<float>                    out(8, 2, 64);
    attention<bfloat16, simulator::stream> attention(options, simulator::seeded(1));
    for (index_t t = 0; t < 8; ++t) std::fill_n(out.view().row(t, 0), 128, 7.0f);
    REQUIRE(attention(q.view(), strided_kv<bfloat16>{k.view(), v.view()}, failed.layer(), out.view()) == status::ok);
    for (const float x : out.packed()) REQUIRE(x == 7);
  }
}

TEST_CASE("hip decode: beginnings that are refused, each with its sentence", "[hip]") {
  const problem<bfloat16> p({64, 2, 1, 64, 64}, 8);
  const auto              chosen = random_selection(64, 0.3, 8);
  device_selection        kept(chosen);
  device_heads<bfloat16>  k(p.k.view()), v(p.v.view());
  device_heads<float>     out(64, 2, 64);
  const auto answer = [&](const attention_options& options, index_t asking, const attention_call& call = {}) {
    device_heads<bfloat16> q(tests::rows_of(p.q.view(), 64 - asking, 64));
    auto                   to                    = out.view();
    to.tokens                                    = asking;
    simulator::stream                      where = simulator::seeded(1);
    attention<bfloat16, simulator::stream> attention(options, where);
    const strided_kv<bfloat16>             kv     = {k.view(), v.view()};
    const status                           result = attention(q.view(), kv, kept.layer(), to, call);
    CHECK((result == status::ok) == (where.calls->launches > 0));
    return result;
  };
  const auto    by_tiles  = opened({.window = 8, .chunk = 32, .tile = 8});
  const index_t offsets[] = {0, 32};
  CHECK(answer(by_tiles, 32) == status::ok);
  const status band = answer(by_tiles, 8), tile = answer(by_tiles, 7);
  CHECK(band == status::unsupported_by_device);
  CHECK(std::string(message(band)) ==
        "queries begin inside a band of tiles, which on gfx942 share a list of opened tokens");
  CHECK(tile == status::unsupported);
  const status grouped = answer(closed({.queries = query_set::grouped, .window = 8, .chunk = 32}), 8);
  CHECK(grouped == status::unsupported);
  const status lifted = answer({.keys = key_set::representatives, .queries = query_set::representatives}, 8);
  CHECK(lifted == status::unsupported);
  const status keys = answer({.keys = key_set::all}, 32, {.query_offsets = offsets});
  CHECK(keys == status::invalid_shape);
  CHECK(std::string(message(keys)) == "kv.tokens() differs from q.tokens, and key_offsets is empty");
  std::set<std::string> sentences;
  for (const status one : {band, tile, grouped, lifted, keys}) sentences.insert(message(one));
  CHECK(sentences.size() == 5);
  const auto rows = out.packed();  // the call that passed has written those that it was asked for
  for (std::size_t i = 0; i < rows.size(); ++i) REQUIRE((rows[i] == rows[i]) == (i < 32 * 128));
}
