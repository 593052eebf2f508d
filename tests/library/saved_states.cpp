// States as bytes: what was saved goes on as if it had never been, and all else is refused or harms nobody.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention_data.hpp"

#include "cascada/cascada.hpp"
#include "catch.hpp"
#include "sample.hpp"
#include "saved_bytes.hpp"
#include "tokens.hpp"

using namespace cascada;
using namespace tests;

namespace {

// Where numbers of a selection lie, behind threshold and assign, and of attention, behind T and the options.
constexpr std::size_t of_tokens = header_bytes + 8, of_count = of_tokens + 4, of_cols = of_count + 4,
                      of_rep = of_cols + 4, of_shape_words = header_bytes + 4 + 18 * 4, of_heads = of_shape_words + 12,
                      of_selection_words = of_heads + 4, of_end = of_selection_words + 4, of_slots = of_end + 4;

constexpr index_t tokens_of_selection = 330, cols_of_selection = 24;

/// A problem's sequence, whose state goes through bytes.
template <class Scalar, cpu_backend B = test_backend>
struct saved_sequence {
  const problem<Scalar>&        p;
  const std::vector<selection>& selections;
  attention<Scalar, B>          attend;
  attention_state<Scalar, B>    state = {};
  head_rows<Scalar>             out{p.size.tokens, p.size.heads, p.size.value_dim};

  status extend(index_t end) { return extend_to(end, attend, state, p.q, p.kv(), views(selections), out); }

  status load(std::span<const std::byte> bytes) { return attend.load(state, p.kv(), bytes); }

  std::vector<float> results() const { return out.template packed<float>(); }
};

const shape             shape_of_problem = {230, 6, 2, 20, 12};
const attention_options options_by_mass  = {
     .window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 8};

}  // namespace

TEMPLATE_TEST_CASE("saved: a selection goes on as if it had never been bytes", "[property]", float, bfloat16, float16) {
  const auto        assign  = GENERATE(assignment::lowest_index, assignment::nearest);
  const auto        kind    = GENERATE(kind::clustered, kind::random, kind::duplicates, kind::zero_rows);
  const auto        longest = GENERATE(1u, 9u, 200u);
  constexpr index_t T = tokens_of_selection, d = cols_of_selection;
  CAPTURE(assign, kind, longest);
  const auto lower = make_tokens<TestType>(kind, T, d, 3, 0), upper = make_tokens<TestType>(kind, T, d, 3, 1);
  const auto wide = make_tokens<TestType>(kind::random, 20, d + 5, 8);

  using selection_type = growing_selection<TestType>;
  const selection_options options{.threshold = 0.6f, .assign = assign};
  selection_type          below(options), plain(options), one(options);
  bool                    used = false;
  for (index_t begin = 0; const index_t end : random_ends(T, std::mt19937(5), longest)) {
    REQUIRE(below.extend(rows_of(lower, begin, end)) == status::ok);
    const auto inherited = below.kept().rep.subspan(static_cast<std::size_t>(begin));
    REQUIRE(plain.extend(rows_of(upper, begin, end), inherited) == status::ok);

    const saved_bytes bytes = bytes_of(one);
    selection_type    other(options);
    if (std::exchange(used, !used)) REQUIRE(other.extend(wide.view()) == status::ok);
    REQUIRE(other.load(bytes) == status::ok);
    CHECK(bytes_of(other) == bytes);
    CHECK(other.bytes() == one.bytes());
    CHECK(same_sets(other.kept(), one.kept()));
    CHECK(other.report().tokens == begin);
    CHECK(other.report().gram.total() == 0);
    REQUIRE(other.extend(rows_of(upper, begin, end), inherited) == status::ok);
    CHECK(same_sets(other.kept(), plain.kept()));
    CHECK(other.report().gram == plain.report().gram);
    REQUIRE(other.truncate(end) == status::ok);
    one = std::move(other), begin = end;
  }
  CHECK(one.kept().count() > 0);
}

