muster_test(mesos_core_test LABEL unit
  SOURCES unit/mesos/agent_state_test.cpp unit/mesos/master_state_test.cpp unit/mesos/ports_test.cpp unit/mesos/recordio_test.cpp
    unit/mesos/snapshot_test.cpp unit/mesos/vip_label_test.cpp unit/mesos/zookeeper_test.cpp
  DEPENDS muster::mesos::core)
muster_test(mesos_io_test LABEL unit THREADS
  SOURCES unit/mesos/agent_poller_test.cpp unit/mesos/observer_poll_test.cpp unit/mesos/observer_test.cpp unit/mesos/observer_tls_test.cpp unit/mesos/resolver_test.cpp
    unit/mesos/zk_detector_test.cpp
  DEPENDS muster::mesos::io)

# One entry in ctest, so that it can be reported as skipped where there are no recordings.
add_executable(mesos_recordings_test unit/mesos/recordings_test.cpp)
target_link_libraries(mesos_recordings_test PRIVATE muster_test_main muster_options muster::mesos::io)
add_test(NAME "recordings of real Mesos masters" COMMAND mesos_recordings_test)
set_tests_properties("recordings of real Mesos masters" PROPERTIES
  LABELS unit TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED:")

add_executable(mesos_zookeeper_test unit/mesos/zookeeper_server_test.cpp)
target_link_libraries(mesos_zookeeper_test PRIVATE muster_test_main muster_options muster::mesos::io)
add_test(NAME "masters are found in a real ZooKeeper" COMMAND mesos_zookeeper_test)
set_tests_properties("masters are found in a real ZooKeeper" PROPERTIES
  LABELS unit TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED:")

add_test(NAME "masters that fail over and answers that are spoilt cost no backend"
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/mesos_test.py
    $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster>)
set_tests_properties("masters that fail over and answers that are spoilt cost no backend" PROPERTIES
  LABELS e2e TIMEOUT 400 SKIP_REGULAR_EXPRESSION "SKIPPED: ")

add_test(NAME "what agents say reaches all, with a master or without"
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/agent_test.py
    $<TARGET_FILE:muster-dev> $<TARGET_FILE:muster>)
set_tests_properties("what agents say reaches all, with a master or without" PROPERTIES
  LABELS e2e TIMEOUT 600 SKIP_REGULAR_EXPRESSION "SKIPPED: ")

muster_fuzzer(zk_fuzz muster::mesos::core)
muster_fuzzer(recordio_fuzz muster::mesos::core)
muster_fuzzer(event_fuzz muster::mesos::core)
muster_fuzzer(state_fuzz muster::mesos::core)
