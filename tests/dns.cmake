muster_test(dns_core_test LABEL unit
  SOURCES unit/dns/answer_test.cpp unit/dns/catalog_test.cpp unit/dns/forwarder_test.cpp unit/dns/listing_test.cpp unit/dns/name_test.cpp unit/dns/mesos_names_test.cpp
  DEPENDS muster::dns::core)
target_include_directories(dns_core_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns)
muster_test(dns_io_test LABEL unit THREADS
  SOURCES unit/dns/relay_test.cpp unit/dns/server_test.cpp
  DEPENDS muster::dns::io)
target_include_directories(dns_io_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns)

add_executable(dns_answer_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/dns_answer_bench.cpp)
target_link_libraries(dns_answer_bench PRIVATE muster::dns::core muster_options)

foreach(target dns_name_fuzz dns_message_fuzz dns_answer_fuzz dns_reply_fuzz)
  muster_fuzzer(${target} muster::dns::core)
endforeach()
