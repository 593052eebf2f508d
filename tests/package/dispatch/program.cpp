// Every class of cascada/dispatch.hpp on every level that runs here, beside the plain classes of this translation unit,
// which is compiled for the least of the levels. The library has rows of float alone.
//
//   program [LEVEL]      LEVEL: what has to be the best here
//
// Prints the best level, and what all levels have in common as a number. Exit code 1, with a sentence, on a fault.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "cascada/cascada.hpp"
#include "cascada/dispatch.hpp"

using namespace cascada;

namespace {

constexpr index_t T = 150, d = 24, heads = 4, kv_heads = 2, dim = 16, block = 16;

int faults = 0;

void expect(bool holds, const char* sentence, const char* where = "") {
  if (!holds) std::printf("%s%s%s\n", where, *where ? ": " : "", sentence), ++faults;
}

/// Small integers; tokens t and t + 20 differ in a few columns.
float element(index_t token, index_t column, index_t layer) {
  const auto home = static_cast<std::uint32_t>(token % 20 * 64 + column) * 2654435761u;
  const auto move = static_cast<std::uint32_t>((token * 64 + column) * 8 + layer) * 2246822519u;
  return static_cast<float>(static_cast<int>(home >> 28) - 8 +
                            (move >> 29 == 0 ? static_cast<int>(move >> 24 & 7) : 0));
}

std::vector<float> rows(index_t tokens, index_t columns, index_t layer, float scale = 1) {
  std::vector<float> all;
  for (index_t t = 0; t < tokens; ++t)
    for (index_t c = 0; c < columns; ++c) all.push_back(element(t, c, layer) * scale);
  return all;
}

/// Runs its calls one by one and counts them.
struct counting_executor {
  std::atomic<int>* calls;

