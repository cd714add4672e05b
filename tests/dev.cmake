muster_test(dev_test LABEL unit
  SOURCES unit/dev/contract_test.cpp
  DEPENDS muster::dev::io)
