// Compiled twice, for different instructions; RUN names the function.

#include "part.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cascada/cascada.hpp"

namespace {

using namespace cascada;

constexpr index_t T = part_result::tokens, d = part_result::width, heads = part_result::heads, dim = part_result::dim;

/// Small integers, so that every instruction set makes the same rows; tokens t and t + 20 differ in a few columns.
int element(int token, int column, int layer) {
  const auto home = static_cast<std::uint32_t>(token % 20 * 64 + column) * 2654435761u;
  const auto move = static_cast<std::uint32_t>((token * 64 + column) * 8 + layer) * 2246822519u;
  return static_cast<int>(home >> 28) - 8 + (move >> 29 == 0 ? static_cast<int>(move >> 24 & 7) : 0);
}

/// The tokens of a layer. Valid until the next call: a container of bfloat16 would be a symbol of both objects.
template <class Scalar>
matrix_view<const Scalar> rows(int layer) {
  static Scalar memory[T * d];
  for (int i = 0; i < T * d; ++i) memory[i] = from_float<Scalar>(static_cast<float>(element(i / d, i % d, layer)));
  return {memory, T, d, d};
}

void copy(const representatives& kept, int* rep) {
  for (index_t t = 0; t < T; ++t) rep[t] = kept.rep.data()[t];
}

bool attend(attention_options options, const representatives& kept, float* out, part_result* counts = nullptr) {
  std::vector<float> q(static_cast<std::size_t>(T) * heads * dim), kv(q.size() / 2);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(element(static_cast<int>(i), 1, 3)) / 8;
  for (std::size_t i = 0; i < kv.size(); ++i) kv[i] = static_cast<float>(element(static_cast<int>(i), 2, 4)) / 8;
  const auto       keys = packed_heads<const float>(kv.data(), T, heads / 2, dim);
  attention<float> attend(options);
  const status answer = attend(packed_heads<const float>(q.data(), T, heads, dim), strided_kv<float>{keys, keys}, kept,
                               packed_heads(out, T, heads, dim));
  if (counts) {
    counts->leaves   = attend.report().leaves;
    counts->opened   = attend.report().opened;
    counts->computed = attend.report().computed;
  }
  return answer == status::ok;
}

/// Queries of float, keys and values of float16 that all heads share, in two parts that are merged.
bool attend_with_terms(float* out) {
  static float16     memory[T * dim];
  std::vector<float> q(static_cast<std::size_t>(T) * heads * dim), other(q.size()), sums(T * heads), more(T * heads);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(element(static_cast<int>(i), 1, 3)) / 8;
  for (int i = 0; i < T * dim; ++i) memory[i] = from_float<float16>(static_cast<float>(element(i, 2, 4)) / 8);
  const heads_view<const float> queries      = packed_heads<const float>(q.data(), T, heads, dim);
  const float                   sinks[heads] = {0.5f, -1, 2, 0}, slopes[heads] = {0.5f, 0.25f, 0.125f, 0};
  const auto                    rows = [&](int begin, int count) {
    return heads_view<const float16>{memory + begin * dim, count, heads / 2, dim, dim, 0};
  };
  const auto lse_of = [](std::vector<float>& of) { return matrix_view<float>{of.data(), T, heads, heads}; };

  attention<float> causal({.keys = key_set::all, .softcap = 4.0f, .sliding_window = 40});
  attention<float> first({.keys = key_set::all, .causal = false, .softcap = 4.0f});
  bool             ok = causal(queries, strided_kv<float16>{rows(0, T), rows(0, T)}, packed_heads(out, T, heads, dim),
                               {.sink_logits = sinks, .slopes = slopes, .log_sum_exp = lse_of(sums)}) == status::ok;
  ok &= first(queries, strided_kv<float16>{rows(0, 30), rows(0, 30)}, packed_heads(other.data(), T, heads, dim),
              {.log_sum_exp = lse_of(more)}) == status::ok;
  return ok && merge(packed_heads(out, T, heads, dim), lse_of(sums), packed_heads(other.data(), T, heads, dim),
                     lse_of(more), packed_heads(out, T, heads, dim)) == status::ok;
}

/// The sequence in two pieces: its set, and its rows of the same attention.
bool grow(attention_options options, int* rep, float* out) {
  std::vector<float> q(static_cast<std::size_t>(T) * heads * dim), kv(q.size() / 2);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(element(static_cast<int>(i), 1, 3)) / 8;
  for (std::size_t i = 0; i < kv.size(); ++i) kv[i] = static_cast<float>(element(static_cast<int>(i), 2, 4)) / 8;
  const auto               keys = packed_heads<const float>(kv.data(), T, heads / 2, dim);
  growing_selection<float> select;
  attention<float>         attend(options);
  attention_state<float>   state;
  bool                     ok = true;
  for (index_t begin = 0, end = 70; begin < T; begin = end, end = T) {
    auto x = rows<float>(0);
    x.data += begin * d, x.rows = end - begin;
    ok &= select.extend(x) == status::ok;
    ok &= attend.extend(state, packed_heads<const float>(q.data() + begin * heads * dim, end - begin, heads, dim),
                        strided_kv<float>{keys, keys}, select.kept(),
                        packed_heads(out + begin * heads * dim, end - begin, heads, dim)) == status::ok;
  }
  auto branch = state;
  state       = std::move(branch);
  auto other  = select;
  select      = std::move(other);
  ok &= select.truncate(T) == status::ok && state.truncate(T) == status::ok;
  std::vector<std::byte> selected(select.saved_bytes()), saved(state.saved_bytes());
  ok &= select.save(selected) == status::ok && select.load(selected) == status::ok;
  ok &= state.save(saved) == status::ok && attend.load(state, strided_kv<float>{keys, keys}, saved) == status::ok;
  copy(select.kept(), rep);
  return ok;
}

}  // namespace

bool RUN(part_result& result) {
  bool            ok = true;
  selector<float> select;
  ok &= select(rows<float>(0)) == status::ok;
  copy(select.kept(), result.selected);
  ok &= select.literal(rows<float>(0)) == status::ok;
  copy(select.kept(), result.literal);

  for (int paper = 0; paper < 2; ++paper) {
    cascade<float> walk(
        {.assign = assignment::nearest, .validate = paper ? validation::cross_gram : validation::exact});
    for (int layer = 0; layer < 3; ++layer) ok &= walk.step(rows<float>(layer)) == status::ok;
    cascade<float> branch;
    ok &= walk.fork(branch) == status::ok;
    copy(branch.kept(), result.walked[paper]);
  }

  cascade<bfloat16> narrow;
  ok &= narrow.inherit(select.kept()) == status::ok;
  ok &= narrow.step(rows<bfloat16>(0)) == status::ok;
  copy(narrow.kept(), result.narrow);

  ok &= attend({.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f}, select.kept(), result.attended,
               &result);
  ok &= grow({.window = 16, .chunk = 32, .leaf_threshold = 0.3f, .open_above = 0.02f}, result.grown_set, result.grown);
  ok &= attend({.queries = query_set::grouped, .window = 16, .chunk = 32, .open = opening::none}, select.kept(),
               result.grouped);
  ok &= attend({.keys = key_set::representatives, .queries = query_set::representatives}, select.kept(),
               result.compressed);
  ok &= attend_with_terms(result.terms);
  return ok;
}
