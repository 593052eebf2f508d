// Instantiates every public class, in every layout and for all kinds of rows, for the warnings of the presets.

#include "cascada/cascada.hpp"
#include "cascada/reference.hpp"

namespace {

using namespace cascada;

template <class Scalar>
index_t select_all(matrix_view<const Scalar> x) {
  selector<Scalar>          select;
  cascade<Scalar>           walk(presets::fast.selection);
  growing_selection<Scalar> growing(presets::balanced.selection);
  if (select(x) != status::ok || walk.inherit(select.kept()) != status::ok || walk.step(x) != status::ok) return -1;
  if (growing.extend(x, select.kept().rep) != status::ok || growing.truncate(1) != status::ok) return -1;
  const bool saved = select.report().savings() + walk.report().jaccard.value_or(0) > 0;
  return walk.fork().kept().count() + growing.kept().count() + static_cast<index_t>(growing.bytes() > 0) + saved;
}

template <class Scalar, class Out, kv_view KV>
bool attend_to(heads_view<const Scalar> q, const KV& kv, const representatives& kept, heads_view<Out> out) {
  attention<Scalar>                                     attend(presets::accurate.attention);
  attention<Scalar, cpu<compiled_isa, serial_executor>> alone({.keys = key_set::near, .scale = 0.5f});
  attention_state<Scalar>                               state;
  state.reserve(q.tokens);
  const bool whole = attend(q, kv, {&kept, 1}, out) == status::ok && alone(q, kv, {}, out) == status::ok;
  const bool grown = attend.extend(state, q, kv, {&kept, 1}, out) == status::ok && state.truncate(2) == status::ok;
  return whole && grown && state.bytes() > 0 && attend.report().closed_mass() < attend.report().share_of_dense();
}

template <class Scalar, class Out>
bool attend_all(const Scalar* rows, const representatives& kept, Out* to) {
  const index_t                     T = kept.tokens(), blocks[] = {0, 1, 2, 3, 4};
  const heads_view<const Scalar>    q = packed_heads(rows, T, 2, 8), k = packed_heads(rows, T, 1, 8);
  const heads_view<Out>             out = packed_heads(to, T, 2, 8);
  const strided_kv<Scalar>          strided{k, k};
  const transposed_value_kv<Scalar> transposed{k, rows, 8, 8 * std::int64_t{T}, T};
  const paged_kv<Scalar>            paged{k, k, blocks, 8, T};
  return attend_to(q, strided, kept, out) && attend_to(q, transposed, kept, out) && attend_to(q, paged, kept, out);
}

template <class Scalar>
bool used() {
  const Scalar     rows[40 * 16] = {};
  float            wide[40 * 16];
  Scalar           narrow[40 * 16];
  selector<Scalar> select;
  return select({rows, 40, 16, 16}) == status::ok && select_all<Scalar>({rows, 40, 16, 16}) > 0 &&
         attend_all(rows, select.kept(), wide) && attend_all(rows, select.kept(), narrow);
}

template <class Real, class Operand>
bool expected() {
  const reference::attention_input<Real> in{1, 1, 1, 1, 1, {Real(1)}, {Real(1)}, {Real(1)}};
  return !reference::attention<Real, Operand>(in, {{0}}, {}).out.empty();
}

}  // namespace

int main() {
  const bool right = expected<double, double>() && expected<float, float>() && expected<double, bfloat16>();
  return right && used<float>() && used<bfloat16>() && used<float16>() ? 0 : 1;
}
