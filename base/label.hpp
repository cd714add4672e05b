#pragma once

#include <string>
#include <string_view>

namespace muster {

/// How DC/OS and Mesos-DNS turn any text into one DNS label (RFC 1123 §2.1): ASCII letters are
/// lower-cased, letters and digits kept, '-', '_' and '.' become '-', everything else is
/// dropped. No '-' leads or trails. At most 63 octets: where the cut leaves trailing dashes, they
/// go and what follows the next dashes moves up into the gap. May be empty.
std::string dns_label(std::string_view text);

/// The same by RFC 952: at most 24 octets, starting with a letter (Mesos-DNS `EnforceRFC952`).
std::string dns_label_rfc952(std::string_view text);

/// dns_label() of each part between dots, empty parts left out: `/api.Hello_World` gives
/// `api.hello-world`. This is what VIP names and framework names are made with.
std::string domain_fragment(std::string_view text);

}  // namespace muster
