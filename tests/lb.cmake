muster_test(lb_core_test LABEL unit
  SOURCES unit/lb/forward_test.cpp unit/lb/netns_test.cpp unit/lb/outliers_test.cpp unit/lb/plan_test.cpp unit/lb/slots_test.cpp unit/lb/slow_start_test.cpp unit/lb/vip_table_test.cpp
  DEPENDS muster::lb::core)
muster_test(lb_io_test LABEL unit
  SOURCES unit/lb/balancer_test.cpp unit/lb/connections_test.cpp unit/lb/fake_driver_test.cpp unit/lb/ipvs_plan_test.cpp unit/lb/limits_test.cpp unit/lb/netlink_test.cpp unit/lb/programmer_test.cpp
  DEPENDS muster::lb::io)

muster_fuzzer(netns_fuzz muster::lb::core)

# What stands in for driver bpf where that cannot be compiled, in every build: its symbols come before
# the library's. A whole build without is made by -DMUSTER_BPF_DRIVER=OFF.
set(absent)
if(MUSTER_BPF)
  set(absent ${PROJECT_SOURCE_DIR}/lb/io/bpf_absent.cpp)
endif()
muster_test(lb_bpf_absent_test LABEL unit
  SOURCES unit/lb/bpf_absent_test.cpp ${absent}
  DEPENDS muster::lb::io)

add_library(muster_test_netns STATIC support/netns.cpp support/sockets.cpp)
target_include_directories(muster_test_netns PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(muster_test_netns PUBLIC muster::base Threads::Threads PRIVATE muster_options)

muster_test(lb_netns_test LABEL unit THREADS
  SOURCES unit/lb/netns_opener_test.cpp
  DEPENDS muster::lb::io muster_test_netns)

# Where namespaces cannot be made a scenario prints "SKIPPED: <reason>", and ctest shows it so.
add_executable(lb_scenarios scenarios/lb_affinity_test.cpp scenarios/lb_bpf_test.cpp scenarios/lb_container_test.cpp scenarios/lb_driver_test.cpp scenarios/lb_forward_test.cpp scenarios/lb_life_test.cpp scenarios/lb_namespace_size_test.cpp scenarios/lb_namespace_test.cpp scenarios/lb_policy_test.cpp scenarios/lb_size_test.cpp scenarios/lb_traffic_test.cpp)
target_link_libraries(lb_scenarios PRIVATE muster_test_main muster_options muster_test_netns muster::lb::io)
doctest_discover_tests(lb_scenarios
  PROPERTIES LABELS scenario TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED: ")

# The same list once more with the bpf driver; each in a cgroup and a BPF file system of its own.
if(MUSTER_BPF)
  target_compile_definitions(lb_scenarios PRIVATE MUSTER_HAS_BPF)
  doctest_discover_tests(lb_scenarios TEST_PREFIX "bpf:" TEST_LIST lb_scenarios_bpf
    EXTRA_ARGS --no-version  # any: doctest's script names its file by the arguments
    PROPERTIES LABELS scenario TIMEOUT 300 SKIP_REGULAR_EXPRESSION "SKIPPED: " ENVIRONMENT MUSTER_LB_DRIVER=bpf)
endif()

# The same list under a kernel that has IPVS, once for each driver. In a sanitized build, which a
# virtual machine without hardware support runs slowly, only what tells most; elsewhere all of it.
set(vm_list -tce=*ten*thousand*,from*a*file*,what*one*change*costs*,on*bpf*,bpf*and*nft*)
set(vm_seconds 1500)
if(MUSTER_SANITIZE)
  set(vm_list "-tc=*contract*,a*forwarded*and*a*local*,what*has*no*backend*,udp*and*IPv6*,from*one*driver*")
  set(vm_seconds 900)  # of wall clock: on an idle machine it takes 75
endif()
foreach(driver ipvs nft)
  add_test(NAME "vm: scenarios of the load balancer on ${driver}"
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vm/run -t ${vm_seconds}
      "MUSTER_LB_DRIVER=${driver} exec '$<TARGET_FILE:lb_scenarios>' -nc '${vm_list}'")
  set_tests_properties("vm: scenarios of the load balancer on ${driver}" PROPERTIES
    LABELS vm PROCESSORS 2 TIMEOUT 1600 SKIP_REGULAR_EXPRESSION "^SKIPPED: ")
  if(MUSTER_SANITIZE)
    break()
  endif()
endforeach()

# For bench/run lb.
add_executable(lb_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/lb_bench.cpp)
target_include_directories(lb_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(lb_bench PRIVATE muster::lb::io muster_options)
