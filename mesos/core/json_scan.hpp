#pragma once

#include <cstddef>
#include <string_view>

namespace muster::mesos {

/// Walks the outside of a large JSON document without building anything, and hands out the extents
/// of the values inside, each to be parsed by itself. What it skips it checks for balanced quotes
/// and brackets only.
///
/// That keeps a damaged task from costing the whole document, and memory at the document's own
/// size: a structural index of all of it would need several times as much.
///
/// Errors stick: after one, nothing more is visited and ok() is false.
class JsonScan {
 public:
  explicit JsonScan(std::string_view json) noexcept
      : at_{json.data()}, end_{json.data() + json.size()} {}

  bool ok() const noexcept { return ok_; }

  /// True if nothing but white space is left; else the document is not ok.
  bool finish() noexcept {
    skip_space();
    return ok_ && at_ == end_;
  }

  /// The first character of the value that is next; 0 if there is none.
  char peek() noexcept {
    skip_space();
    return at_ < end_ ? *at_ : '\0';
  }

  /// Passes one value and returns its extent; empty after an error.
  std::string_view skip() noexcept;

  /// Visits the members of the object that is next: `on_member(key)`, the key as written, between
  /// its quotes. The callback consumes the value with skip(), object() or array(), or leaves it.
  /// A value that is not an object is passed over; returns whether it was one.
  template <class OnMember>
  bool object(OnMember on_member) {
    if (peek() != '{') return pass_over();
    ++at_;
    if (peek() == '}') return close();
    while (ok_) {
      const std::string_view key = read_key();
      if (!ok_) break;
      visit([&] { on_member(key); });
      if (peek() == '}') return close();
      expect(',');
    }
    return false;
  }

  /// The same for the elements of an array: `on_element()`.
  template <class OnElement>
  bool array(OnElement on_element) {
    if (peek() != '[') return pass_over();
    ++at_;
    if (peek() == ']') return close();
    while (ok_) {
      visit(on_element);
      if (peek() == ']') return close();
      expect(',');
    }
    return false;
  }

 private:
  template <class Visitor>
  void visit(Visitor visitor) {
    peek();  // so that a visitor that consumes nothing leaves at_ where it is
    const char* const before = at_;
    visitor();
    if (ok_ && at_ == before) skip();
  }

  bool close() noexcept {
    if (!ok_) return false;
    ++at_;
    return true;
  }
  bool pass_over() noexcept {
    skip();
    return false;
  }
  void fail() noexcept {
    ok_ = false;
    at_ = end_;
  }
  void expect(char wanted) noexcept {
    if (peek() != wanted) return fail();
    ++at_;
  }
  void skip_space() noexcept {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  /// How deep, and whether within a string, a walk through a value is.
  struct Nesting {
    std::size_t depth = 0;
    bool quoted = false;
    bool escaped = false;  // the next octet of the string
  };

  std::string_view read_key() noexcept;
  void skip_string() noexcept;
  void skip_nested() noexcept;
  bool step(Nesting& nesting, const char* until) noexcept;
  void skip_scalar() noexcept;

  const char* at_;
  const char* end_;
  bool ok_ = true;
};

}  // namespace muster::mesos
