// Every class of cascada/dispatch.hpp on every level that runs here, beside the plain classes of this translation unit,
// which is compiled for the least of the levels. The library has rows of float and bfloat16.
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
  if (holds) return;
  std::printf("%s%s%s\n", where, *where ? ": " : "", sentence);
  ++faults;
}

/// Small integers; tokens t and t + 20 differ in a few columns.
float element(index_t token, index_t column, index_t layer) {
  const auto home = static_cast<std::uint32_t>(token % 20 * 64 + column) * 2654435761u;
  const auto move = static_cast<std::uint32_t>((token * 64 + column) * 8 + layer) * 2246822519u;
  return static_cast<float>(static_cast<int>(home >> 28) - 8 +
                            (move >> 29 == 0 ? static_cast<int>(move >> 24 & 7) : 0));
}

template <class Scalar>
std::vector<Scalar> rows(index_t tokens, index_t columns, index_t layer, float scale = 1) {
  std::vector<Scalar> all;
  for (index_t t = 0; t < tokens; ++t)
    for (index_t c = 0; c < columns; ++c) all.push_back(from_float<Scalar>(element(t, c, layer) * scale));
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
  std::vector<index_t> sets;  // rep, one selection after the other
  std::vector<float>   rows;  // of attention, one call after the other
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

/// As strict as the types: what they hold, bit for bit.
template <class Element>
bool same(const std::vector<Element>& a, const std::vector<Element>& b) {
  return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(Element));
}

template <class Classes, class Scalar, class... Where>
void select_all(results& made, const char* name, const Where&... where) {
  const auto ok   = [&](status answer) { expect(answer == status::ok, message(answer), name); };
  const auto take = [&](const representatives& kept) {
    made.sets.insert(made.sets.end(), kept.rep.begin(), kept.rep.end());
  };
  const auto                      x = rows<Scalar>(T, d, 0);
  const matrix_view<const Scalar> all{x.data(), T, d, d};

  typename Classes::template selector<Scalar> select(selection_options{}, where...);
  ok(select(all)), take(select.kept());
  const auto copy = select;
  ok(select.literal(all)), take(select.kept()), take(copy.kept());
  expect(copy.report().representatives == copy.kept().count(), "a report is of another selection", name);
  const auto moved = std::move(select);
  take(moved.kept());
  expect(select.kept().tokens() == 0, "what was moved from is not empty", name);  // NOLINT
  ok(select(all)), take(select.kept());

  typename Classes::template cascade<Scalar> walk({.validate = validation::cross_gram}, where...);
  for (index_t layer = 0; layer < 3; ++layer) {
    const auto of_layer = rows<Scalar>(T, d, layer);
    ok(walk.step({of_layer.data(), T, d, d})), take(walk.kept());
  }
  typename Classes::template cascade<Scalar> branch({.validate = validation::cross_gram}, where...);
  ok(walk.fork(branch)), take(branch.kept());
  walk.reset();
  ok(branch.step(all)), take(branch.kept());
  ok(walk.inherit(branch.kept())), take(walk.kept());

  typename Classes::template growing_selection<Scalar> grown(selection_options{}, where...);
  expect(grown.truncate(1) == status::invalid_shape, "a new selection has tokens", name);
  for (index_t begin = 0, end = 70; begin < T; begin = end, end = T)
    ok(grown.extend({x.data() + begin * d, end - begin, d, d})), take(grown.kept());
  std::vector<std::byte> bytes(grown.saved_bytes());
  ok(grown.save(bytes)), ok(grown.load(bytes)), take(grown.kept());
  typename Classes::template growing_selection<Scalar> begun(selection_options{}, where...);
  ok(grown.fork(begun)), ok(grown.truncate(70)), take(begun.kept());
}

/// Queries of Scalar, and keys and values of Stored in all layouts: in token order, transposed, and in blocks that lie
/// in another order.
template <class Scalar, class Stored>
struct layer {
  static constexpr index_t columns = kv_heads * dim, blocks = (T + block - 1) / block;

