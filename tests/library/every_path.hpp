#pragma once
// All ways to a set, held against the reference.

#include <vector>

#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/reference/selection.hpp"
#include "catch.hpp"
#include "tokens.hpp"

namespace tests {

using namespace cascada;

/// A selection, the literal one, and a step from `state` in either mode have the reference's sets. Returns that of the
/// selection.
template <class Scalar>
reference::selection check_every_path(matrix_view<const Scalar> x, selection_options options,
                                      const representatives& state) {
  const reference::selection full = reference::select<Scalar>(x, options);
  selector<Scalar>           select(options);
  REQUIRE(select(x) == status::ok);
  CHECK(to_vector(select.kept().rep) == full.rep);
  CHECK(select.report().pairs_evaluated >= select.report().gram.total());
  REQUIRE(select.literal(x) == status::ok);
  CHECK(to_vector(select.kept().rep) == full.rep);
  const std::vector<index_t> step = reference::cascade<Scalar>(x, state, options).rep;
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    options.validate = validate;
    cascade<Scalar> walk(options);
    REQUIRE(walk.inherit(state) == status::ok);
    REQUIRE(walk.step(x) == status::ok);
    CHECK(to_vector(walk.kept().rep) == step);
    CHECK(walk.report().pairs_evaluated >= walk.report().gram.total());
  }
  return full;
}

}  // namespace tests
