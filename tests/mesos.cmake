muster_test(mesos_core_test LABEL unit
  SOURCES unit/mesos/master_state_test.cpp unit/mesos/ports_test.cpp unit/mesos/recordio_test.cpp
    unit/mesos/snapshot_test.cpp unit/mesos/vip_label_test.cpp
  DEPENDS muster::mesos::core)
muster_test(mesos_io_test LABEL unit
  SOURCES unit/mesos/observer_test.cpp
  DEPENDS muster::mesos::io)