  layer() {
    for (index_t b = 0; b < blocks; ++b) table.push_back(blocks - 1 - b);
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < columns; ++c) {
        const auto from = static_cast<std::size_t>(t * columns + c);
        const auto to =
            static_cast<std::size_t>((table[static_cast<std::size_t>(t / block)] * block + t % block) * columns + c);
        transposed[static_cast<std::size_t>(c * T + t)] = v[from];
        pool_k[to]                                      = k[from];
        pool_v[to]                                      = v[from];
      }
  }

  static heads_view<const Stored> packed(const std::vector<Stored>& of, index_t tokens) {
    return packed_heads<const Stored>(of.data(), tokens, kv_heads, dim);
  }
  strided_kv<Stored>          strided() const { return {packed(k, T), packed(v, T)}; }
  transposed_value_kv<Stored> in_columns() const { return {packed(k, T), transposed.data(), dim, dim * T, T}; }
  paged_kv<Stored>            paged() const {
    return {packed(pool_k, blocks * block), packed(pool_v, blocks * block), table, block, T};
  }
  heads_view<const Scalar> queries(index_t begin, index_t end) const {
    return packed_heads<const Scalar>(q.data() + begin * heads * dim, end - begin, heads, dim);
  }
  heads_view<Scalar> results(index_t begin, index_t end) {
    return packed_heads(out.data() + begin * heads * dim, end - begin, heads, dim);
  }

  std::vector<Scalar>  q = rows<Scalar>(T, heads* dim, 3, 0.125f), out = std::vector<Scalar>(q.size());
  std::vector<Stored>  k = rows<Stored>(T, columns, 4, 0.125f), v = rows<Stored>(T, columns, 5, 0.125f);
  std::vector<Stored>  transposed = v, pool_k = rows<Stored>(blocks * block, columns, 6), pool_v = pool_k;
  std::vector<index_t> table;
};

template <class Classes, class Scalar, class Stored, class... Where>
void attend_all(results& made, const char* name, const Where&... where) {
  layer<Scalar, Stored> of;
  std::vector<Scalar>   expected;
  const auto            ok   = [&](status answer) { expect(answer == status::ok, message(answer), name); };
  const auto            keep = [&] {  // the first of several layouts
    for (const Scalar x : of.out) made.rows.push_back(to_float(x));
    expected = std::exchange(of.out, std::vector<Scalar>(of.out.size()));
  };
  const auto again = [&] {  // the others, and pieces
    expect(same(of.out, expected), "rows depend on their layout, or on pieces", name);
    of.out.assign(of.out.size(), Scalar{});
  };

  typename Classes::template selector<Scalar> select(selection_options{}, where...);
  const auto                                  x = rows<Scalar>(T, d, 0);
  ok(select({x.data(), T, d, d}));
  const representatives kept = select.kept();

  typename Classes::template attention<Scalar> attend({.window = 16, .chunk = 16, .open_above = 0.05f}, where...);
  ok(attend(of.queries(0, T), of.strided(), kept, of.results(0, T))), keep();
  expect(attend.report().leaves > 0 && attend.report().opened > 0, "the data decides nothing", name);
  ok(attend(of.queries(0, T), of.in_columns(), kept, of.results(0, T))), again();
  ok(attend(of.queries(0, T), of.paged(), kept, of.results(0, T))), again();

  typename Classes::template attention_state<Scalar> state;
  state.reserve(T);
  for (index_t begin = 0, end = 70; begin < T; begin = end, end = end < T - 1 ? T - 1 : T) {
    ok(attend.extend(state, of.queries(begin, end), of.strided(), kept, of.results(begin, end)));
    std::vector<std::byte> saved(state.saved_bytes());
    ok(state.save(saved)), ok(attend.load(state, of.paged(), saved));
    expect(state.tokens() == end, "a state does not have its tokens", name);
  }
  again();
  ok(state.truncate(T - 1));
  const auto branch = state;
  auto       fork   = branch;
  fork.clear();
  ok(state.fork(fork));
  expect(fork.tokens() == T - 1, "a fork is not as its state", name);
  expect(branch.tokens() == T - 1 && branch.bytes() > 0, "a copy is not as its state", name);
  ok(attend.extend(state, of.queries(T - 1, T), of.paged(), kept, of.results(T - 1, T)));
  expect(branch.tokens() == T - 1 && state.tokens() == T, "a copy shares the tokens of its state", name);
  std::copy(expected.begin(), expected.end() - heads * dim, of.out.begin()), again();

  typename Classes::template attention<Scalar> dense({.keys = key_set::all}, where...);
  std::vector<float>                           sums(static_cast<std::size_t>(T) * heads);
  ok(dense(of.queries(0, T), of.strided(), of.results(0, T), {.log_sum_exp = {sums.data(), T, heads, heads}}));
  keep(), made.rows.insert(made.rows.end(), sums.begin(), sums.end());
  // A step of decoding, whose rows are read where they lie.
  ok(dense(of.queries(T - 1, T), of.strided(), {}, of.results(0, 1))), keep();
  ok(dense(of.queries(T - 1, T), of.paged(), of.results(0, 1))), again();

  // Refusals are those of the view at hand.
  const auto refuses = [&](const auto& kv, std::string_view sentence) {
    const status answer = dense(of.queries(0, T), kv, {}, of.results(0, T));
    expect(answer == status::invalid_shape && message(answer) == sentence, message(answer), name);
  };
  auto columns       = of.in_columns();
  auto pages         = of.paged();
  columns.dim_stride = T - 1;
  pages.length       = of.blocks * block + 1;
  refuses(columns, "kv.dim_stride is less than kv.keys.tokens");
  refuses(pages, "kv.block_table has fewer blocks than kv.length tokens fill");
}

