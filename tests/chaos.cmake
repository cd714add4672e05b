# Faults done to real daemons: what takes some minutes at most. tests/run --all also runs the whole matrix.
function(muster_chaos_test name)
  add_test(NAME "${name}" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/chaos/${ARGN} --build ${PROJECT_BINARY_DIR})
  set_tests_properties("${name}" PROPERTIES LABELS long PROCESSORS 2 TIMEOUT 1500 SKIP_REGULAR_EXPRESSION "SKIPPED: needs root")
endfunction()

muster_chaos_test("faults: processes, a host, rules and a disk fail, and no connection does" run --quick)
muster_chaos_test("soak: random churn for a minute, and every VIP is what the master says" soak --minutes 1)
