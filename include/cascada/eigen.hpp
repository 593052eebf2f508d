#pragma once
// Opt-in adapters: row-major Eigen matrices as views, and views as Eigen maps. Nothing is copied.
//
// Not part of cascada.hpp. Eigen's own types differ between -m flags: exchange views, not Eigen objects, between parts
// of a program that are compiled for different instructions.

#include <concepts>
#include <limits>
#include <type_traits>

#include "cascada/config.hpp"
#include "cascada/cpu/base/simd.hpp"  // Eigen/Core, without the false alarms of g++ 12
#include "cascada/views.hpp"

namespace cascada::inline CASCADA_ABI {

namespace detail {

template <class Matrix>
concept eigen_object = std::derived_from<std::remove_cvref_t<Matrix>, Eigen::DenseBase<std::remove_cvref_t<Matrix>>>;

/// Sizes that index_t cannot count become its largest, which a selection refuses as `too_large`.
CASCADA_INLINE constexpr index_t to_index(Eigen::Index size) noexcept {
  constexpr auto largest = std::numeric_limits<index_t>::max();
  return size > largest ? largest : static_cast<index_t>(size);
}

}  // namespace detail

/// The rows of a Matrix, Array, Map, Block or Ref of float that is row-major, has unit inner stride and a name:
///
///   auto rows = m.middleRows(8, 4);
///   select(cascada::view(rows));
///
/// Valid as long as `m` keeps its memory. Writable where `m` is. A column vector is column-major to Eigen.
template <detail::eigen_object Matrix>
[[nodiscard]] CASCADA_INLINE auto view(Matrix&& m) noexcept {
  using type = std::remove_cvref_t<Matrix>;
  static_assert(std::is_lvalue_reference_v<Matrix>,
                "cascada::view: a temporary Eigen object can be gone before its view is read; give it a name first");
  static_assert((type::Flags & Eigen::DirectAccessBit) != 0,
                "cascada::view: an Eigen expression has no rows in memory; evaluate it into a matrix first");
  static_assert(std::same_as<typename type::Scalar, float>, "cascada::view: the Eigen scalar has to be float");
  static_assert(type::IsRowMajor,
                "cascada::view: tokens are rows in memory; use a row-major Eigen matrix (Eigen::RowMajor)");
  static_assert(type::InnerStrideAtCompileTime == 1, "cascada::view: rows need a unit inner stride, known to the type");

  using element = std::remove_pointer_t<decltype(m.data())>;
  return matrix_view<element>{m.data(), detail::to_index(m.rows()), detail::to_index(m.cols()), m.outerStride()};
}

/// An Eigen map of the same rows, for any stride and alignment.
template <class Scalar>
  requires std::same_as<std::remove_const_t<Scalar>, float>
[[nodiscard]] CASCADA_INLINE auto as_eigen(matrix_view<Scalar> v) noexcept {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using mapped = std::conditional_t<std::is_const_v<Scalar>, const matrix, matrix>;
  return Eigen::Map<mapped, Eigen::Unaligned, Eigen::OuterStride<>>(v.data, v.rows, v.cols,
                                                                    Eigen::OuterStride<>(v.stride));
}

}  // namespace cascada::inline CASCADA_ABI
