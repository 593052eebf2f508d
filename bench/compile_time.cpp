// What a user's file costs to compile: both classes that most programs use (entries/compiling.py).
#include "cascada/cascada.hpp"

cascada::status layer(cascada::cascade<float>& cascade, cascada::attention<float>& attend,
                      cascada::matrix_view<const float> x, cascada::heads_view<const float> q,
                      const cascada::strided_kv<float>& kv, cascada::heads_view<float> out) {
  if (const cascada::status answer = cascade.step(x); answer != cascada::status::ok) return answer;
  return attend(q, kv, cascade.kept(), out);
}