TEST_CASE("saved: the bytes of a selection are the same on every instruction set", "[property]") {
  using other_backend = backend_without<isa::fma | isa::avx512f | isa::avx512dq | isa::avx512_bf16 | isa::amx_bf16>;
  const auto tokens   = make_tokens<float>(kind::clustered, tokens_of_selection, cols_of_selection, 1);
  growing_selection<float, test_backend>  here({.threshold = 0.6f});
  growing_selection<float, other_backend> there({.threshold = 0.6f});
  REQUIRE(here.extend(rows_of(tokens, 0, 200)) == status::ok);
  REQUIRE(there.extend(rows_of(tokens, 0, 200)) == status::ok);
  CHECK(bytes_of(here) == bytes_of(there));
  REQUIRE(there.load(bytes_of(here)) == status::ok);
  REQUIRE(here.extend(rows_of(tokens, 200, tokens_of_selection)) == status::ok);
  REQUIRE(there.extend(rows_of(tokens, 200, tokens_of_selection)) == status::ok);
  CHECK(same_sets(here.kept(), there.kept()));
}

TEMPLATE_TEST_CASE("saved: attention goes on as if it had never been bytes", "[attention]", float, bfloat16, float16) {
  auto all = modes_that_grow();
  all.push_back({"opened, tiles of one, more sinks than a chunk",
                 {.window = 4, .chunk = 8, .sink_tokens = 11, .leaf_threshold = 0.3f, .open_above = 0.02f, .tile = 1}});
  const mode m   = GENERATE_COPY(from_range(sample(all)));
  const bool own = GENERATE(false, true);  // selections of each KV head's own
  CAPTURE(m, own);
  const problem<TestType> p(shape_of_problem, 3), small({40, 3, 3, 5, 4}, 4);
  std::vector<selection>  s = {random_selection(p.size.tokens, 0.15, 4)}, few = {random_selection(40, 0.5, 6)};
  if (own) s.push_back(random_selection(p.size.tokens, 0.4, 5));
  const auto                              expected = attend<TestType>(m.options, p, s);
  const attention<TestType, test_backend> attend(m.options);
  for (const unsigned longest : {1u, 7u, 90u}) {
    CAPTURE(longest);
    saved_sequence<TestType> one{p, s, attend}, plain{p, s, attend};
    for (const index_t end : random_ends(p.size.tokens, std::mt19937(6), longest)) {
      const saved_bytes        bytes = bytes_of(one.state);
      saved_sequence<TestType> used{small, few, attention<TestType, test_backend>(m.options)};
      if (end % 2 == 0) REQUIRE(used.extend(40) == status::ok);
      one.state = std::move(used.state);
      REQUIRE(one.load(bytes) == status::ok);
      CHECK(bytes_of(one.state) == bytes);
      CHECK(one.state.tokens() == plain.state.tokens());
      CHECK(one.state.bytes() == plain.state.bytes());
      REQUIRE(one.extend(end) == status::ok);
      REQUIRE(plain.extend(end) == status::ok);
      CHECK(one.attend.report() == plain.attend.report());
    }
    CHECK(same_bits(one.results(), expected));
  }
}

TEST_CASE("saved: attention that was cut back", "[attention]") {
  const problem<float>         p(shape_of_problem, 3);
  problem<float>               other = p;
  const std::vector<selection> s     = {random_selection(p.size.tokens, 0.15, 4)};
  other.randomise(99, 100);
  const auto expected = attend<float>(options_by_mass, p, s);
  for (const index_t reached : {101, 107, 113, 160, 230})
    for (const index_t back : {0, 1, 48, 64, 95, 96, 97, 100}) {
      CAPTURE(reached, back);
      saved_sequence<float> branch{other, s, attention<float, test_backend>(options_by_mass)};
      for (index_t t = 5; t < reached; t += 5) REQUIRE(branch.extend(t) == status::ok);
      REQUIRE(branch.extend(reached) == status::ok);
      if (branch.state.truncate(back) != status::ok) continue;
      saved_sequence<float> one{p, s, attention<float, test_backend>(options_by_mass)};
      REQUIRE(one.load(bytes_of(branch.state)) == status::ok);
      CHECK(one.state.tokens() == back);
      // Back once more, as far as the branch could go.
      const index_t again = back - back % 8;
      if (back % 2 == 1) REQUIRE(one.state.truncate(again) == status::ok);
      const index_t begin = one.state.tokens();
      for (index_t t = begin + 3; t < p.size.tokens; t += 3) REQUIRE(one.extend(t) == status::ok);
      REQUIRE(one.extend(p.size.tokens) == status::ok);
      CHECK(same_bits(one.results(), expected, row_of(p.size, begin), expected.size()));
    }
}

