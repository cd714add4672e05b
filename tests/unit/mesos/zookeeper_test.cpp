#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "mesos/core/master_info.hpp"
#include "mesos/core/zk_url.hpp"
#include "mesos/core/zk_wire.hpp"

using namespace muster;
using namespace muster::mesos;

TEST_SUITE_BEGIN("mesos/core/zookeeper");

TEST_CASE("a ZooKeeper URL that cannot be meant is refused, and its password not repeated") {
  struct Row {
    const char* text;
    const char* error;
  };
  const Row rows[] = {
      {"", "no ZooKeeper URL"},
      {"http://a:2181/mesos", "no ZooKeeper URL"},
      {"zk://", "needs a path"},
      {"zk://a:2181", "needs a path"},
      {"zk://a:2181/", nullptr},
      {"zk:///mesos", "needs hosts"},
      {"zk://a,/mesos", "needs hosts"},
      {"zk://a:0/mesos", "needs hosts"},
      {"zk://a:66000/mesos", "needs hosts"},
      {"zk://a:x/mesos", "needs hosts"},
      {"zk://[fd01::1/mesos", "needs hosts"},
      {"zk://[no]:2181/mesos", "needs hosts"},
      {"zk://a b/mesos", "needs hosts"},
      {"zk://a/mesos/", "not one of ZooKeeper"},
      {"zk://a/me//sos", "not one of ZooKeeper"},
      {"zk://a/../mesos", "not one of ZooKeeper"},
      {"zk://a/mesos/.", "not one of ZooKeeper"},
      {"zk://user@a/mesos", "user:password"},
      {"zk://:hunter2@a/mesos", "user:password"},
      {"zk://user:hunter2@a:b/mesos", "needs hosts"},
      {"zk://user:hun@ter2@a", "needs a path"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto url = ZkUrl::parse(row.text);
    REQUIRE(url.has_value() == (row.error == nullptr));
    if (url) continue;
    CHECK(url.error().find(row.error) != std::string::npos);
    CHECK(url.error().find("hun") == std::string::npos);
    CHECK(url.error().find('\n') == std::string::npos);
  }
  std::string many = "zk://a";
  for (int i = 0; i < 32; ++i) many += ",a";
  CHECK_FALSE(ZkUrl::parse(many + "/mesos").has_value());
}

TEST_CASE("a ZooKeeper URL has hosts, a path and perhaps a user") {
  const auto url = ZkUrl::parse("zk://mesos:s3:cr@t@10.0.0.1:2182,zk2.example,[fd01::1]/a/mesos");
  REQUIRE(url.has_value());
  REQUIRE(url->servers.size() == 3);
  CHECK(url->servers[0].host == "10.0.0.1");
  CHECK(url->servers[0].port.number() == 2182);
  CHECK(url->servers[1].port.number() == 2181);
  CHECK(url->servers[2].host == "fd01::1");
  CHECK(url->path == "/a/mesos");
  CHECK(url->auth == "mesos:s3:cr@t");
  CHECK(to_string(*url) == "zk://10.0.0.1:2182,zk2.example:2181,[fd01::1]:2181/a/mesos");
  CHECK(without_credentials("zk://mesos:s3@a/mesos") == "zk://***@a/mesos");
  CHECK(without_credentials("zk://a/mesos") == "zk://a/mesos");
}

TEST_CASE("masters are the json.info nodes, by number, and nothing else") {
  CHECK(master_nodes({"log_replicas", "json.info_0000000012", "info_0000000001",
                      "json.info_0000000009", "json.info_", "json.info_x", "json.info_1x",
                      "json.info_99999999999999999999999", "xjson.info_1"}) ==
        std::vector<std::string>{"json.info_0000000009", "json.info_0000000012"});
  // By number, not by letters, once they outgrow their ten digits.
  CHECK(master_nodes({"json.info_10000000000", "json.info_9999999999"}).front() ==
        "json.info_9999999999");
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.push_back("json.info_" + std::to_string(i));
  CHECK(master_nodes(many).size() == kMaxMasters);
}

TEST_CASE("a master's word about itself is read, or refused whole") {
  for (const char* bad :
       {"", "{", "[]", "null", "{}", R"({"ip":16777343,"port":5050})",
        R"({"address":{"ip":"10.0.0.1","port":0}})", R"({"address":{"ip":"10.0.0.1","port":1e9}})",
        R"({"address":{"ip":"0.0.0.0","port":5050}})", R"({"address":{"ip":7,"port":5050}})",
        R"({"address":[],"pid":"master@nowhere"})", R"({"pid":"master@10.0.0.1:5050"} x)"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_master_info(bad).has_value());
  }
  const auto info = parse_master_info(
      R"({"address":{"hostname":"m1","ip":"10.0.0.1","port":5050},"capabilities":[],)"
      R"("hostname":"m1.example","id":"x","ip":16777226,"pid":"master@10.9.9.9:1","port":5050})");
  REQUIRE(info.has_value());
  CHECK(to_string(info->endpoint) == "10.0.0.1:5050");
  CHECK(info->hostname == "m1.example");
  const auto old = parse_master_info(R"({"pid":"master@10.0.0.2:5051"})");
  REQUIRE(old.has_value());
  CHECK(to_string(old->endpoint) == "10.0.0.2:5051");
}

TEST_CASE("requests are ZooKeeper's, octet by octet") {
  using namespace std::string_literals;
  CHECK(zk::connect_request(Duration{10'000}) ==
        "\0\0\0\x2d"s        // length
        "\0\0\0\0"s          // version
        "\0\0\0\0\0\0\0\0"s  // last transaction
        "\0\0\x27\x10"s      // 10,000 ms
        "\0\0\0\0\0\0\0\0"s  // a new session
        "\0\0\0\x10"s +
            std::string(16, '\0') +  // its password
            "\0"s);                  // not read-only
  CHECK(zk::auth_request("u:p") ==
        "\0\0\0\x1d\xff\xff\xff\xfc\0\0\0\x64\0\0\0\0\0\0\0\x06"
        "digest\0\0\0\x03u:p"s);
  CHECK(zk::children_request(1, "/m") == "\0\0\0\x0f\0\0\0\x01\0\0\0\x08\0\0\0\x02/m\x01"s);
  CHECK(zk::data_request(2, "/m") == "\0\0\0\x0f\0\0\0\x02\0\0\0\x04\0\0\0\x02/m\0"s);
  CHECK(zk::ping_request() == "\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b"s);
  CHECK(zk::close_request(3) == "\0\0\0\x08\0\0\0\x03\xff\xff\xff\xf5"s);
}

TEST_CASE("answers cut short or with impossible lengths are refused") {
  using namespace std::string_literals;
  const std::string connected =
      "\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x07\0\0\0\x10"s + std::string(16, 'p') + "\0"s;
  CHECK(zk::parse_connected(connected) == Duration{4096});
  // Servers before 3.4 leave the last octet out.
  CHECK(zk::parse_connected(connected.substr(0, connected.size() - 1)).has_value());
  for (std::size_t size = 0; size + 1 < connected.size(); ++size) {
    CHECK_FALSE(zk::parse_connected(connected.substr(0, size)).has_value());
  }
  // An expired session is granted no time.
  CHECK_FALSE(zk::parse_connected(std::string(37, '\0')).has_value());

  const std::string reply = "\0\0\0\x01\0\0\0\0\0\0\0\x09\0\0\0\0"s;
  const std::string children = "\0\0\0\x02\0\0\0\x01"s + "a" + "\0\0\0\x02"s + "bc";
  const std::string frame = reply + children;  // parse_reply() only looks into it
  const auto parsed = zk::parse_reply(frame);
  REQUIRE(parsed.has_value());
  CHECK(parsed->xid == 1);
  CHECK(parsed->error == 0);
  CHECK(zk::parse_children(parsed->body) == std::vector<std::string>{"a", "bc"});
  for (std::size_t size = 0; size < reply.size(); ++size) {
    CHECK_FALSE(zk::parse_reply(reply.substr(0, size)).has_value());
  }
  for (std::size_t size = 0; size < children.size(); ++size) {
    CHECK_FALSE(zk::parse_children(children.substr(0, size)).has_value());
  }
  CHECK_FALSE(zk::parse_children("\x7f\xff\xff\xff\x7f\xff\xff\xff"s).has_value());
  CHECK_FALSE(zk::parse_children("\0\0\0\x01\xff\xff\xff\xfe"s).has_value());
  CHECK(zk::parse_children("\xff\xff\xff\xff"s)->empty());
  CHECK(zk::parse_data("\0\0\0\x02{}rest"s) == "{}");
  CHECK(zk::parse_data("\xff\xff\xff\xff"s)->empty());
  CHECK_FALSE(zk::parse_data("\0\0\0\x03{}"s).has_value());
  const auto refused = zk::parse_reply("\0\0\0\x02\0\0\0\0\0\0\0\0\xff\xff\xff\x9alate"s);
  REQUIRE(refused.has_value());
  CHECK(refused->error == zk::kNoAuth);
  CHECK(refused->body.empty());
  std::string many = "\0\0\x40\0"s;
  for (int i = 0; i < 0x4000; ++i) many += "\0\0\0\0"s;
  CHECK(zk::parse_children(many)->size() == zk::kMaxChildren);
}

TEST_SUITE_END();
