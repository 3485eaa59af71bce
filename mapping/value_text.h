// Typed values as text, for protocols whose headers are text or octets. Pure, any thread.
#pragma once

#include <string>

#include "core/base/bytes.h"
#include "core/model/value.h"

namespace polylog::mapping {

/// Appends a value that is neither text, octets nor nothing: numbers and timestamps (seconds since
/// 1970 UTC) as decimals, `true` or `false`, arrays and tables as JSON. Texts and octets are
/// appended as they are, nothing as nothing.
void appendText(const Value& value, std::string& out);

/// Appends the value as JSON (RFC 8259). What isn't text (isText()) is marked; numbers that JSON
/// doesn't know ("nan", "inf") are strings; a table's names stay in order, and repeated ones stay.
/// As deep as the value: what decodes one limits its nesting.
void appendJson(const Value& value, std::string& out);

}  // namespace polylog::mapping
