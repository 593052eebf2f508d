#pragma once
// A weight as its file stores it: mapped and never copied whole; blocks of it become float where they are used.

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "engine/matrix.hpp"

namespace engine {

enum class stored_type { f32, f16, bf16 };

constexpr index_t bytes_of(stored_type type) { return type == stored_type::f32 ? 4 : 2; }

/// W [rows, cols]. The bytes need no alignment: safetensors files promise none. Copies share the bytes.
class stored_matrix {
 public:
  stored_matrix() = default;

  /// Row-major bytes that `owner` keeps alive.
  stored_matrix(const std::byte* data, stored_type type, index_t rows, index_t cols, std::shared_ptr<const void> owner)
      : data_(data), type_(type), rows_(rows), cols_(cols), stride_(cols), owner_(std::move(owner)) {}

  /// A matrix of the program's own.
  stored_matrix(matrix x) {
    const auto kept = std::make_shared<const matrix>(std::move(x));
    *this = {reinterpret_cast<const std::byte*>(kept->data()), stored_type::f32, rows_of(*kept), cols_of(*kept), kept};
  }

  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
  bool    is_transposed() const { return transposed_; }

  /// W^T on the same bytes.
  stored_matrix transpose() const {
    stored_matrix out = *this;
    std::swap(out.rows_, out.cols_);
    out.transposed_ = !transposed_;
    return out;
  }

  /// Rows begin .. begin + count - 1 on the same bytes.
  stored_matrix middle_rows(index_t begin, index_t count) const {
    stored_matrix out = *this;
    out.data_ += (transposed_ ? begin : begin * stride_) * bytes_of(type_);
    out.rows_ = count;
    return out;
  }

  /// A block as float, in the order of the bytes: out [rows, cols], or [cols, rows] of a transposed matrix.
  void read_block(index_t row, index_t col, index_t rows, index_t cols, matrix& out) const {
    if (transposed_) std::swap(row, col), std::swap(rows, cols);
    out.resize(rows, cols);
    for (index_t i = 0; i < rows; ++i) read(row + i, col, cols, out.row(i).data());
  }

  /// A row as float.
  void read_row(index_t row, float* out) const {
    if (!transposed_) return read(row, 0, cols_, out);
    for (index_t i = 0; i < cols_; ++i) read(i, row, 1, out + i);
  }

 private:
  /// `count` stored values from (row, col) of the bytes on.
  void read(std::int64_t row, index_t col, index_t count, float* out) const {
    const std::byte* from = data_ + (row * stride_ + col) * bytes_of(type_);
    switch (type_) {
      case stored_type::f32: std::memcpy(out, from, static_cast<std::size_t>(count) * sizeof(float)); break;
      case stored_type::f16: convert<Eigen::half>(from, count, out); break;
      case stored_type::bf16: convert<Eigen::bfloat16>(from, count, out); break;
    }
  }

  template <class Stored>
  static void convert(const std::byte* from, index_t count, float* out) {
    static constexpr index_t       piece = 512;
    Eigen::Array<Stored, piece, 1> aligned;
    Eigen::Map<Eigen::ArrayXf>     floats(out, count);
    for (index_t begin = 0; begin < count; begin += piece) {
      const index_t length = std::min(piece, count - begin);
      std::memcpy(static_cast<void*>(aligned.data()), from + static_cast<std::size_t>(begin) * sizeof(Stored),
                  static_cast<std::size_t>(length) * sizeof(Stored));
      floats.segment(begin, length) = aligned.head(length).template cast<float>();
    }
  }

  const std::byte*            data_ = nullptr;
  stored_type                 type_ = stored_type::f32;
  index_t                     rows_ = 0, cols_ = 0;
  std::int64_t                stride_     = 0;      // between rows of the bytes, in values
  bool                        transposed_ = false;  // the bytes are [cols, rows]
  std::shared_ptr<const void> owner_;
};

}  // namespace engine
