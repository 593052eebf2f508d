# For a build that brings its own Eigen, at EIGEN, and finds none.
add_library(Eigen3::Eigen INTERFACE IMPORTED)
target_include_directories(Eigen3::Eigen INTERFACE ${EIGEN})
set(CMAKE_DISABLE_FIND_PACKAGE_Eigen3 ON)
