#pragma once
// Names of what is dumped of a model's layers: residual_00, q_04, ...

#include <cstdio>
#include <string>

namespace bench {

inline std::string numbered(const char* what, int layer) {
  char name[24];
  std::snprintf(name, sizeof name, "%s_%02d", what, layer);
  return name;
}

}  // namespace bench
