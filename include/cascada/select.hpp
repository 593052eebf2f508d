#pragma once
// Selection: the representatives of one layer, from nothing (Activation Decorrelation Attention, arXiv:2605.03110).

#include <utility>

#include "cascada/backend.hpp"
#include "cascada/cpu/literal.hpp"
#include "cascada/cpu/select.hpp"
#include "cascada/report.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_options.hpp"

namespace cascada::inline CASCADA_ABI {

template <row_scalar Scalar, backend B = default_backend>
class selector;

/// Picks representatives with a Gram threshold.
///
/// Scans tokens in order; token i becomes a representative unless an earlier one j has cosine G_ij >= tau. The set is
/// unique: the lexicographically first maximal independent set of the threshold graph. Every token has a
/// representative at or before it with cosine >= tau; representatives are pairwise below tau; the set of the first n
/// tokens is the set of the sequence cut at n.
///
/// Verdicts are bit for bit the same for every instruction set, thread count and block shape, and the same as in
/// `cascade`. They assume round-to-nearest and subnormals (do not link with -ffast-math). A row whose squared norm is
/// below 2^-60 counts as zero: it stands for itself alone.
///
/// Workspace is kept: a second call of the same shape allocates nothing.
template <row_scalar Scalar, cpu_backend B>
class selector<Scalar, B> {
 public:
  explicit selector(selection_options options = {}, B where = {}) : options_(options), where_(where) {}

  /// Full selection of x [T, d]. O(T r d) time, O(T + r d) memory; never forms a T x T matrix.
  [[nodiscard]] status operator()(matrix_view<const Scalar> x) {
    return run(x, [&] { return kernel::select_all(pass_); });
  }

  /// The same set and rep by way of the whole T x T Gram matrix: the paper's baseline. O(T^2 d) time, O(T^2) memory.
  [[nodiscard]] status literal(matrix_view<const Scalar> x) {
    const status answer = run(x, [&] {
      all_.reserve(x.rows, x.cols);
      gram_.reserve(std::int64_t{x.rows} * x.rows);
      return kernel::select_literal(pass_, all_, gram_.data());
    });
    if (answer == status::ok) report_.gram = {.selection = full_gram_operations(x.rows)};
    return answer;
  }

  /// The last selection; empty before the first. Valid until the next call.
  [[nodiscard]] representatives kept() const noexcept { return kept_.view(); }

  [[nodiscard]] const selection_report& report() const noexcept { return report_; }

 private:
  template <class Select>
  status run(matrix_view<const Scalar> x, Select select) {
    if (const status answer = detail::check(x, options_); answer != status::ok) return answer;
    pass_.reserve(x.rows, x.cols, options_, where_);
    pass_.start(x, nullptr);
    if (const status answer = select(); answer != status::ok) return answer;
    report_ = pass_.finish(nullptr);
    std::swap(pass_.now, kept_);
    pass_.now.reserve(x.rows, pass_.limit);  // of the next call, which then allocates nothing
    return status::ok;
  }

  selection_options                 options_;
  B                                 where_;
  kernel::selection_pass<Scalar, B> pass_;
  kernel::selection_state<B>        kept_;
  kernel::packed_rows<B>            all_;   // literal only
  kernel::buffer<float, B>          gram_;  // literal only
  selection_report                  report_ = {};
};

}  // namespace cascada::inline CASCADA_ABI
