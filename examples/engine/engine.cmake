# The target engine: the headers of this folder. Included by the examples and by the tests.
find_package(nlohmann_json 3.10 REQUIRED)
include_guard(GLOBAL)

add_library(engine INTERFACE)
target_include_directories(engine INTERFACE ${CMAKE_CURRENT_LIST_DIR}/..)
target_link_libraries(engine INTERFACE cascada::cascada nlohmann_json::nlohmann_json)
# g++ 12 takes _mm512_undefined_ps, which Eigen's exp ends in, for a mistake (GCC bug 105593).
target_compile_options(engine INTERFACE "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
