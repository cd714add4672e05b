muster_test(dev_test LABEL unit
  SOURCES unit/dev/app_test.cpp unit/dev/contract_test.cpp unit/dev/faults_test.cpp unit/dev/http_server_test.cpp unit/dev/load_test.cpp
    unit/dev/master_test.cpp unit/dev/task_plan_test.cpp
  DEPENDS muster::dev::io)

# Whole clusters of muster-dev, with a stand-in for muster.
function(muster_dev_case case name)
  add_test(NAME "${name}"
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/unit/dev/cluster_test.py
      $<TARGET_FILE:muster-dev> ${case})
  set_tests_properties("${name}" PROPERTIES LABELS e2e PROCESSORS 2 TIMEOUT 300
    SKIP_REGULAR_EXPRESSION "SKIPPED: ")
endfunction()
muster_dev_case(life "muster-dev: tasks run, die, come back, and live as recorded ones do")
muster_dev_case(nodes "muster-dev: nodes, containers, daemons and the master do as they are told")
muster_dev_case(terminal "muster-dev: exec gives a terminal to what it runs")
muster_dev_case(wrong "muster-dev: what is wrong is said, with exit status 2 or 1")
muster_dev_case(nothing_left "muster-dev: however it ends, nothing is left")