template <class Classes, class... Where>
results run(const char* name, const Where&... where) {
  results made;
  select_all<Classes, float>(made, name, where...);
  select_all<Classes, bfloat16>(made, name, where...);
  attend_all<Classes, float, float>(made, name, where...);
  attend_all<Classes, float, bfloat16>(made, name, where...);
  attend_all<Classes, bfloat16, bfloat16>(made, name, where...);
  return made;
}

/// Of results below 2 in size, sums of at most 150 terms in another order. Those of bfloat16, 8 bits, may be rounded
/// twice more on the way (weights, where bfloat16 is multiplied).
bool near(const std::vector<float>& a, const std::vector<float>& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) {
    const bool rounded = i >= a.size() / 3 * 2;  // the last third is of bfloat16
    all                = std::fabs(a[i] - b[i]) < (rounded ? 0x1p-6f : 1e-5f);
  }
  return all;
}

/// A growing sequence goes from level to level by its bytes; a state itself does not.
void check_borders(dispatch::level from, dispatch::level to) {
  const auto                         x = rows<float>(T, d, 0);
  const matrix_view<const float>     first{x.data(), 100, d, d}, rest{x.data() + 100 * d, T - 100, d, d};
  dispatch::growing_selection<float> begun(selection_options{}, {.instructions = from}),
      goes_on(selection_options{}, {.instructions = to});
  expect(begun.extend(first) == status::ok, "extend");
  std::vector<std::byte> bytes(begun.saved_bytes());
  expect(begun.save(bytes) == status::ok && goes_on.load(bytes) == status::ok, "a selection does not go over");
  const representatives view = begun.kept(), copied = goes_on.kept();
  expect(check(view, 100) == status::ok && check(copied, 100) == status::ok, "a view of a level's set is refused");
  expect(begun.extend(rest) == status::ok && goes_on.extend(rest) == status::ok, "extend");
  expect(check(view, 100) != status::ok && check(copied, 100) != status::ok,
         "views do not see that sets were replaced");
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

  dispatch::growing_selection<float>        of_mine({}, {.instructions = from}), of_its({}, {.instructions = to});
  const dispatch::cascade<float>            walk({}, {.instructions = from});
  dispatch::cascade<float>                  of_other({}, {.instructions = to});
  const std::pair<status, std::string_view> refusals[] = {{of_mine.fork(of_its), "to is a selection of another level"},
                                                          {walk.fork(of_other), "to is a cascade of another level"}};
  for (const auto& [refusal, sentence] : refusals)
    expect(refusal == status::unsupported && message(refusal) == sentence, message(refusal));
}

void check_refusals() {
  using dispatch::level;
  const auto                     x = rows<float>(T, d, 0);
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
  for (const auto level : all) {
    const char* name = dispatch::name(level);
    if (!dispatch::runs(level)) continue;
    std::atomic<int> calls{0};
    const auto       of_level  = run<dispatched>(name, dispatch::cpu{.instructions = level});
    const auto       elsewhere = run<dispatched>(name, dispatch::cpu{level, counting_executor{&calls}});
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
