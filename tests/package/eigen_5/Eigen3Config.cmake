# Stands for Eigen 5, as EIGEN says where this machine's is: its package takes requests for version 5 alone.
add_library(Eigen3::Eigen INTERFACE IMPORTED)
target_include_directories(Eigen3::Eigen INTERFACE ${EIGEN})
set_target_properties(Eigen3::Eigen PROPERTIES STANDS_FOR 5)
