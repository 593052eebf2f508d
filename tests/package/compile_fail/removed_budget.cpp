// An option that is gone says what to write instead.
#include "cascada/attention_options.hpp"

#if SHOULD_FAIL
constexpr cascada::attention_options options = {.budget = 32};
#else
constexpr cascada::attention_options options = {.open = cascada::opening::by_mass};
#endif

static_assert(check(options) == cascada::status::ok);
