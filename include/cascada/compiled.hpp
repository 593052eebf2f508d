#pragma once
// Opt-in, for shorter compilation: the kernels of the usual types are declared here, and compiled in one place.
//
// cascada.hpp includes this header where CASCADA_COMPILED is defined. One translation unit defines CASCADA_COMPILE,
// includes this header, and has the code. CMake's target cascada::compiled does both. They have to be compiled for the
// same instructions and settings (isa.hpp); else the linker misses the kernels by name, since those of other settings
// are others. Types that are not listed are compiled where they are used, as without this header.

#include <span>

#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/select/cascade.hpp"

#ifdef CASCADA_COMPILE
#define CASCADA_KERNEL template
#else
#define CASCADA_KERNEL extern template
#endif

#define CASCADA_SELECTION_OF(Scalar)                                                                              \
  CASCADA_KERNEL status select_all(selection_call<Scalar, default_backend>&, product_workspace<default_backend>&, \
                                   index_t);                                                                      \
  CASCADA_KERNEL status cascade_cross_gram(selection_call<Scalar, default_backend>&,                              \
                                           product_workspace<default_backend>&,                                   \
                                           cross_gram_workspace<default_backend>&, const representatives&);

#define CASCADA_ATTENTION_OF(Scalar, KV, Out)                                                                     \
  CASCADA_KERNEL void attend_batch(attention_sequence<Scalar, KV, Out>, const attention_options&,                 \
                                   std::span<const representatives>, const detail::sequence_spans&,               \
                                   attention_workspace<default_backend, operand_of<Scalar, default_backend>>&,    \
                                   const default_backend&, attention_report&);                                    \
  CASCADA_KERNEL void attend_sequence(const attention_sequence<Scalar, KV, Out>&, const attention_options&,       \
                                      kv_head_state<default_backend, operand_of<Scalar, default_backend>>*,       \
                                      attention_workspace<default_backend, operand_of<Scalar, default_backend>>&, \
                                      const default_backend&, attention_report&);

namespace cascada::inline CASCADA_ABI::kernel::select {

CASCADA_SELECTION_OF(float)
CASCADA_SELECTION_OF(bfloat16)

}  // namespace cascada::inline CASCADA_ABI::kernel::select

namespace cascada::inline CASCADA_ABI::kernel::attention {

CASCADA_ATTENTION_OF(float, strided_kv<float>, float)
CASCADA_ATTENTION_OF(bfloat16, strided_kv<bfloat16>, bfloat16)

}  // namespace cascada::inline CASCADA_ABI::kernel::attention

#undef CASCADA_KERNEL
#undef CASCADA_SELECTION_OF
#undef CASCADA_ATTENTION_OF
