# Cross-compiles for AArch64 (NEON) and runs what comes of it under emulation: Debian's g++-aarch64-linux-gnu, qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static) # the emulator then needs no libraries of the other machine
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
