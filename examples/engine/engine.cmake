# The target engine. Included by the examples, the tests and the benchmarks.
find_package(nlohmann_json 3.10 REQUIRED)
include_guard(GLOBAL)

# What takes long to compile is in sources; the rest is headers.
add_library(engine STATIC EXCLUDE_FROM_ALL
  ${CMAKE_CURRENT_LIST_DIR}/bert.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cascade_study.cpp
  ${CMAKE_CURRENT_LIST_DIR}/decoder.cpp
  ${CMAKE_CURRENT_LIST_DIR}/far_selection.cpp
  ${CMAKE_CURRENT_LIST_DIR}/growing_attention.cpp
  ${CMAKE_CURRENT_LIST_DIR}/layer_attention.cpp
  ${CMAKE_CURRENT_LIST_DIR}/linear.cpp
  ${CMAKE_CURRENT_LIST_DIR}/mlp.cpp
  ${CMAKE_CURRENT_LIST_DIR}/random_selection.cpp)
target_include_directories(engine PUBLIC ${CMAKE_CURRENT_LIST_DIR}/..)
target_link_libraries(engine PUBLIC cascada::cascada nlohmann_json::nlohmann_json)
# g++ 12 takes _mm512_undefined_ps, which Eigen's exp ends in, for a mistake (GCC bug 105593).
target_compile_options(engine PUBLIC "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
