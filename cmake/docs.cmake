# The docs site: `cmake --build BUILD --target docs` leaves it in BUILD/docs/html. No option: the target costs nothing until
# it is asked for, says itself that Doxygen is missing, and is not there for a project that adds this folder.
find_program(CASCADA_PYTHON python3)
if(CASCADA_PYTHON)
  add_custom_target(docs USES_TERMINAL VERBATIM
    COMMAND ${CASCADA_PYTHON} ${PROJECT_SOURCE_DIR}/cmake/docs/site.py ${PROJECT_BINARY_DIR}/docs)
endif()
