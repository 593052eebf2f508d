#pragma once
// 32 keys and values at a time, by a block of 256: from global memory through registers to shared memory.
//
// Keys lie there as they are, values transposed, so that an operand of either product is one read of 16 bytes.

#include <cstdint>

#include "cascada/hip/attention/block_rows.hpp"
#include "cascada/hip/attention/operands.hpp"

namespace cascada::inline CASCADA_ABI::hip::attention {

template <matrix_scalar Scalar, index_t Dim>
struct key_tiles {
  static constexpr index_t threads     = threads_of_block;
  static constexpr index_t keys        = keys_of_tile;
  static constexpr index_t key_pitch   = Dim + 8;   // rows 4 banks apart, modulo all: 8 lanes meet no bank twice
  static constexpr index_t value_pitch = keys + 8;  // rows 20 banks apart: the same

  struct shared_keys {
    alignas(16) std::uint16_t key[keys * key_pitch];  // [key, dim]
  };
  struct shared : shared_keys {
    alignas(16) std::uint16_t value[Dim * value_pitch];  // [dim, place_of(key)]
  };

  // Of the tile, thread t carries elements 8 (t % (Dim / 8)).. of every key_step-th key, and of every value_step-th
  // four keys a square of 4 x 4.
  static constexpr index_t key_step     = threads / (Dim / 8);
  static constexpr index_t key_loads    = keys / key_step;
  static constexpr index_t value_quads  = keys / 4 * (Dim / 4);  // squares
  static constexpr index_t value_step   = 4 * threads / (Dim / 4);
  static constexpr index_t value_rounds = (value_quads + threads - 1) / threads;

  /// What a thread carries from global to shared memory.
  struct carried {
    vector8  key[key_loads];
    fragment value[value_rounds][4];
  };

  /// A thread's part of a tile: its first key, its first value, and the elements of each.
  struct part {
    index_t key, key_column, value, value_column;
  };
  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static part part_of(Gpu& gpu) {
    const index_t t = gpu.thread(), square = t % value_quads;
    return {t / (Dim / 8), t % (Dim / 8) * 8, square / (Dim / 4) * 4, square % (Dim / 4) * 4};
  }

