#!/usr/bin/env python3
"""Turns AMQP 0-9-1's XML into C++: `generate.py OUTDIR SPEC.xml SUPPLEMENT.xml` writes
OUTDIR/methods.h and methods.cc. See README.md beside this file."""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree

BANNER = "// Generated from AMQP's XML by codecs/amqp/wire/generate.py. Not to be edited.\n"

# domain's type: (C++ type, default)
TYPES = {
    "bit": ("bool", "false"),
    "octet": ("uint8_t", "0"),
    "short": ("uint16_t", "0"),
    "long": ("uint32_t", "0"),
    "longlong": ("uint64_t", "0"),
    "timestamp": ("uint64_t", "0"),
    "shortstr": ("BytesView", ""),
    "longstr": ("BytesView", ""),
    "table": ("BytesView", ""),
}
# type: (ByteReader's and ByteWriter's function, what stands for a reserved field)
ACCESS = {
    "octet": ("u8", "0"),
    "short": ("u16", "0"),
    "long": ("u32", "0"),
    "longlong": ("u64", "0"),
    "timestamp": ("u64", "0"),
    "longstr": ("bytes32", "{}"),
    "table": ("bytes32", "{}"),
}
# Spelt in one word in confirm.select only.
ALIASES = {"nowait": "no-wait"}
# Those that AMQP's vocabulary could ever meet.
KEYWORDS = {"auto", "bool", "class", "default", "delete", "explicit", "export", "final", "operator",
            "private", "public", "register", "return", "short", "long", "static", "switch"}


class SpecError(Exception):
    pass


def camel(name):
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[-_ ]", name))


def camel_back(name):
    name = camel(ALIASES.get(name, name))
    name = name[0].lower() + name[1:]
    return name + "_" if name in KEYWORDS else name


class Field:
    def __init__(self, element, domains, where):
        spelt = element.get("domain") or element.get("type")
        self.type = domains.get(spelt)
        if self.type not in TYPES:
            raise SpecError(f"{where}: field of the unknown domain '{spelt}'")
        self.reserved = element.get("reserved") == "1"
        self.name = camel_back(element.get("name"))


class Method:
    def __init__(self, class_element, element, domains):
        self.class_id, self.id = int(class_element.get("index")), int(element.get("index"))
        self.wire_name = f"{class_element.get('name')}.{element.get('name')}"
        self.name = camel(class_element.get("name")) + camel(element.get("name"))
        self.content = element.get("content") == "1"
        self.fields = [Field(field, domains, self.wire_name) for field in element.iter("field")]

    def members(self):
        return [field for field in self.fields if not field.reserved]

    def packed(self):
        """Fields as they lie on the wire: a list of bits (at most eight) or a field."""
        parts = []
        for field in self.fields:
            if field.type != "bit":
                parts.append(field)
            elif parts and isinstance(parts[-1], list) and len(parts[-1]) < 8:
                parts[-1].append(field)
            else:
                parts.append([field])
        return parts


class Spec:
    """Several files as one. Later ones may use the earlier ones' domains."""

    def __init__(self, paths):
        self.methods, self.codes = [], []
        domains = {}
        for path in paths:
            root = ElementTree.parse(path).getroot()
            domains.update((d.get("name"), d.get("type")) for d in root.iter("domain"))
            self.codes += [(c.get("name"), int(c.get("value")), c.get("class"))
                           for c in root.iter("constant")
                           if c.get("class") or c.get("name").startswith("reply-")]
            for class_element in root.iter("class"):
                self.methods += [Method(class_element, element, domains)
                                 for element in class_element.iter("method")]
        self.methods.sort(key=lambda method: (method.class_id, method.id))
        self.codes.sort(key=lambda code: code[1])
        for listed, key in ((self.methods, lambda m: (m.class_id, m.id)),
                            (self.methods, lambda m: m.name), (self.codes, lambda c: c[1])):
            keys = [key(item) for item in listed]
            twice = sorted({str(k) for k in keys if keys.count(k) > 1})
            if twice:
                raise SpecError(f"defined twice: {', '.join(twice)}")


class Writer:
    """C++ with indentation."""

    def __init__(self):
        self.lines, self.depth = [], 0

    def put(self, *texts):
        for text in texts or ("",):
            self.lines.append("  " * self.depth + text if text else "")

    def open(self, text):
        self.put(text)
        self.depth += 1

    def close(self, text="}"):
        self.depth -= 1
        self.put(text)

    def text(self):
        return "\n".join(self.lines) + "\n"


# ---- methods.h

