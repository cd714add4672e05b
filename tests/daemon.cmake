muster_test(daemon_test LABEL unit
  SOURCES unit/daemon/config_test.cpp
  DEPENDS muster::daemon::config)