  index_t concurrency() const { return 2; }
  template <class Function>
  void parallel_for(index_t count, Function&& function) const {
    ++*calls;
    for (index_t i = count; i-- > 0;) function(i);
  }
};

/// What one set of classes makes of the data.
struct results {
  std::vector<index_t> sets;        // rep, one selection after the other
  std::vector<float>   rows;        // of attention, one call after the other
  std::vector<float>   other_rows;  // of the same data in other layouts, and of pieces
};

struct plain {
  template <class Scalar>
  using selector = cascada::selector<Scalar>;
  template <class Scalar>
  using cascade = cascada::cascade<Scalar>;
  template <class Scalar>
  using growing_selection = cascada::growing_selection<Scalar>;
  template <class Scalar>
  using attention = cascada::attention<Scalar>;
  template <class Scalar>
  using attention_state = cascada::attention_state<Scalar>;
};
struct dispatched {
  template <class Scalar>
  using selector = dispatch::selector<Scalar>;
  template <class Scalar>
  using cascade = dispatch::cascade<Scalar>;
  template <class Scalar>
  using growing_selection = dispatch::growing_selection<Scalar>;
  template <class Scalar>
  using attention = dispatch::attention<Scalar>;
  template <class Scalar>
  using attention_state = dispatch::attention_state<Scalar>;
};

template <class Classes, class... Where>
results run(const char* name, const Where&... where) {
  results    made;
  const auto ok   = [&](status answer) { expect(answer == status::ok, message(answer), name); };
  const auto take = [&](const representatives& kept) {
    made.sets.insert(made.sets.end(), kept.rep.begin(), kept.rep.end());
  };
  const auto               x = rows(T, d, 0);
  matrix_view<const float> all{x.data(), T, d, d};

  typename Classes::template selector<float> select(selection_options{}, where...);
  ok(select(all)), take(select.kept());
  const auto copy = select;
  ok(select.literal(all)), take(select.kept()), take(copy.kept());
  expect(copy.report().representatives == copy.kept().count(), "a report is of another selection", name);
  auto moved = std::move(select);
  take(moved.kept());
  expect(select.kept().tokens() == 0, "what was moved from is not empty", name);  // NOLINT
  ok(select(all)), take(select.kept());

  typename Classes::template cascade<float> walk({.validate = validation::cross_gram}, where...);
  for (index_t layer = 0; layer < 3; ++layer) {
    const auto of_layer = rows(T, d, layer);
    ok(walk.step({of_layer.data(), T, d, d})), take(walk.kept());
  }
  auto fork = walk.fork();
  walk.reset();
  ok(fork.step(all)), take(fork.kept());
  ok(walk.inherit(fork.kept())), take(walk.kept());

  typename Classes::template growing_selection<float> grown(selection_options{}, where...);
  expect(grown.kept().tokens() == 0 && grown.truncate(1) == status::invalid_shape, "a new selection is not empty",
         name);
  for (index_t begin = 0, end = 70; begin < T; begin = end, end = T)
    ok(grown.extend({x.data() + begin * d, end - begin, d, d})), take(grown.kept());
  std::vector<std::byte> bytes(grown.saved_bytes());
  ok(grown.save(bytes)), ok(grown.load(bytes)), take(grown.kept());

  const auto q = rows(T, heads * dim, 3, 0.125f), k = rows(T, kv_heads * dim, 4, 0.125f),
             v         = rows(T, kv_heads * dim, 5, 0.125f);
  const auto keys      = packed_heads<const float>(k.data(), T, kv_heads, dim);
  const auto values    = packed_heads<const float>(v.data(), T, kv_heads, dim);
  const auto part_of_q = [&](index_t begin, index_t end) {
    return packed_heads<const float>(q.data() + begin * heads * dim, end - begin, heads, dim);
  };
  std::vector<float> out(q.size());
  const auto         results_of = [&](index_t begin, index_t end) {
    return packed_heads(out.data() + begin * heads * dim, end - begin, heads, dim);
  };
  const auto keep = [&](std::vector<float>& in) {
    in.insert(in.end(), out.begin(), out.end());
    std::fill(out.begin(), out.end(), -1.0f);
  };

  // The same rows, transposed, and in blocks that lie in another order.
  std::vector<float>   transposed(v.size()), pool_k(k.size() + block * kv_heads * dim), pool_v(pool_k.size());
  std::vector<index_t> table;
  constexpr index_t    blocks = (T + block - 1) / block;
  for (index_t t = 0; t < T; ++t) {
    const index_t at = (blocks - 1 - t / block) * block + t % block;
    for (index_t c = 0; c < kv_heads * dim; ++c) {
      const auto from                                           = static_cast<std::size_t>(t * kv_heads * dim + c);
      transposed[static_cast<std::size_t>(c * T + t)]           = v[from];
      pool_k[static_cast<std::size_t>(at * kv_heads * dim + c)] = k[from];
      pool_v[static_cast<std::size_t>(at * kv_heads * dim + c)] = v[from];
    }
  }
  for (index_t b = 0; b < blocks; ++b) table.push_back(blocks - 1 - b);
  const strided_kv<float>          strided{keys, values};
  const transposed_value_kv<float> columns{keys, transposed.data(), dim, dim * T, T};
  const paged_kv<float>            pages{packed_heads<const float>(pool_k.data(), blocks * block, kv_heads, dim),
                              packed_heads<const float>(pool_v.data(), blocks * block, kv_heads, dim), table, block, T};

  const representatives                       kept = copy.kept();
  constexpr attention_options                 far{.window = 16, .chunk = 16, .open_above = 0.05f};
  typename Classes::template attention<float> attend(far, where...);
  ok(attend(part_of_q(0, T), strided, {&kept, 1}, results_of(0, T))), keep(made.rows);
  expect(attend.report().leaves > 0 && attend.report().opened > 0, "the data decides nothing", name);
  ok(attend(part_of_q(0, T), columns, {&kept, 1}, results_of(0, T))), keep(made.other_rows);
  ok(attend(part_of_q(0, T), pages, {&kept, 1}, results_of(0, T))), keep(made.other_rows);

  typename Classes::template attention_state<float> state;
  state.reserve(T);
  for (index_t begin = 0, end = 70; begin < T; begin = end, end = end < T - 1 ? T - 1 : T) {
    ok(attend.extend(state, part_of_q(begin, end), strided, {&kept, 1}, results_of(begin, end)));
    std::vector<std::byte> saved(state.saved_bytes());
    ok(state.save(saved)), ok(attend.load(state, pages, saved));
    expect(state.tokens() == end, "a state does not have its tokens", name);
  }
  ok(state.truncate(T - 1));
  auto branch = state;
  ok(attend.extend(branch, part_of_q(T - 1, T), pages, {&kept, 1}, results_of(T - 1, T))), keep(made.other_rows);

  typename Classes::template attention<float> dense({.keys = key_set::all}, where...);
  std::vector<float>                          sums(static_cast<std::size_t>(T) * heads);
  ok(dense(part_of_q(0, T), strided, {}, results_of(0, T), {.log_sum_exp = {sums.data(), T, heads, heads}}));
  keep(made.rows);
  made.rows.insert(made.rows.end(), sums.begin(), sums.end());
  // A step of decoding, whose rows are read where they lie.
  ok(dense(part_of_q(T - 1, T), strided, {}, results_of(0, 1))), keep(made.rows);
  ok(dense(part_of_q(T - 1, T), pages, {}, results_of(0, 1)));
  made.other_rows.insert(made.other_rows.end(), out.begin(), out.begin() + heads * dim);

  // Refusals are those of the view at hand.
  const auto refuses = [&](const auto& kv, std::string_view sentence) {
    const status answer = dense(part_of_q(0, T), kv, {}, results_of(0, T));
    expect(answer == status::invalid_shape && message(answer) == sentence, message(answer), name);
  };
  auto wrong_columns       = columns;
  auto wrong_pages         = pages;
  wrong_columns.dim_stride = T - 1, wrong_pages.length = blocks * block + 1;
  refuses(wrong_columns, "kv.dim_stride is less than kv.keys.tokens");
  refuses(wrong_pages, "kv.block_table has fewer blocks than kv.length tokens fill");
  return made;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

/// Of sums of at most 150 terms below 1 each, in float, in another order.
bool near(const std::vector<float>& a, const std::vector<float>& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) all = std::fabs(a[i] - b[i]) < 1e-5f;
  return all;
}

/// In other layouts and in pieces: the same rows, bit for bit.
void check_layouts(const results& of, const char* name) {
  const std::size_t  one = static_cast<std::size_t>(T) * heads * dim;
  const auto         far = of.rows.begin(), step = of.rows.end() - static_cast<std::ptrdiff_t>(one);
  std::vector<float> expected;
  for (int layout = 0; layout < 3; ++layout)
    expected.insert(expected.end(), far, far + static_cast<std::ptrdiff_t>(one));
  expected.insert(expected.end(), step, step + heads * dim);
  expect(same(of.other_rows, expected), "rows depend on their layout, or on pieces", name);
}

/// A growing sequence goes from level to level by its bytes; a state itself does not.
void check_borders(dispatch::level from, dispatch::level to) {
  const auto                         x = rows(T, d, 0);
  const matrix_view<const float>     first{x.data(), 100, d, d}, rest{x.data() + 100 * d, T - 100, d, d};
  dispatch::growing_selection<float> begun(selection_options{}, {.instructions = from}),
      goes_on(selection_options{}, {.instructions = to});
  expect(begun.extend(first) == status::ok, "extend");
  std::vector<std::byte> bytes(begun.saved_bytes());
  expect(begun.save(bytes) == status::ok && goes_on.load(bytes) == status::ok, "a selection does not go over");
  expect(begun.extend(rest) == status::ok && goes_on.extend(rest) == status::ok, "extend");
  expect(std::ranges::equal(begun.kept().rep, goes_on.kept().rep), "sets differ once they went over");

  const auto                       in = packed_heads<const float>(x.data(), 10, 1, d);
  std::vector<float>               out(10 * d);
  const auto                       to_out = packed_heads(out.data(), 10, 1, d);
  const strided_kv<float>          kv{in, in};
  dispatch::attention_state<float> state;
  dispatch::attention<float>       mine({.keys = key_set::all}, {.instructions = from});
  dispatch::attention<float>       its({.keys = key_set::all}, {.instructions = to});
  expect(mine.extend(state, in, kv, {}, to_out) == status::ok, "extend");
  const status answer = its.extend(state, in, kv, {}, to_out);
  expect(answer == status::unsupported &&
             message(answer) == std::string_view("state belongs to attention of another level"),
         message(answer));
  state.clear();
  expect(its.extend(state, in, kv, {}, to_out) == status::ok, "an empty state does not go over");
}

void check_refusals() {
  using dispatch::level;
  const auto                     x = rows(T, d, 0);
  const matrix_view<const float> all{x.data(), T, d, d};
  for (const level of :
       {level::x86_64, level::x86_64_v3, level::x86_64_v4, level::avx512_bf16, level::amx_bf16, level::armv8_a}) {
    const auto                has   = dispatch::levels();
    const bool                there = std::find(has.begin(), has.end(), of) != has.end();
    dispatch::selector<float> select(selection_options{}, {.instructions = of});
    const status              answer   = select(all);
    const std::string_view    expected = !there ? "the program has no kernels for where.instructions"
                                         : dispatch::runs(of)
                                             ? "ok"
                                             : "where.instructions is more than this CPU or this process has";
    expect(message(answer) == expected, message(answer), dispatch::name(of));
    expect((answer == status::ok) == (expected == "ok"), "another code than its sentence", dispatch::name(of));
  }
  dispatch::selector<float16> narrow;
  const std::vector<float16>  y(T * d);
  const status                answer = narrow({y.data(), T, d, d});
  expect(answer == status::unsupported &&
             message(answer) == std::string_view("the program's levels were built without rows of this type"),
         message(answer));
}

}  // namespace

