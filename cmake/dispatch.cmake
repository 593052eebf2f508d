# cascada_add_dispatch(NAME [LEVELS level...] [ROWS type...])
#
# A static library NAME with what cascada/dispatch.hpp declares: the kernels of several levels of instructions, of which
# the best one that CPU and process have is chosen at run time. Programs link it and are compiled for the least CPU they
# shall run on.
#
#   LEVELS   x86-64 x86-64-v3 x86-64-v4 avx512-bf16 amx-bf16, or armv8-a; by default all that the compiler knows
#   ROWS     float bfloat16 float16: what features, queries, keys and values may be; by default all
include(CheckCXXCompilerFlag)

function(cascada_add_dispatch name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LEVELS;ROWS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "cascada_add_dispatch: ${arg_UNPARSED_ARGUMENTS} is neither LEVELS nor ROWS")
  endif()
  if(NOT CMAKE_OBJCOPY)
    message(FATAL_ERROR "cascada_add_dispatch: no objcopy, without which levels cannot be kept apart (CMAKE_OBJCOPY)")
  endif()

  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(known x86-64 x86-64-v3 x86-64-v4 avx512-bf16 amx-bf16) # ascending
    set(x86-64_flags -march=x86-64)
    set(x86-64-v3_flags -march=x86-64-v3)
    set(x86-64-v4_flags -march=x86-64-v4)
    set(avx512-bf16_flags -march=x86-64-v4 -mavx512bf16)
    set(amx-bf16_flags -march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(known armv8-a)
    set(armv8-a_flags -march=armv8-a)
  else()
    message(FATAL_ERROR "cascada_add_dispatch: no levels are known for ${CMAKE_SYSTEM_PROCESSOR}")
  endif()
  if(NOT arg_LEVELS)
    set(arg_LEVELS ${known})
  endif()
  foreach(level IN LISTS arg_LEVELS)
    if(NOT level IN_LIST known)
      message(FATAL_ERROR "cascada_add_dispatch: ${level} is none of ${known}")
    endif()
  endforeach()
  if(NOT arg_ROWS)
    set(arg_ROWS float bfloat16 float16)
  endif()
  foreach(row IN LISTS arg_ROWS)
    if(NOT row MATCHES "^(float|bfloat16|float16)$")
      message(FATAL_ERROR "cascada_add_dispatch: ${row} is none of float bfloat16 float16")
    endif()
  endforeach()
  list(JOIN arg_ROWS "," rows)

  set(levels)
  foreach(level IN LISTS known)
    if(NOT level IN_LIST arg_LEVELS)
      continue()
    endif()
    list(JOIN ${level}_flags " " flags)
    string(MAKE_C_IDENTIFIER CASCADA_COMPILES_${level} compiles)
    check_cxx_compiler_flag("${flags}" ${compiles})
    if(NOT ${compiles})
      message(NOTICE "cascada: ${name} has no ${level}, because the compiler does not know ${flags}")
      continue()
    endif()
    list(APPEND levels ${level})
  endforeach()
  if(NOT levels)
    message(FATAL_ERROR "cascada_add_dispatch: ${name} would have no level at all")
  endif()
  string(REPLACE "-" "_" identifiers "${levels}")
  list(GET levels 0 least)

  add_library(${name} STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/dispatch.cpp)
  target_compile_options(${name} PRIVATE ${${least}_flags})
  list(JOIN identifiers "," list)
  target_compile_definitions(${name} PRIVATE CASCADA_DISPATCH_LEVELS=${list})
  target_link_libraries(${name} PUBLIC cascada::cascada)

  # Of each level, nothing but makers_of<..> stays visible. Else the linker would keep one copy of a function of the
  # standard library for the whole program, maybe with instructions that the CPU lacks.
  foreach(level identifier IN ZIP_LISTS levels identifiers)
    set(of_level ${name}_${level})
    add_library(${of_level} STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/dispatch_level.cpp)
    # objcopy does not take symbols of the GNU kind "unique" for global ones.
    target_compile_options(${of_level} PRIVATE ${${level}_flags} -fno-lto $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
    target_compile_definitions(${of_level} PRIVATE
      CASCADA_DISPATCH_LEVEL=${identifier} CASCADA_DISPATCH_ROWS=${rows})
    target_link_libraries(${of_level} PRIVATE cascada::cascada)
    add_custom_command(TARGET ${of_level} POST_BUILD VERBATIM
      COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=_ZN7cascada*9makers_ofIL*
        --remove-section=.group $<TARGET_FILE:${of_level}>)
    set_target_properties(${of_level} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
    target_link_libraries(${name} PRIVATE ${of_level})
    list(APPEND targets ${of_level})
  endforeach()
  # It may become part of a shared library, which then shows nothing of it.
  set_target_properties(${name} ${targets} PROPERTIES
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON UNITY_BUILD OFF)
endfunction()
