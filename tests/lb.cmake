muster_test(lb_core_test LABEL unit
  SOURCES unit/lb/plan_test.cpp unit/lb/slots_test.cpp unit/lb/vip_table_test.cpp
  DEPENDS muster::lb::core)
muster_test(lb_io_test LABEL unit
  SOURCES unit/lb/balancer_test.cpp unit/lb/fake_driver_test.cpp unit/lb/ipvs_plan_test.cpp unit/lb/netlink_test.cpp unit/lb/programmer_test.cpp
  DEPENDS muster::lb::io)

add_library(muster_test_netns STATIC support/netns.cpp support/sockets.cpp)
target_include_directories(muster_test_netns PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(muster_test_netns PUBLIC muster::base Threads::Threads PRIVATE muster_options)

# Where namespaces cannot be made a scenario prints "SKIPPED: <reason>", and ctest shows it so.
add_executable(lb_scenarios scenarios/lb_driver_test.cpp scenarios/lb_life_test.cpp scenarios/lb_size_test.cpp scenarios/lb_traffic_test.cpp)
target_link_libraries(lb_scenarios PRIVATE muster_test_main muster_options muster_test_netns muster::lb::io)
doctest_discover_tests(lb_scenarios
  PROPERTIES LABELS scenario TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED: ")