TEST_CASE("saved: bytes of a selection that are refused leave it as it was", "[errors]") {
  constexpr index_t        T = 40, d = 6;
  const auto               tokens = make_tokens<float>(kind::clustered, T, d, 1);
  growing_selection<float> from({.threshold = 0.6f}), to({.threshold = 0.6f});
  REQUIRE(from.extend(tokens.view()) == status::ok);
  REQUIRE(to.extend(rows_of(tokens, 5, 25)) == status::ok);
  const saved_bytes bytes = bytes_of(from), before = bytes_of(to);
  const auto        refused = [&](std::span<const std::byte> some) {
    const status answer = to.load(some);
    CHECK(answer != status::ok);
    CHECK(bytes_of(to) == before);
    return std::string(message(answer));
  };
  const auto with = [&](std::size_t at, std::uint32_t number) { return refused(with_number(bytes, at, number)); };

  saved_bytes longer(bytes.size() + 1), shorter(bytes.size() - 1);
  CHECK(std::string(message(from.save(longer))) == "bytes.size() is not saved_bytes()");
  CHECK(std::string(message(from.save(shorter))) == "bytes.size() is not saved_bytes()");
  CHECK(std::all_of(longer.begin(), longer.end(), [](std::byte b) { return b == std::byte{0}; }));
  CHECK(std::string(message(from.save({static_cast<std::byte*>(nullptr), bytes.size()}))) == "bytes is null");

  CHECK(refused({}) == "bytes is null");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string why = refused({bytes.data(), size});
    CHECK(why == (size < header_bytes + checksum_bytes ? "bytes is shorter than any saved state"
                                                       : "bytes is shorter or longer than what was saved"));
  }
  std::copy(bytes.begin(), bytes.end(), longer.begin());
  CHECK(refused(longer) == "bytes is shorter or longer than what was saved");
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    saved_bytes flipped = bytes;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;
    const std::string why = refused(flipped);
    if (bit >= 8 * header_bytes) CHECK(why == "bytes is not what was saved: the checksum differs");
  }

  // What has the right checksum.
  CHECK(with(0, 7) == "bytes is no saved state");
  CHECK(with(8, 2) == "bytes has another version of the format");
  CHECK(with(12, 2) == "bytes is the state of another kind of object");
  CHECK(with(16, 2) == "bytes is the state for rows of another type");
  CHECK(with(header_bytes, 0x3f000000) == "bytes is a selection with another threshold or assign");
  CHECK(with(header_bytes + 4, 1) == "bytes is a selection with another threshold or assign");
  const char* const sizes = "bytes has sizes that do not add up to its length";
  for (const std::uint32_t number : {0u, 1u, 39u, 41u, 0x7f000000u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    CAPTURE(number);
    CHECK(with(of_tokens, number) == sizes);
    CHECK(with(of_count, number) == sizes);
    if (number != 6) CHECK(with(of_cols, number) == sizes);
  }
  const auto r = static_cast<std::uint32_t>(from.kept().count());
  REQUIRE(r < 38);
  const char* const none = "bytes has a token whose representative does not stand for itself";
  CHECK(with(of_rep, 1) == none);
  CHECK(with(of_rep + 4 * 20, 21) == none);
  CHECK(with(of_rep + 4 * 20, 0xffffffffu) == none);
  std::size_t other = 1;
  while (from.kept().rep[other] == static_cast<index_t>(other)) ++other;
  CHECK(with(of_rep + 4 * other, static_cast<std::uint32_t>(other)) == "bytes has not one row for each representative");
  std::size_t later = other + 1;
  while (from.kept().rep[later] == static_cast<index_t>(later)) ++later;
  CHECK(with(of_rep + 4 * later, static_cast<std::uint32_t>(other)) == none);
  const std::size_t of_rows = of_rep + 4 * T;
  for (const std::uint32_t number : {0x7f800000u, 0xff800000u, 0x7fc00001u, 0x7f000000u})
    CHECK(with(of_rows, number) == "bytes has a row with NaN or Inf, or whose squared norm overflows");

  growing_selection<float> capped({.threshold = 0.6f, .max_representatives = static_cast<index_t>(r) - 1});
  CHECK(capped.load(bytes) == status::too_many_representatives);
  CHECK(capped.kept().tokens() == 0);
  growing_selection<bfloat16> narrow({.threshold = 0.6f});
  CHECK(std::string(message(narrow.load(bytes))) == "bytes is the state for rows of another type");

  // A selection of no tokens, and one with nothing but the shortest payload.
  growing_selection<float> nothing({.threshold = 0.6f});
  REQUIRE(to.load(bytes_of(nothing)) == status::ok);
  CHECK(to.kept().tokens() == 0);
  saved_bytes empty(header_bytes + checksum_bytes);
  std::copy_n(bytes.begin(), header_bytes, empty.begin());
  seal(empty);
  CHECK(std::string(message(to.load(empty))) == "bytes is a selection with another threshold or assign");
}

