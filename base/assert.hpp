#pragma once

#include <cstdio>
#include <cstdlib>

/// Checks a fact that only a bug can make false. On in every build, release included.
/// Never for input: a packet, a file or the kernel may say anything, and gets a Result.
#define MUSTER_ASSERT(condition)                                                                 \
  (static_cast<bool>(condition)                                                                  \
       ? static_cast<void>(0)                                                                    \
       : (std::fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition), \
          std::abort()))
