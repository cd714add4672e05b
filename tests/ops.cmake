muster_test(cli_test LABEL unit
  SOURCES unit/cli/cli_test.cpp
  DEPENDS muster::cli::keys)

# The status page, the package, the alert rules and the manuals: shell and Node around what is built.
function(muster_ops_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT" "COMMAND")
  add_test(NAME "${name}" COMMAND ${arg_COMMAND})
  set_tests_properties("${name}" PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    SKIP_REGULAR_EXPRESSION "SKIPPED: ")
  if(NOT arg_LABEL STREQUAL unit)  # a cluster's own processes fill two processors
    set_tests_properties("${name}" PROPERTIES PROCESSORS 2)
  endif()
endfunction()

muster_ops_test("status page in a browser" LABEL e2e TIMEOUT 300
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/page/run $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster>)
muster_ops_test("client, metrics and manuals over a cluster" LABEL e2e TIMEOUT 300
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/client_test.py
    $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR})
muster_ops_test("gossip: deaths, takeovers and a stranger, among real daemons" LABEL e2e TIMEOUT 300
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/gossip_test.py
    $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR})
muster_ops_test("namespaces: a daemon without CAP_SYS_ADMIN serves a container that bypasses the node" LABEL e2e TIMEOUT 300
  COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/e2e/namespace_test.py $<TARGET_FILE:muster> $<TARGET_FILE:muster-netns>)
# These and the faults are behind tests/run --all: minutes each, and real servers to install.
foreach(client curl nginx postgresql redis iperf3 prometheus dig)
  muster_ops_test("clients: ${client} through VIPs and names, while backends come and go" LABEL long TIMEOUT 400
    COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/clients/clients_test.py
      $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR} ${client})
endforeach()
# Docker and firewalld themselves: fetched by tests/run --all, run in namespaces, never installed.
foreach(case docker docker-legacy firewalld firewalld-docker)
  muster_ops_test("firewalls: ${case} beside muster" LABEL long TIMEOUT 600
    COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/firewalls/firewalls_test.py
      $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR}/build/firewalls ${case})
endforeach()
muster_ops_test("alert rules: silent on a healthy cluster, and each fires" LABEL unit TIMEOUT 60
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/package/alerts)
muster_ops_test("package: configuration, manuals, completions and unit agree with the program" LABEL unit TIMEOUT 60
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/package/files_test.py $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR})
foreach(case model secrets sbom)
  muster_ops_test("security: ${case}" LABEL unit TIMEOUT 300
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/package/security_test.py $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR} ${case})
endforeach()
# The package is built from the preset `release` only: what sanitizers link is in no Debian package.
if(NOT MUSTER_SANITIZE)
  muster_ops_test("security: hardening" LABEL unit TIMEOUT 60
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/package/security_test.py $<TARGET_FILE:muster> ${PROJECT_SOURCE_DIR}
      hardening $<$<BOOL:${MUSTER_HARDEN}>:all>)
  muster_ops_test("package: installed, run, upgraded, removed on a clean Debian" LABEL e2e TIMEOUT 600
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/package/built ${PROJECT_BINARY_DIR})
  muster_ops_test("package: the container image is built and runs with two capabilities" LABEL long TIMEOUT 600
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/package/built ${PROJECT_BINARY_DIR} image)
endif()
