#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "dns/core/record.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

struct Listing {
  std::vector<RecordView> records;
  bool more = false;  // there are others beyond `limit`
};

/// The records whose owner contains `part` (any case; empty: all of them), by name and type, at
/// most `limit`. Looks at every name: some 20 ms per 100,000, so not for the control thread. SOA
/// records are left out.
Listing list_records(const ZoneSnapshot&, std::string_view part, std::size_t limit);

}  // namespace muster::dns
