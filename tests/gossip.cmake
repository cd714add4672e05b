# The simulator, for the tests and for bench/.
add_library(muster_gossip_sim STATIC sim/cluster.cpp)
target_link_libraries(muster_gossip_sim PUBLIC muster::gossip::core muster_options)
target_include_directories(muster_gossip_sim PUBLIC ${PROJECT_SOURCE_DIR})
target_compile_options(muster_gossip_sim PRIVATE -O1 $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)

muster_test(gossip_test LABEL unit
  SOURCES unit/gossip/codec_test.cpp unit/gossip/link_test.cpp unit/gossip/shard_store_test.cpp
  DEPENDS muster_gossip_sim)
muster_test(gossip_node_test LABEL unit THREADS
  SOURCES unit/gossip/node_test.cpp
  DEPENDS muster::gossip::io)
muster_test(gossip_sim_test LABEL sim
  SOURCES sim/membership_sim_test.cpp sim/shards_sim_test.cpp sim/traps_sim_test.cpp
  DEPENDS muster_gossip_sim)
muster_fuzzer(gossip_message_fuzz muster::gossip::core)
muster_fuzzer(gossip_sync_fuzz muster::gossip::core)
muster_fuzzer(gossip_link_fuzz muster_gossip_sim)

# Takes minutes at 1,000 nodes: built on demand, never by ctest.
add_executable(gossip_sim_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/gossip_sim_bench.cpp)
target_link_libraries(gossip_sim_bench PRIVATE muster_gossip_sim muster_options)
add_executable(gossip_join_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/gossip_join_bench.cpp)
target_link_libraries(gossip_join_bench PRIVATE muster::gossip::io muster::cluster::core muster_options)
