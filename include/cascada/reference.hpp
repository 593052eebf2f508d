#pragma once
// The whole method in plain loops: the oracle of every kernel, and the place to read how it works. Not for speed, and
// not part of cascada.hpp.
//
// A transformer layer sees T tokens, many of which say the same thing. Selection walks over them in order and keeps a
// token as a representative unless an earlier representative is close to it (cosine at least tau). The next layer
// does not select anew: it inherits the representatives, checks that each token is still covered by the one it had,
// and repairs the set where it is not. Attention then needs only the r representatives: all tokens ask few keys
// instead of T, each cluster of tokens answering with its mean, weighted by its size.
//
// For causal models that is too coarse. There a query attends to near tokens one by one, and to older ones through
// leaves: a few tokens of a cluster with like keys, which answer with their mean, or, where they matter, open and
// answer for themselves.
//
// What near field, edge, sinks, leaves and opening are, cascada/attention_options.hpp defines.
//
//   selection.hpp   the set, the cascade, and what both cost in Gram operations
//   groups.hpp      tokens, and what stands for several of them
//   far_field.hpp   clusters of tokens, and the leaves they are cut into
//   softmax.hpp     what a query gives to each, and the results of two sets of keys as one
//   attention.hpp   what each query attends to: dense, near and far field, the compressed problem

#include "cascada/reference/attention.hpp"
#include "cascada/reference/far_field.hpp"
#include "cascada/reference/groups.hpp"
#include "cascada/reference/selection.hpp"
#include "cascada/reference/softmax.hpp"
