# Kafka's messages, from the definitions beside this file: see README.md there. Included from the
# top after polylog_kafka exists.
set(wire_dir ${CMAKE_SOURCE_DIR}/codecs/kafka/wire)
set(wire_out ${CMAKE_BINARY_DIR}/generated/codecs/kafka/wire)
set(wire_script ${wire_dir}/generate.py)
file(GLOB wire_definitions CONFIGURE_DEPENDS ${wire_dir}/*.def)

set(wire_generated)
foreach(definition ${wire_definitions})
  get_filename_component(stem ${definition} NAME_WE)
  add_custom_command(
    OUTPUT ${wire_out}/${stem}.h ${wire_out}/${stem}.cc
    COMMAND Python3::Interpreter ${wire_script} ${definition} ${wire_out}
    DEPENDS ${definition} ${wire_script}
    COMMENT "Generating codecs/kafka/wire/${stem}"
    VERBATIM)
  list(APPEND wire_generated ${wire_out}/${stem}.h ${wire_out}/${stem}.cc)
endforeach()
add_custom_command(
  OUTPUT ${wire_out}/all.h
  COMMAND Python3::Interpreter ${wire_script} --all ${wire_out} ${wire_definitions}
  DEPENDS ${wire_definitions} ${wire_script}
  COMMENT "Generating codecs/kafka/wire/all.h"
  VERBATIM)
list(APPEND wire_generated ${wire_out}/all.h)

target_sources(polylog_kafka PRIVATE ${wire_generated})
