#include "base/label.hpp"

#include <doctest/doctest.h>

using namespace muster;

TEST_SUITE_BEGIN("base/label");

TEST_CASE("a label keeps letters and digits, and dashes only inside") {
  struct Row {
    std::string text;
    std::string label;
  };
  const Row rows[] = {
      {"", ""},
      {"---", ""},
      {"/web", "web"},
      {"/My_App.v2", "my-app-v2"},
      {"-._x_.-", "x"},
      {"caf\xC3\xA9 $1", "caf1"},
      {"10.0.0.1", "10-0-0-1"},
      {std::string(70, 'a'), std::string(63, 'a')},
      {std::string(62, 'a') + "--b-c", std::string(62, 'a') + "b"},
      {std::string(61, 'a') + "----b-c", std::string(61, 'a') + "b"},
      {std::string(63, 'a') + "-", std::string(63, 'a')},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(dns_label(row.text) == row.label);
  }
}

TEST_CASE("an RFC 952 label starts with a letter and ends within 24 octets") {
  CHECK(dns_label_rfc952("89fdgsf---gs7-fgs--d7fddg---123") == "fdgsf---gs7-fgs--d7fddg1");
  CHECK(dns_label_rfc952("4-0-4") == "");
}

TEST_CASE("a domain fragment keeps its dots and loses its empty parts") {
  CHECK(domain_fragment("/api.Hello_World") == "api.hello-world");
  CHECK(domain_fragment("..a..b.") == "a.b");
  CHECK(domain_fragment("/mygroup/myapp") == "mygroupmyapp");
  CHECK(domain_fragment("marathon") == "marathon");
  CHECK(domain_fragment("") == "");
}

TEST_SUITE_END();
