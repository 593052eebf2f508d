#pragma once
// The layouts of keys and values that attention on the device takes, as its kernels are given them.

#include <concepts>

#include "cascada/hip/attention/token_rows.hpp"
#include "cascada/kv_view.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <class KV, class Scalar>
concept stored_kv = std::same_as<KV, strided_kv<Scalar>> || std::same_as<KV, transposed_value_kv<Scalar>> ||
                    std::same_as<KV, paged_kv<Scalar>>;

/// A view that can be checked on the host, which does not read a table of pages.
template <class KV>
CASCADA_INLINE const KV& layout_of(const KV& kv) {
  return kv;
}
template <class Scalar>
struct pages_of_device : paged_kv<Scalar> {
  status check() const noexcept { return this->check_pool(); }
};
template <class Scalar>
CASCADA_INLINE pages_of_device<Scalar> layout_of(const paged_kv<Scalar>& kv) {
  return {kv};
}

template <class Scalar>
CASCADA_INLINE placed_kv<Scalar, rows_in_order> placed(const strided_kv<Scalar>& kv) {
  return {kv.keys, kv.values};
}
template <class Scalar>
CASCADA_INLINE placed_kv<Scalar, rows_in_order> placed(const transposed_value_kv<Scalar>& kv) {
  return {kv.keys, {}, {}, {kv.values, kv.head_stride, kv.dim_stride}};
}
template <class Scalar>
CASCADA_INLINE placed_kv<Scalar, rows_in_pages> placed(const paged_kv<Scalar>& kv) {
  const auto of_pool = [&](heads_view<const Scalar> rows) {
    rows.tokens = kv.length;
    return rows;
  };
  return {of_pool(kv.keys), of_pool(kv.values), {}, {}, {kv.block_table.data(), kv.block_tokens}};
}

}  // namespace cascada::inline CASCADA_ABI::hip::attention
