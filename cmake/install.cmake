# `cmake --install` gives headers and a package for find_package(cascada).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/cascada)
install(TARGETS cascada EXPORT cascada FILE_SET HEADERS)
install(EXPORT cascada NAMESPACE cascada:: DESTINATION ${package_dir} FILE cascada-targets.cmake)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cascada-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/cascada-config.cmake ${PROJECT_BINARY_DIR}/cascada-config-version.cmake
  DESTINATION ${package_dir})
