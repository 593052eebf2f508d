#pragma once
// Cascada: attention on the few tokens that carry non-redundant information (arXiv:2605.03110).
//
// The headers in the order in which data flows. Tokens of a layer are compared by cosine (gram); a token that no
// earlier one resembles becomes a representative (select); the next layer inherits the set and repairs it (cascade);
// of the tokens that a representative stands for (cluster), those with like keys become leaves; queries attend to near
// tokens exactly, to older ones through leaves, and to the tokens of the leaves that matter (attention); results for
// parts of the keys become one (merge). Each step tells what it cost (report, attention_report). Settings that were
// measured on a whole model: presets.
//
// Threads: options, views, reports and statuses are plain values, and functions keep nothing from call to call. Each
// class says what several threads may do with it: in short, one call at a time, and anything with different objects.
//
// What the words mean: GLOSSARY.md. What is equal to what, bit for bit: NUMERICS.md. Both are beside this file.
//
// Opt-in, beside this door: cascada/eigen.hpp (adapters from and to Eigen), cascada/reference.hpp (the oracle),
// cascada/hip.hpp (the same stages on an AMD MI300X), cascada/compiled.hpp (kernels that are compiled once),
// cascada/dispatch.hpp (kernels for several CPUs in one program).

// Vocabulary.
// clang-format off: in the order of data
#include "cascada/config.hpp"
#include "cascada/status.hpp"
#include "cascada/scalar.hpp"
#include "cascada/views.hpp"
#include "cascada/kv_view.hpp"
#include "cascada/q8_0.hpp"
#include "cascada/executor.hpp"
#include "cascada/thread_pool.hpp"
#include "cascada/isa.hpp"
#include "cascada/backend.hpp"
#include "cascada/representatives.hpp"
#include "cascada/selection_report.hpp"

// Stages: contracts, and the CPU that keeps them.
#include "cascada/selection_options.hpp"
#include "cascada/select.hpp"
#include "cascada/cpu/select/selector.hpp"
#include "cascada/cascade.hpp"
#include "cascada/cpu/select/cascade.hpp"
#include "cascada/cpu/select/growing.hpp"
#include "cascada/cluster.hpp"
#include "cascada/attention_options.hpp"
#include "cascada/attention_call.hpp"
#include "cascada/attention_report.hpp"
#include "cascada/attention.hpp"
#include "cascada/attention_merge.hpp"
#include "cascada/cpu/attention/attention.hpp"
#include "cascada/cpu/attention/merge.hpp"
#include "cascada/presets.hpp"
// clang-format on

#ifdef CASCADA_COMPILED
#include "cascada/compiled.hpp"
#endif
