muster_test(dns_core_test LABEL unit
  SOURCES unit/dns/answer_test.cpp unit/dns/cache_test.cpp unit/dns/catalog_test.cpp unit/dns/compliance_test.cpp
    unit/dns/forwarder_test.cpp unit/dns/guard_test.cpp unit/dns/listing_test.cpp unit/dns/mesos_dns_api_test.cpp
    unit/dns/mesos_names_test.cpp unit/dns/name_test.cpp unit/dns/settings_test.cpp unit/dns/transfer_test.cpp
    unit/dns/upstream_stream_test.cpp
  DEPENDS muster::dns::core)
target_include_directories(dns_core_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns)
muster_test(dns_io_test LABEL unit THREADS
  SOURCES unit/dns/flood_test.cpp unit/dns/relay_test.cpp unit/dns/server_test.cpp unit/dns/service_test.cpp
    unit/dns/tls_upstream_test.cpp
  DEPENDS muster::dns::io)
target_include_directories(dns_io_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns)

add_executable(dns_answer_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/dns_answer_bench.cpp)
target_link_libraries(dns_answer_bench PRIVATE muster::dns::core muster_options)

foreach(target dns_name_fuzz dns_message_fuzz dns_answer_fuzz dns_reply_fuzz dns_server_fuzz
    dns_stream_fuzz)
  muster_fuzzer(${target} muster::dns::core)
endforeach()

muster_test(dns_import_test LABEL unit
  SOURCES unit/dns/import_test.cpp
  DEPENDS muster::cli muster::daemon::config)

# For bench/run dns; the server also stands before real clients.
foreach(program server load)
  add_executable(dns_bench_${program} ${PROJECT_SOURCE_DIR}/bench/dns_${program}.cpp)
  target_include_directories(dns_bench_${program} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(dns_bench_${program} PRIVATE muster::dns::io muster_options)
endforeach()
add_test(NAME "dns: dig, kdig and dnspython read what the server says"
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns/real_clients.py
    $<TARGET_FILE:dns_bench_server>)
set_tests_properties("dns: dig, kdig and dnspython read what the server says" PROPERTIES LABELS e2e TIMEOUT 120)
add_test(NAME "dns: dnsdist is asked over TLS"
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/unit/dns/real_upstream.py
    $<TARGET_FILE:dns_bench_server>)
set_tests_properties("dns: dnsdist is asked over TLS" PROPERTIES
  LABELS e2e TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED: ")
