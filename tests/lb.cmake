muster_test(lb_core_test LABEL unit
  SOURCES unit/lb/plan_test.cpp unit/lb/slots_test.cpp unit/lb/vip_table_test.cpp
  DEPENDS muster::lb::core)
muster_test(lb_io_test LABEL unit
  SOURCES unit/lb/balancer_test.cpp unit/lb/netlink_test.cpp unit/lb/programmer_test.cpp
  DEPENDS muster::lb::io)
