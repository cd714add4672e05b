# The simulator, for the tests and for bench/.
add_library(muster_gossip_sim STATIC sim/cluster.cpp)
target_link_libraries(muster_gossip_sim PUBLIC muster::gossip::core muster_options)
target_include_directories(muster_gossip_sim PUBLIC ${PROJECT_SOURCE_DIR})
target_compile_options(muster_gossip_sim PRIVATE -O2 $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)

muster_test(gossip_sim_test LABEL sim
  SOURCES sim/membership_sim_test.cpp
  DEPENDS muster_gossip_sim)
