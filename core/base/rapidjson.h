// RapidJSON's streaming reader and writer, the parts of it that are used here; only for
// json_value.cc and server/json.cc. Its stack adds to a null pointer before it first grows, which
// is harmless and which clang's UndefinedBehaviorSanitizer rejects: that one check is off for the
// library's own functions.
#pragma once

#if defined(__clang__)
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif

#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#if defined(__clang__)
#pragma clang attribute pop
#endif
