# Flags every target of ours is built with. An INTERFACE target rather than CMAKE_CXX_FLAGS, so
# that dependencies keep their own.
add_library(muster_options INTERFACE)
find_program(MUSTER_CCACHE ccache)
if(MUSTER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MUSTER_CCACHE})
endif()
find_program(MUSTER_MOLD mold)
if(MUSTER_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
target_compile_features(muster_options INTERFACE cxx_std_20)
target_compile_options(muster_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
  -Wnon-virtual-dtor -Wimplicit-fallthrough -Wswitch-enum)
if(MUSTER_WERROR)
  target_compile_options(muster_options INTERFACE -Werror)
endif()
if(MUSTER_SANITIZE)
  target_compile_options(muster_options INTERFACE
    -fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(muster_options INTERFACE -fsanitize=${MUSTER_SANITIZE})
  if(MUSTER_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio's fences, which TSan does not model; none of ours.
    target_compile_options(muster_options INTERFACE -Wno-tsan)
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # Part of `undefined`; Clang 14 cannot combine it with coroutines ("Cannot represent a
    # difference across sections").
    target_compile_options(muster_options INTERFACE -fno-sanitize=function)
  endif()
endif()

# What ships cannot be moved about by a bent pointer: it is position-independent (Debian's GCC compiles
# so by itself), and its tables are bound at start and read-only then. MUSTER_HARDEN adds checks in the
# code: of the stack, of C functions' bounds. (Not -fcf-protection: hardening-check finds the
# program without it all the same.) Not with sanitizers, which find the
# same and more, and cannot live with fortified functions.
if(NOT MUSTER_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_link_options(muster_options INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-pie> -Wl,-z,relro,-z,now)
  if(MUSTER_HARDEN)
    target_compile_options(muster_options INTERFACE
      -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  endif()
endif()

# muster_library(<name> HEADERS <h>... [SOURCES <cpp>...] [DEPENDS <target>...])
#
# One static library, alias muster::<name>. DEPENDS is the whole truth about what it may include:
# headers are listed in a FILE_SET, so `all_verify_interface_header_sets` compiles each one alone.
function(muster_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SOURCES;DEPENDS")
  string(REPLACE "::" "_" target muster_${name})
  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE muster_options)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(muster::${name} ALIAS ${target})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${arg_HEADERS})
  target_link_libraries(${target} ${scope} ${arg_DEPENDS})
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
endfunction()