TEST_CASE("saved: bytes of attention that are refused leave the state as it was", "[attention][errors]") {
  const problem<float>         p({75, 4, 2, 6, 5}, 3);
  const std::vector<selection> s       = {random_selection(p.size.tokens, 0.15, 4)};
  const attention_options      options = {
           .window = 4, .chunk = 16, .leaf_threshold = 0.2f, .leaf = 4, .open_above = 0.01f, .tile = 8};
  saved_sequence<float> from{p, s, attention<float, test_backend>(options)},
      to{p, s, attention<float, test_backend>(options)};
  REQUIRE(from.extend(75) == status::ok);
  REQUIRE(from.attend.report().opened > 0);
  REQUIRE(to.extend(50) == status::ok);
  const saved_bytes bytes = bytes_of(from.state), before = bytes_of(to.state);
  const auto        refused = [&](std::span<const std::byte> some) {
    const status answer = to.load(some);
    CHECK(answer != status::ok);
    CHECK(bytes_of(to.state) == before);
    return std::string(message(answer));
  };
  const auto with = [&](std::size_t at, std::uint32_t number) { return refused(with_number(bytes, at, number)); };

  saved_bytes longer(bytes.size() + 1);
  CHECK(std::string(message(from.state.save(longer))) == "bytes.size() is not saved_bytes()");
  for (std::size_t size = 0; size < bytes.size(); ++size) refused({bytes.data(), size});
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    saved_bytes flipped = bytes;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;
    refused(flipped);
  }

  CHECK(with(12, 1) == "bytes is the state of another kind of object");
  CHECK(with(16, 3) == "bytes is the state for rows of another type");
  for (std::size_t word = 0; word < 18; ++word)
    CHECK(with(header_bytes + 4 + 4 * word, 12345) == "bytes is the state of attention with other options");
  for (std::size_t word = 0; word < 3; ++word)
    CHECK(with(of_shape_words + 4 * word, 7) == "bytes is the state for keys and values of another shape");
  const char* const sizes = "bytes has sizes that do not add up to its length";
  CHECK(with(header_bytes, 0) == sizes);
  CHECK(with(header_bytes, 0x80000000u) == sizes);
  CHECK(with(header_bytes, 76) == "kv.tokens() is less than the tokens of the state in bytes");
  for (const std::uint32_t heads : {0u, 3u, 0xfffffffeu})
    CHECK(with(of_heads, heads) == "bytes has query heads that are no multiple of its KV heads");
  const char* const clusters = "bytes has clusters of other tokens than a far field's";
  for (const std::uint32_t number : {0u, 3u, 0xffffffffu}) CHECK(with(of_selection_words, number) == clusters);
  for (const std::uint32_t number : {0u, 59u, 61u, 0xffffffffu}) CHECK(with(of_end, number) == clusters);
  CHECK(with(header_bytes, 50) == clusters);
  const char* const numbered = "bytes has clusters that are not numbered by their first tokens";
  CHECK(with(of_slots, 1) == numbered);
  CHECK(with(of_slots + 4 * 30, 0xffffffffu) == numbered);
  CHECK(with(of_slots + 4 * 30, 100) == numbered);
  // Tile 8 has tokens 64 to 71: 8 counts, and leaves.
  const std::size_t of_tile = of_slots + 4 * 60, of_seen = of_tile + 4, of_leaves = of_seen + 4 * 8;
  const char* const opened = "bytes has open leaves that its last tiles cannot have";
  for (const std::uint32_t number : {1u, 7u, 9u, 0xffffffffu}) CHECK(with(of_tile, number) == opened);
  for (const std::uint32_t number : {0xffffffffu, 60u, 0x7fffffffu}) CHECK(with(of_seen + 4 * 7, number) == opened);
  std::uint32_t open = 0, first = 0;
  std::memcpy(&open, bytes.data() + of_leaves - 4, sizeof open);
  std::memcpy(&first, bytes.data() + of_leaves, sizeof first);
  REQUIRE(open > 1);
  CHECK(with(of_seen, open + 1) == opened);
  for (const std::uint32_t number : {0xffffffffu, 60u, 0x7fffffffu}) CHECK(with(of_leaves, number) == opened);
  CHECK(with(of_leaves + 4, first) == opened);  // twice

  // Other arguments.
  const attention_options        other = {.window = 4, .chunk = 16};
  attention<float, test_backend> attend(other), dense({.keys = key_set::all}), grouped(modes[5].options);
  const auto                     message_of = [&](auto& with_options, const strided_kv<float>& kv) {
    const std::string why(message(with_options.load(to.state, kv, bytes)));
    CHECK(bytes_of(to.state) == before);
    return why;
  };
  CHECK(message_of(attend, p.kv()) == "bytes is the state of attention with other options");
  CHECK(message_of(dense, p.kv()) == "bytes is the state of attention with other options");
  CHECK(message_of(grouped, p.kv()) ==
        "options.queries == grouped cannot grow: tokens of a chunk use queries of earlier calls");
  strided_kv<float> kv = p.kv();
  kv.keys.tokens = kv.values.tokens = 74;
  CHECK(message_of(from.attend, kv) == "kv.tokens() is less than the tokens of the state in bytes");
  kv.keys.heads = kv.values.heads = 1;
  CHECK(message_of(from.attend, kv) == "bytes is the state for keys and values of another shape");
  kv.keys.heads = kv.values.heads = 0;
  CHECK(message_of(from.attend, kv) == "kv.keys.heads is less than 1");
  attention_state<bfloat16, test_backend> narrow;
  attention<bfloat16, test_backend>       of_narrow(options);
  CHECK(std::string(message(of_narrow.load(narrow, problem<bfloat16>(p.size, 3).kv(), bytes))) ==
        "bytes is the state for rows of another type");

  // Query heads are those of the saved state: another number is refused by the next call.
  REQUIRE(from.load(with_number(bytes, of_heads, 0x40000000u)) == status::ok);
  CHECK(std::string(message(from.extend(75))) == "ok");  // no queries
  CHECK(from.state.truncate(72) == status::ok);
  CHECK(std::string(message(from.extend(75))) == "state belongs to another number of query heads");

  // Nothing at all.
  REQUIRE(to.load(bytes_of(attention_state<float, test_backend>())) == status::ok);
  CHECK(to.state.tokens() == 0);
  CHECK(to.state.bytes() == 0);
  REQUIRE(to.extend(75) == status::ok);
  CHECK(same_bits(to.results(), attend_and_report<float>(options, p, p.kv(), s).out));
}

