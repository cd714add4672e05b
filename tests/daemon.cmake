muster_test(daemon_test LABEL unit
  SOURCES unit/daemon/changes_test.cpp unit/daemon/config_test.cpp unit/daemon/control_test.cpp
    unit/daemon/identity_test.cpp unit/daemon/only_one_test.cpp
  DEPENDS muster::daemon::config muster::daemon::parts)
