"""Conan Center's eigen, for tests without it: the headers of this machine, at EIGEN."""

import os

from conan import ConanFile


class SystemEigen(ConanFile):
    name = "eigen"
    version = "3.4.0"
    package_type = "header-library"

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "Eigen3")
        self.cpp_info.set_property("cmake_target_name", "Eigen3::Eigen")
        self.cpp_info.includedirs = [os.environ["EIGEN"]]
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
