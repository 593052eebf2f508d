// Compiled with -fno-exceptions -fno-rtti: every class of the library, made and used once.

#include <cstdio>
#include <vector>

#include "cascada/cascada.hpp"
#include "cascada/eigen.hpp"
#include "cascada/reference.hpp"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this file is to be compiled with -fno-exceptions -fno-rtti"
#endif

using namespace cascada;

namespace {

constexpr index_t T = 100, d = 12;

template <class Scalar>
bool run() {
  std::vector<Scalar> memory(static_cast<std::size_t>(T) * d), out(memory.size());
  for (index_t t = 0; t < T; ++t) memory[static_cast<std::size_t>(t * d + t % 5)] = from_float<Scalar>(1.0f);
  const matrix_view<const Scalar> x{memory.data(), T, d, d};

  selector<Scalar> select;
  if (select(x) != status::ok || select.kept().count() != 5) return false;
  if (select.literal(x) != status::ok || select.kept().count() != 5) return false;
  for (const auto validate : {validation::exact, validation::cross_gram}) {
    cascade<Scalar> walk({.validate = validate});
    if (walk.step(x) != status::ok || walk.step(x) != status::ok || walk.report().additions != 0) return false;
  }

  const auto               rows = packed_heads<const Scalar>(memory.data(), T, 2, d / 2);
  const auto               kept = select.kept();
  const strided_kv<Scalar> kv{rows, rows};
  for (const auto keys : {key_set::all, key_set::near, key_set::near_and_far}) {
    attention<Scalar> attend({.keys = keys, .window = 8, .chunk = 16});
    if (attend(rows, kv, kept, packed_heads(out.data(), T, 2, d / 2)) != status::ok) return false;
    if (to_float(out[0]) != 1.0f) return false;  // token 0 sees itself alone
  }
  return true;
}

}  // namespace

int main() {
  const bool ok = run<float>() && run<bfloat16>();
  std::puts(ok ? "ok" : "failed");
  return ok ? 0 : 1;
}
