# AMQP's methods, from the specification's XML and our supplement: see README.md there. Included
# from the top after polylog_amqp exists.
set(POLYLOG_AMQP_SPEC /usr/share/amqp/specs/0-9-1-rabbit/amqp0-9-1.stripped.extended.xml
    CACHE FILEPATH "AMQP 0-9-1's methods with RabbitMQ's extensions")
if(NOT EXISTS ${POLYLOG_AMQP_SPEC})
  message(FATAL_ERROR "${POLYLOG_AMQP_SPEC} is missing: install the Debian package amqp-specs "
                      "(scripts/setup build), or say where it is with -DPOLYLOG_AMQP_SPEC=FILE")
endif()

set(amqp_wire_dir ${CMAKE_SOURCE_DIR}/codecs/amqp/wire)
set(amqp_wire_out ${CMAKE_BINARY_DIR}/generated/codecs/amqp)
set(amqp_wire_inputs ${POLYLOG_AMQP_SPEC} ${amqp_wire_dir}/supplement.xml)
set(amqp_wire_generated ${amqp_wire_out}/methods.h ${amqp_wire_out}/methods.cc)
add_custom_command(
  OUTPUT ${amqp_wire_generated}
  COMMAND Python3::Interpreter ${amqp_wire_dir}/generate.py ${amqp_wire_out} ${amqp_wire_inputs}
  DEPENDS ${amqp_wire_inputs} ${amqp_wire_dir}/generate.py
  COMMENT "Generating codecs/amqp/methods"
  VERBATIM)

target_sources(polylog_amqp PRIVATE ${amqp_wire_generated})
