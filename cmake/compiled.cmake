# cascada::compiled is cascada::cascada, but the kernels of the usual types are compiled once (cascada/compiled.hpp): in a
# static library of the build that links it, so with that build's flags, and for targets that have the same.
if(NOT TARGET cascada_compiled)
  add_library(cascada_compiled STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/compiled.cpp)
  add_library(cascada::compiled ALIAS cascada_compiled)
  target_link_libraries(cascada_compiled PUBLIC cascada::cascada)
  target_compile_definitions(cascada_compiled INTERFACE CASCADA_COMPILED)
  # It may become part of a shared library, which then shows nothing of it.
  set_target_properties(cascada_compiled PROPERTIES
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endif()
