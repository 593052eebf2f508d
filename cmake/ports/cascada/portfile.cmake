# Installs the sources that this port lies in: vcpkg install cascada --overlay-ports=PATH/TO/cascada/cmake/ports
set(VCPKG_BUILD_TYPE release) # headers only

cmake_path(CONVERT "${CMAKE_CURRENT_LIST_DIR}/../../.." TO_CMAKE_PATH_LIST sources NORMALIZE)
vcpkg_cmake_configure(
  SOURCE_PATH ${sources}
  OPTIONS
    -DCASCADA_INSTALL=ON
    -DCASCADA_BUILD_TESTS=OFF
    -DCASCADA_BUILD_BENCH=OFF
    -DCASCADA_BUILD_EXAMPLES=OFF
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup()
vcpkg_fixup_pkgconfig()
vcpkg_install_copyright(FILE_LIST ${sources}/LICENSE)
