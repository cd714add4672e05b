muster_test(cluster_test LABEL unit
  SOURCES unit/cluster/agents_test.cpp unit/cluster/records_test.cpp unit/cluster/vip_address_test.cpp
    unit/cluster/vip_allocator_test.cpp unit/cluster/hold_down_test.cpp
    unit/cluster/cluster_view_test.cpp unit/cluster/cluster_test.cpp
    unit/cluster/cluster_property_test.cpp unit/cluster/election_test.cpp
    unit/cluster/liveness_test.cpp unit/cluster/replication_test.cpp
  DEPENDS muster::cluster::core)

muster_test(cluster_sim_test LABEL sim
  SOURCES sim/agents_sim_test.cpp sim/whole_sim_test.cpp
  DEPENDS muster::cluster::core muster_gossip_sim)

muster_fuzzer(record_fuzz muster::cluster::core)

add_executable(cluster_bench ${PROJECT_SOURCE_DIR}/bench/cluster_bench.cpp)
target_link_libraries(cluster_bench PRIVATE muster_options muster::allocator muster::cluster::core)