int main(int count, char** arguments) {
  const results expected = run<plain>("plain");
  const auto    all      = dispatch::levels();
  check_layouts(expected, "plain");
  for (const auto level : all) {
    const char* name = dispatch::name(level);
    if (!dispatch::runs(level)) continue;
    std::atomic<int> calls{0};
    const auto       of_level  = run<dispatched>(name, dispatch::cpu{.instructions = level});
    const auto       elsewhere = run<dispatched>(name, dispatch::cpu{level, counting_executor{&calls}});
    check_layouts(of_level, name);
    expect(of_level.sets == expected.sets, "sets are not those of the plain classes", name);
    expect(near(of_level.rows, expected.rows), "rows are not close to those of the plain classes", name);
    expect(level != all.front() || same(of_level.rows, expected.rows), "rows differ from those of the same flags",
           name);
    expect(elsewhere.sets == of_level.sets && same(elsewhere.rows, of_level.rows), "results depend on threads", name);
    expect(calls > 0, "an executor was not asked", name);
    for (const auto other : all)
      if (other != level && dispatch::runs(other)) check_borders(level, other);
  }
  check_refusals();

  const auto best = std::string_view(dispatch::name(dispatch::best()));
  expect(count < 2 || best == arguments[1], arguments[1], "expected another level than the best one, namely");
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325u;  // FNV-1a
  for (const index_t rep : expected.sets) hash = (hash ^ static_cast<std::uint32_t>(rep)) * 0x100'0000'01b3u;
  std::printf("%s, sets %016llx\n", best.data(), static_cast<unsigned long long>(hash));
  return faults ? 1 : 0;
}