TEST_CASE("saved: a tile opened leaves of its own chunk's far field", "[attention][errors]") {
  const problem<float>         p({75, 4, 2, 6, 5}, 3);
  const std::vector<selection> s = {random_selection(p.size.tokens, 0.3, 4)};
  const attention_options      options{.window = 4, .chunk = 16, .leaf = 4, .open_above = 0.001f, .tile = 8};
  saved_sequence<float>        from{p, s, attention<float, test_backend>(options)}, to = from;
  // The largest number that is taken in the place of the first open leaf of the tile before the last, or of the last.
  const auto largest = [&](const saved_bytes& bytes, bool last) {
    const auto number = [&](std::size_t at) {
      index_t value = 0;
      std::memcpy(&value, bytes.data() + at, sizeof value);
      return value;
    };
    const auto  behind = [&](std::size_t tile) { return tile + 4 * static_cast<std::size_t>(number(tile)); };
    std::size_t tile   = of_slots + 4 * static_cast<std::size_t>(number(of_end));
    if (last) tile = behind(tile) + 4 + 4 * static_cast<std::size_t>(number(behind(tile)));
    REQUIRE(number(tile) > 0);
    REQUIRE(number(behind(tile)) > 0);
    index_t most = -1;
    for (index_t leaf = 0; leaf < 75; ++leaf)
      if (to.load(with_number(bytes, behind(tile) + 4, leaf)) == status::ok) most = leaf;
    return most;
  };
  REQUIRE(from.extend(64) == status::ok);
  const index_t alone = largest(bytes_of(from.state), true);
  REQUIRE(from.extend(66) == status::ok);
  CHECK(largest(bytes_of(from.state), false) == alone);
  CHECK(largest(bytes_of(from.state), true) > alone);
}