  /// The rows of this thread's keys and values.
  struct key_rows {
    index_t row[key_loads];
  };
  struct value_rows {
    index_t row[value_rounds][4];
  };

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void fetch_keys(Gpu& gpu, const operand_rows<Scalar>& from, index_t head,
                                                       const key_rows& at, carried& next) {
    const char* const keys_of_head = bytes(from.keys + head * from.key_head + part_of(gpu).key_column);
#pragma GCC unroll 4
    for (index_t l = 0; l < key_loads; ++l) next.key[l] = load_8(row_at(keys_of_head, at.row[l], from.key_row));
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void fetch_values(Gpu& gpu, const operand_rows<Scalar>& from, index_t head,
                                                         const value_rows& at, carried& next) {
    const char* const values_of_head = bytes(from.values + head * from.value_head + part_of(gpu).value_column);
#pragma GCC unroll 2
    for (index_t l = 0; l < value_rounds; ++l)
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) next.value[l][e] = load_4(row_at(values_of_head, at.row[l][e], from.value_row));
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void stage_keys(Gpu& gpu, shared_keys& lds, const carried& next) {
    const part           own = part_of(gpu);
    std::uint16_t* const key = lds.key + own.key * key_pitch + own.key_column;
#pragma GCC unroll 4
    for (index_t l = 0; l < key_loads; ++l) store_8(key + key_step * key_pitch * l, next.key[l]);
  }

  template <class Gpu>
  CASCADA_DEVICE CASCADA_INLINE static void stage_values(Gpu& gpu, shared& lds, const carried& next) {
    const part           own   = part_of(gpu);
    std::uint16_t* const value = lds.value + own.value_column * value_pitch + place_of(own.value);
#pragma GCC unroll 2
    for (index_t l = 0; l < value_rounds; ++l) {
      static_assert(value_rounds == 1 || value_step == 16, "place_of(k + 16) = place_of(k) + 16");
#pragma GCC unroll 4
      for (index_t e = 0; e < 4; ++e) {  // a 4 x 4 transposition in registers
        const fragment column = {next.value[l][0][e], next.value[l][1][e], next.value[l][2][e], next.value[l][3][e]};
        __builtin_memcpy(__builtin_assume_aligned(value + e * value_pitch + 16 * l, 8), &column, sizeof(column));
      }
    }
  }

  /// Where key k lies within a row of V^T: a lane's 8 keys of two steps, 8 s + 4 half + 0..3, side by side.
  CASCADA_DEVICE CASCADA_INLINE static constexpr index_t place_of(index_t k) {
    return k / 16 * 16 + k / 4 % 2 * 8 + k / 8 % 2 * 4 + k % 4;
  }

  /// Tiles that follow each other. Addresses in bytes: a tile's, the same for all threads, and a thread's within it.
  /// Without values, keys alone are fetched; so of the next class.
  template <bool Values = true>
  class adjacent {
   public:
    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE adjacent(Gpu& gpu, const operand_rows<Scalar>& from, index_t head, index_t first)
        : key_(bytes(from.keys + head * from.key_head + first * from.key_row)),
          value_(bytes(from.values + head * from.value_head + first * from.value_row)),
          key_tile_(std::int64_t{sizeof(Scalar)} * keys * from.key_row),
          value_tile_(std::int64_t{sizeof(Scalar)} * keys * from.value_row) {
      const part own = part_of(gpu);
#pragma GCC unroll 4
      for (index_t l = 0; l < key_loads; ++l) key_at_[l] = offset(own.key + key_step * l, from.key_row, own.key_column);
#pragma GCC unroll 2
      for (index_t l = 0; l < value_rounds; ++l)
#pragma GCC unroll 4
        for (index_t e = 0; e < 4; ++e)
          value_at_[l][e] = offset(own.value + value_step * l + e, from.value_row, own.value_column);
    }

    /// Fetches a tile. The next call, if there are `more`, has the one after it, else the same again.
    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void fetch(Gpu& gpu, carried& next, bool more) {
#pragma GCC unroll 4
      for (index_t l = 0; l < key_loads; ++l) {
        gpu.keep(key_at_[l]);
        next.key[l] = load_8(reinterpret_cast<const Scalar*>(key_ + key_at_[l]));
      }
#pragma GCC unroll 2
      for (index_t l = 0; l < value_rounds && Values; ++l)
#pragma GCC unroll 4
        for (index_t e = 0; e < 4; ++e) {
          gpu.keep(value_at_[l][e]);
          next.value[l][e] = load_4(reinterpret_cast<const Scalar*>(value_ + value_at_[l][e]));
        }
      if (more) key_ += key_tile_, value_ += value_tile_;
    }

   private:
    static CASCADA_DEVICE CASCADA_INLINE std::uint32_t offset(index_t row, std::int64_t stride, index_t column) {
      return 2u * (static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(stride) +
                   static_cast<std::uint32_t>(column));
    }

    const char*   key_;
    const char*   value_;
    std::int64_t  key_tile_, value_tile_;
    std::uint32_t key_at_[key_loads], value_at_[value_rounds][4];
  };

  /// Tiles of rows that a list names. Names are a tile ahead of the rows.
  template <bool Values = true>
  class listed {
   public:
    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE listed(Gpu& gpu, const operand_rows<Scalar>& from, index_t head, const index_t* list)
        : from_(from), head_(head), list_(list) {
      look_up(gpu);
    }

    /// As adjacent::fetch.
    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void fetch(Gpu& gpu, carried& next, bool more) {
      fetch_keys(gpu, from_, head_, keys_, next);
      if constexpr (Values) fetch_values(gpu, from_, head_, values_, next);
      list_ += more ? keys : 0;
      look_up(gpu);
    }

   private:
    template <class Gpu>
    CASCADA_DEVICE CASCADA_INLINE void look_up(Gpu& gpu) {
      const part own = part_of(gpu);
#pragma GCC unroll 4
      for (index_t l = 0; l < key_loads; ++l) keys_.row[l] = list_[own.key + key_step * l];
#pragma GCC unroll 2
      for (index_t l = 0; l < value_rounds && Values; ++l)
        __builtin_memcpy(values_.row[l], list_ + own.value + value_step * l, sizeof(values_.row[l]));
    }

    const operand_rows<Scalar>& from_;
    index_t                     head_;
    const index_t*              list_;
    key_rows                    keys_;
    value_rows                  values_;
  };

 private:
  static CASCADA_DEVICE CASCADA_INLINE const char* bytes(const Scalar* at) { return reinterpret_cast<const char*>(at); }

  /// Strides in bytes have 32 bits (attention.hpp): one instruction.
  static CASCADA_DEVICE CASCADA_INLINE const Scalar* row_at(const char* first, index_t row, std::int64_t stride) {
    const auto width = static_cast<std::int32_t>(stride) * static_cast<std::int32_t>(sizeof(Scalar));
    return reinterpret_cast<const Scalar*>(first + std::int64_t{row} * width);
  }
};

}  // namespace cascada::inline CASCADA_ABI::hip::attention