def declare_codes(out, spec):
    out.put("/// Reply codes (1.2). Others may come from a peer.")
    out.open("enum class ReplyCode : uint16_t {")
    for name, value, _ in spec.codes:
        out.put(f"k{camel(name)} = {value},")
    out.close("};")
    out.put("/// True if it closes the connection, false if only the channel (4.10.1).",
            "bool isHardError(ReplyCode code);",
            '/// As RabbitMQ spells it ("NOT_FOUND"); empty for a code that is not listed.',
            "BytesView replyName(ReplyCode code);", "")


def declare_method(out, method):
    out.open(f"struct {method.name} {{")
    out.put(f"static constexpr uint16_t kClassId = {method.class_id};",
            f"static constexpr uint16_t kMethodId = {method.id};",
            f'static constexpr BytesView kName{{"{method.wire_name}"}};',
            f"static constexpr bool kCarriesContent = {'true' if method.content else 'false'};", "")
    for field in method.members():
        kind, default = TYPES[field.type]
        out.put(f"{kind} {field.name}{' = ' + default if default else ''};")
    if method.members():
        out.put()
    out.put("/// Calls visitor(field) for each field, in the specification's order.",
            "template <class Visitor>")
    if method.members():
        out.open("void visit(Visitor&& visitor) {")
        for field in method.members():
            out.put(f"visitor({field.name});")
        out.close()
    else:
        out.put("void visit(Visitor&&) {}")
    out.put(f"bool operator==(const {method.name}&) const = default;")
    out.close("};")
    out.put()


def header(spec):
    out = Writer()
    out.put("// AMQP 0-9-1's methods and reply codes. Plain data and pure functions, any thread.",
            "// Strings and tables (without their length, not decoded) are views into the payload.",
            "#pragma once", "", "#include <cstdint>", "#include <variant>", "",
            '#include "core/base/byte_writer.h"', '#include "core/base/bytes.h"',
            '#include "core/base/error.h"', "", "namespace polylog::amqp {", "")
    declare_codes(out, spec)
    for method in spec.methods:
        declare_method(out, method)
    out.put("using Method = std::variant<")
    out.put("    " + ",\n    ".join(method.name for method in spec.methods) + ">;", "",
            "struct MethodId {", "  uint16_t classId = 0;", "  uint16_t methodId = 0;",
            "  bool operator==(const MethodId&) const = default;", "};", "",
            "/// What a method frame's payload begins with; zeros if it is too short for that.",
            "MethodId idOf(BytesView payload);",
            '/// "queue.declare"; empty for one that is not listed.',
            "BytesView methodName(MethodId id);",
            "/// True if header and body frames follow the method.",
            "bool carriesContent(MethodId id);", "",
            "/// A method frame's payload. kNotFound: no such method; kInvalid: cut short, octets",
            "/// left over, or a short string that is not UTF-8 (with content, any octets do).",
            "Result<Method> decodeMethod(BytesView payload);", "",
            "// Appends a method frame's payload. Short strings are cut at 255 octets.")
    for method in spec.methods:
        out.put(f"void encode(const {method.name}& method, ByteWriter& out);")
    out.put("", "}  // namespace polylog::amqp")
    return BANNER + out.text()


# ---- methods.cc

def read_bits(out, bits):
    kept = [(at, field) for at, field in enumerate(bits) if not field.reserved]
    if not kept:
        out.put("in.skip(1);  // reserved")
        return
    out.open("{")
    out.put("const uint8_t bits = in.u8();")
    for at, field in kept:
        out.put(f"method.{field.name} = (bits & {1 << at}U) != 0;")
    out.close()


def read_field(out, method, field):
    if field.type == "shortstr":
        reader = "readShortString" if method.content else "readShortText"
        value = f"wire::{reader}(in)"
    else:
        value = f"in.{ACCESS[field.type][0]}()"
    out.put(f"{value};  // reserved" if field.reserved else f"method.{field.name} = {value};")


def write_bits(out, bits):
    kept = [f"(method.{field.name} ? {1 << at}U : 0U)"
            for at, field in enumerate(bits) if not field.reserved]
    out.put(f"out.u8(static_cast<uint8_t>({' | '.join(kept)}));" if kept
            else "out.u8(0);  // reserved")


def write_field(out, field):
    if field.type == "shortstr":
        value = "{}" if field.reserved else f"method.{field.name}"
        out.put(f"wire::writeShortString({value}, out);")
    else:
        function, nothing = ACCESS[field.type]
        out.put(f"out.{function}({nothing if field.reserved else f'method.{field.name}'});")


def define_read(out, method):
    if not method.fields:
        out.put(f"void read(ByteReader&, {method.name}&) {{}}", "")
        return
    unused = "" if method.members() else "[[maybe_unused]] "
    out.open(f"void read(ByteReader& in, {unused}{method.name}& method) {{")
    for part in method.packed():
        if isinstance(part, list):
            read_bits(out, part)
        else:
            read_field(out, method, part)
    out.close()
    out.put()


