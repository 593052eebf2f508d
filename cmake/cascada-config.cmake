include(CMakeFindDependencyMacro)
if(NOT TARGET Eigen3::Eigen)
  find_dependency(Eigen3 NO_MODULE) # no version, as in cascada's own build
endif()
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/cascada-targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/compiled.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/dispatch.cmake)
