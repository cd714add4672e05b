muster_test(dns_core_test LABEL unit
  SOURCES unit/dns/mesos_names_test.cpp
  DEPENDS muster::dns::core)
target_include_directories(dns_core_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns)