def define_encode(out, method):
    unused = "" if method.members() else "[[maybe_unused]] "
    out.open(f"void encode({unused}const {method.name}& method, ByteWriter& out) {{")
    out.put(f"out.u16({method.class_id});", f"out.u16({method.id});")
    for part in method.packed():
        if isinstance(part, list):
            write_bits(out, part)
        else:
            write_field(out, part)
    out.close()
    out.put()


def case(method):
    return f"case key({method.class_id}, {method.id}):"


def define_codes(out, spec):
    out.open("bool isHardError(ReplyCode code) {")
    out.open("switch (code) {")
    for name, _, kind in spec.codes:
        if kind == "hard-error":
            out.put(f"case ReplyCode::k{camel(name)}:")
    out.put("  return true;", "default: return false;")
    out.close()
    out.close()
    out.put()
    out.open("BytesView replyName(ReplyCode code) {")
    out.open("switch (code) {")
    for name, _, _ in spec.codes:
        out.put(f'case ReplyCode::k{camel(name)}: return "{name.upper().replace("-", "_")}";')
    out.close()
    out.put("return {};")
    out.close()
    out.put()


def define_lookups(out, spec):
    out.open("MethodId idOf(BytesView payload) {")
    out.put("ByteReader in(payload);", "const uint16_t classId = in.u16();",
            "const uint16_t methodId = in.u16();",
            "return in.ok() ? MethodId{classId, methodId} : MethodId{};")
    out.close()
    out.put()
    out.open("BytesView methodName(MethodId id) {")
    out.open("switch (key(id.classId, id.methodId)) {")
    for method in spec.methods:
        out.put(f"{case(method)} return {method.name}::kName;")
    out.put("default: return {};")
    out.close()
    out.close()
    out.put()
    out.open("bool carriesContent(MethodId id) {")
    out.open("switch (key(id.classId, id.methodId)) {")
    for method in spec.methods:
        if method.content:
            out.put(case(method))
    out.put("  return true;", "default: return false;")
    out.close()
    out.close()
    out.put()


def define_decode(out, spec):
    out.open("Result<Method> decodeMethod(BytesView payload) {")
    out.put("ByteReader in(payload);", "const uint16_t classId = in.u16();",
            "const uint16_t methodId = in.u16();",
            'if (!in.ok()) return fail(ErrorKind::kInvalid, "method cut short");')
    out.open("switch (key(classId, methodId)) {")
    for method in spec.methods:
        out.put(f"{case(method)} return decodeAs<{method.name}>(in);")
    out.open("default:")
    out.put("return fail(ErrorKind::kNotFound,",
            '            "no method " + std::to_string(classId) + "." + std::to_string(methodId));')
    out.depth -= 1
    out.close()
    out.close()
    out.put()


def source(spec):
    out = Writer()
    out.put('#include "codecs/amqp/methods.h"', "", "#include <string>", "#include <utility>", "",
            '#include "codecs/amqp/wire/primitives.h"', '#include "core/base/byte_reader.h"', "",
            "namespace polylog::amqp {", "namespace {", "",
            "constexpr uint32_t key(uint16_t classId, uint16_t methodId) {",
            "  return uint32_t{classId} << 16 | methodId;", "}", "")
    for method in spec.methods:
        define_read(out, method)
    out.put("template <class M>", "Result<Method> decodeAs(ByteReader& in) {",
            "  Result<Method> result(std::in_place, std::in_place_type<M>);",
            "  read(in, *std::get_if<M>(&*result));",
            "  if (!in.complete()) {",
            '    return fail(ErrorKind::kInvalid, std::string(M::kName) + ": malformed");',
            "  }", "  return result;", "}", "", "}  // namespace", "")
    define_codes(out, spec)
    define_lookups(out, spec)
    define_decode(out, spec)
    for method in spec.methods:
        define_encode(out, method)
    out.put("}  // namespace polylog::amqp")
    return BANNER + out.text()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    outdir, paths = arguments[0], arguments[1:]
    for path in paths:
        if not os.path.exists(path):
            sys.exit(f"{path} is missing. The specification comes with the Debian package "
                     "amqp-specs: scripts/setup build")
    try:
        spec = Spec(paths)
    except (SpecError, ElementTree.ParseError) as error:
        sys.exit(f"{' and '.join(paths)}: {error}")
    write(os.path.join(outdir, "methods.h"), header(spec))
    write(os.path.join(outdir, "methods.cc"), source(spec))


if __name__ == "__main__":
    main(sys.argv[1:])
