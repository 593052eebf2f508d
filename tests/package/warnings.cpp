// Instantiates every public class, in every layout and for all kinds of rows. Compiled with all of a strict user's
// warnings as errors, the library's headers not as system headers. Others' headers come first: where g++ 12's own
// intrinsics are included before the library, their false alarms must stay silent too.

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <cstddef>
#include <vector>

#include <Eigen/Core>

#include "cascada/cascada.hpp"
#include "cascada/dispatch.hpp"
#include "cascada/eigen.hpp"
#include "cascada/reference.hpp"

template class cascada::dispatch::selector<float>;
template class cascada::dispatch::cascade<float>;
template class cascada::dispatch::growing_selection<float>;
template class cascada::dispatch::attention_state<float>;
template class cascada::dispatch::attention<float>;

namespace {

using namespace cascada;

template <class Scalar>
index_t select_all(matrix_view<const Scalar> x) {
  index_t kept = 0;
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    const selection_options options{.assign = assignment::nearest, .validate = validate};
    selector<Scalar>        select(options);
    cascade<Scalar>         walk(options), branch(options);
    if (select(x) == status::ok && select.literal(x) == status::ok && walk.inherit(select.kept()) == status::ok &&
        walk.step(x) == status::ok && walk.fork(branch) == status::ok)
      kept += branch.kept().count();
    kept += reference::cascade(x, select.kept(), options).view().count() + reference::select(x, options).view().count();
    if (select.report().savings() + walk.report().jaccard.value_or(0) > 0) ++kept;
  }
  return kept;
}

template <class Scalar>
index_t grow(matrix_view<const Scalar> x, const representatives& all) {
  growing_selection<Scalar> growing(presets::balanced.selection);
  if (growing.extend(x, all.rep) != status::ok || growing.truncate(1) != status::ok) return 0;
  std::vector<std::byte> bytes(growing.saved_bytes());
  if (growing.save(bytes) != status::ok || growing.load(bytes) != status::ok) return 0;
  return growing.bytes() > 0 ? growing.kept().count() : 0;
}

template <class Scalar, class Out, kv_view KV>
bool attend_to(heads_view<const Scalar> q, const KV& kv, const representatives& kept, heads_view<Out> out) {
  attention<Scalar>                                     attend(presets::accurate.attention);
  attention<Scalar, cpu<compiled_isa, serial_executor>> alone({.keys = key_set::near, .scale = 0.5f});
  attention_state<Scalar>                               state;
  state.reserve(q.tokens);
  const bool whole = attend(q, kv, kept, out) == status::ok && alone(q, kv, out) == status::ok;
  const bool grown = attend.extend(state, q, kv, kept, out) == status::ok && state.truncate(2) == status::ok;
  std::vector<std::byte> bytes(state.saved_bytes());
  const bool             saved = state.save(bytes) == status::ok && attend.load(state, kv, bytes) == status::ok;
  return whole && grown && saved && state.bytes() > 0 &&
         attend.report().closed_mass() < attend.report().share_of_dense();
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
  const Scalar     rows[40 * 16]   = {};
  float            wide[40 * 16]   = {};
  Scalar           narrow[40 * 16] = {};
  selector<Scalar> select;
  return select({rows, 40, 16, 16}) == status::ok && select_all<Scalar>({rows, 40, 16, 16}) > 0 &&
         grow<Scalar>({rows, 40, 16, 16}, select.kept()) > 0 && attend_all(rows, select.kept(), wide) &&
         attend_all(rows, select.kept(), narrow);
}

bool used_computed() {
  const float       rows[40 * 64] = {}, one[32] = {1};
  float             to[40 * 64] = {};
  selector<float>   select;
  const std::vector blocks(40, q8_0_block::of(one));
  const auto        k = packed_heads(blocks.data(), 40, 1, 1);
  return select({rows, 40, 64, 64}) == status::ok &&
         attend_to(packed_heads(rows, 40, 2, 32), strided_kv<q8_0_block>{k, k}, select.kept(),
                   packed_heads(to, 40, 2, 32));
}

template <class Real>
bool expected() {
  const reference::attention_input<Real> in{1, 1, 1, 1, 1, {Real(1)}, {Real(1)}, {Real(1)}};
  return !reference::attention(in, {{0}}, {}).out.empty();
}

}  // namespace

int main() {
  const Eigen::Matrix<float, 40, 16, Eigen::RowMajor> x     = Eigen::Matrix<float, 40, 16, Eigen::RowMajor>::Random();
  const bool                                          right = expected<double>() && expected<float>();
  const bool all = select_all(view(x)) > 0 && used<float>() && used<bfloat16>() && used<float16>() && used_computed();
  return right && all ? 0 : 1;
}
