# `cmake --install` gives headers, and packages for find_package(cascada) and pkg-config. All may be moved together.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cascada)
install(TARGETS cascada EXPORT cascada FILE_SET HEADERS)
install(EXPORT cascada NAMESPACE cascada:: DESTINATION ${package_dir} FILE cascada-targets.cmake)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cascada-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/cascada-config.cmake cmake/compiled.cmake cmake/compiled.cpp
  cmake/dispatch.cmake cmake/dispatch.cpp cmake/dispatch_level.cpp
  ${PROJECT_BINARY_DIR}/cascada-config-version.cmake DESTINATION ${package_dir})

# The prefix is told from where the file lies, so that it may be chosen or changed later.
set(pkgconfig_dir ${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig)
file(RELATIVE_PATH to_prefix ${pkgconfig_dir} ${CMAKE_INSTALL_PREFIX})
cmake_path(APPEND includedir "\${prefix}" ${CMAKE_INSTALL_INCLUDEDIR})
configure_file(cmake/cascada.pc.in cascada.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cascada.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
