muster_test(base_test LABEL unit THREADS
  SOURCES unit/base/bulk_test.cpp unit/base/bytes_test.cpp unit/base/endpoint_test.cpp unit/base/label_test.cpp unit/base/member_test.cpp unit/base/slab_test.cpp
    unit/base/snapshot_test.cpp unit/base/task_group_test.cpp
  DEPENDS muster::base::io)
