muster_test(metrics_test LABEL unit THREADS
  SOURCES unit/metrics/http_request_test.cpp unit/metrics/http_server_test.cpp
    unit/metrics/exposition_test.cpp unit/metrics/state_file_test.cpp
  DEPENDS muster::metrics)
