#pragma once
// Where the key and the value of a token lie: in rows one after the other, or in the pages of a pool.

#include <cstdint>

#include "cascada/hip/attention/find_rows.hpp"
#include "cascada/hip/attention/lay_out_values.hpp"
#include "cascada/hip/base/device.hpp"
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

/// Rows one after the other: that of token i is row i.
struct rows_in_order {
  static constexpr bool in_pages = false;

  CASCADA_DEVICE CASCADA_INLINE index_t operator()(index_t token) const { return token; }
};

/// Rows that tokens have in a pool (find_rows.hpp).
struct rows_in_pages {
  static constexpr bool in_pages = true;

  const index_t* rows = nullptr;  // [tokens]

  CASCADA_DEVICE CASCADA_INLINE index_t operator()(index_t token) const { return rows[token]; }
};

/// Rows [tokens, heads, dim] of either kind; `tokens` are the sequence's, not the pool's.
template <class Scalar, class Place>
struct token_rows : heads_view<const Scalar> {
  [[no_unique_address]] Place place = {};

  template <class Row>
  CASCADA_HOST_DEVICE CASCADA_INLINE constexpr token_rows(const heads_view<Row>& rows, const Place& at = {})
      : heads_view<const Scalar>(rows), place(at) {}

  CASCADA_DEVICE CASCADA_INLINE const Scalar* row(index_t token, index_t head) const {
    return heads_view<const Scalar>::row(place(token), head);
  }
};

/// Keys and values of a sequence.
template <class Scalar, class Place>
struct placed_kv {
  heads_view<const Scalar>    keys;
  heads_view<const Scalar>    values;
  [[no_unique_address]] Place place = {};

  transposed_values<Scalar> transposed = {};  // instead of values
  page_table                pages      = {};  // of which `place` has the rows

  /// Tokens [begin, begin + tokens): a sequence.
  placed_kv sequence(index_t begin, index_t tokens) const {
    placed_kv own = *this;
    own.pages.first += begin;
    if (transposed.data) own.transposed.data += begin;
    own.keys.tokens = own.values.tokens = tokens;
    if constexpr (Place::in_pages) return own;
    own.keys.data += begin * keys.token_stride;
    if (!transposed.data) own.values.data += begin * values.token_stride;
    return own;
  }

  index_t tokens() const { return keys.tokens; }
  index_t kv_heads() const { return keys.heads; }

  token_rows<Scalar, Place> key_rows() const { return {keys, place}; }
  token_rows<Scalar, Place> value_rows() const { return {values, place}; }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
