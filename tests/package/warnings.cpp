// Compiled with all of a strict user's warnings as errors, the library's headers not as system headers. Others' headers
// come first: where g++ 12's own intrinsics are included before the library, their false alarms must stay silent too.

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <Eigen/Core>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/eigen.hpp"
#include "cascada/reference/selection.hpp"

namespace {

using namespace cascada;

/// Instantiates all that selection has.
template <class Scalar>
index_t run(matrix_view<const Scalar> x) {
  index_t kept = 0;
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    const selection_options options{.assign = assignment::nearest, .validate = validate};
    selector<Scalar>        select(options);
    cascade<Scalar>         walk(options);
    if (select(x) == status::ok && select.literal(x) == status::ok && walk.inherit(select.kept()) == status::ok &&
        walk.step(x) == status::ok)
      kept += walk.fork().kept().count();
    kept += reference::cascade(x, select.kept(), options).view().count() + reference::select(x, options).view().count();
  }
  return kept;
}

}  // namespace

template <class Scalar>
index_t used(const Scalar* rows) {
  return run<Scalar>({rows, 40, 16, 16});
}

int main() {
  const Eigen::Matrix<float, 40, 16, Eigen::RowMajor> x = Eigen::Matrix<float, 40, 16, Eigen::RowMajor>::Random();
  const bfloat16                                      narrow[40 * 16] = {};
  const float16                                       half[40 * 16]   = {};
  return run(view(x)) + used(narrow) + used(half) > 0 ? 0 : 1;
}
