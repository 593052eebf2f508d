#pragma once
// The door to AMD's MI300X (gfx942): the stages of cascada.hpp for rows in device memory. No CPU kernels, and no Eigen.
//
//   cascada::hip_gfx942                        where.stream = stream;  // a hipStream_t
//   cascada::cascade<bfloat16, hip_gfx942>     walk({.threshold = 0.7f}, where);
//   cascada::attention<bfloat16, hip_gfx942>   attend(options, where);
//
// The runtime behind it is there for translation units that a HIP compiler reads (-x hip).

// clang-format off: in the order of data
#include "cascada/hip/base/runtime.hpp"  // first: clang's own headers want the macros of the runtime's

// Vocabulary.
#include "cascada/config.hpp"
#include "cascada/status.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_report.hpp"

// Stages.
#include "cascada/selection_options.hpp"
#include "cascada/hip/select/selector.hpp"
#include "cascada/hip/select/cascade.hpp"
#include "cascada/hip/select/growing.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/hip/attention/attention.hpp"
#include "cascada/hip/attention/merge.hpp"
#include "cascada/presets.hpp"
// clang-format on