TEST_CASE("saved: bytes that someone made up are refused, or harm nobody", "[errors]") {
  std::minstd_rand random(11);
  int              loaded = 0;
  SECTION("a selection") {
    const auto               tokens = make_tokens<float>(kind::clustered, 60, 5, 1);
    growing_selection<float> whole({.threshold = 0.6f});
    REQUIRE(whole.extend(rows_of(tokens, 0, 40)) == status::ok);
    const saved_bytes bytes = bytes_of(whole);
    for (int round = 0; round < 3000; ++round) {
      growing_selection<float> one = whole;
      if (one.load(made_up(bytes, round % 2 == 0 ? of_tokens : of_rep, random)) != status::ok) {
        CHECK(bytes_of(one) == bytes);
        continue;
      }
      ++loaded;
      const index_t before = one.kept().tokens();
      REQUIRE(check(one.kept(), before) == status::ok);
      if (one.extend(rows_of(tokens, 40, 60)) != status::ok) continue;
      CHECK(check(one.kept(), before + 20) == status::ok);
      CHECK(one.truncate(before / 2) == status::ok);
      CHECK(check(one.kept(), before / 2) == status::ok);
    }
  }
  SECTION("attention") {
    const problem<float>         p({90, 4, 2, 6, 5}, 3);
    const std::vector<selection> s       = {random_selection(p.size.tokens, 0.3, 4)};
    const attention_options      options = {
             .window = 4, .chunk = 16, .leaf_threshold = 0.2f, .leaf = 4, .open_above = 0.01f, .tile = 8};
    saved_sequence<float> whole{p, s, attention<float, test_backend>(options)};
    REQUIRE(whole.extend(75) == status::ok);
    const saved_bytes bytes = bytes_of(whole.state);
    for (int round = 0; round < 3000; ++round) {
      saved_sequence<float> one = whole;
      if (one.load(made_up(bytes, round % 2 == 0 ? of_heads : of_slots, random)) != status::ok) {
        CHECK(bytes_of(one.state) == bytes);
        continue;
      }
      ++loaded;
      if (one.extend(80) != status::ok) continue;
      CHECK(one.extend(90) == status::ok);
      CHECK(one.state.truncate(32) == status::ok);
      CHECK(one.extend(90) == status::ok);
    }
  }
  CHECK(loaded > 20);
}
