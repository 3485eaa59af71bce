#!/usr/bin/env python3
"""Turns one .def file into C++: `generate.py FILE.def OUTDIR` writes OUTDIR/<name>.h and .cc;
`generate.py --all OUTDIR FILE.def...` writes OUTDIR/all.h, which names every message.

The syntax is described in README.md beside this file."""

import os
import re
import sys

# name: (C++ type, smallest size on the wire, default)
SCALARS = {
    "bool": ("bool", 1, "false"),
    "int8": ("int8_t", 1, "0"),
    "int16": ("int16_t", 2, "0"),
    "int32": ("int32_t", 4, "0"),
    "int64": ("int64_t", 8, "0"),
    "float64": ("double", 8, "0"),
    "uuid": ("Uuid", 16, ""),
    "string": ("BytesView", 1, ""),
    "bytes": ("BytesView", 1, ""),
    "records": ("Records", 1, ""),
}
READ = {"bool": "boolean", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
        "float64": "f64", "uuid": "uuid"}
BANNER = "// Generated from codecs/kafka/wire/%s by generate.py. Not to be edited.\n"


class DefinitionError(Exception):
    pass


def parse_range(text, whole):
    """'*', '3+', '0-2', '7' -> (first, last), cut to the message's own versions."""
    if text == "*":
        return whole
    if text == "none":
        return None
    m = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    if not m:
        raise DefinitionError(f"versions '{text}'")
    first = int(m.group(1))
    last = whole[1] if m.group(2) == "+" else int(m.group(3) or first)
    first, last = max(first, whole[0]), min(last, whole[1])
    return (first, last) if first <= last else None


class Field:
    def __init__(self, words, whole):
        if len(words) < 3:
            raise DefinitionError("a field is: name type versions [options]")
        self.name, kind = words[0], words[1]
        self.array = kind.startswith("[]")
        kind = kind.removeprefix("[]")
        self.nullable = kind.endswith("?")
        self.kind = kind.removesuffix("?")
        self.versions = parse_range(words[2], whole)
        self.nulls = self.versions if self.nullable else None
        self.tag, self.default, self.struct = None, None, None
        for word in words[3:]:
            if word.startswith("null=") and self.nullable:
                self.nulls = parse_range(word[5:], whole)
            elif word.startswith("tag="):
                self.tag = int(word[4:])
            elif word.startswith("="):
                self.default = word[1:]
            else:
                raise DefinitionError(f"option '{word}'")
        if self.kind[0].isupper():
            self.struct = Struct(self.kind)
        elif self.kind not in SCALARS:
            raise DefinitionError(f"type '{self.kind}'")
        if self.nullable and self.struct and not self.array and self.nulls != self.versions:
            raise DefinitionError("a structure can be null in all its versions or in none")

    def element(self):
        return self.kind if self.struct else SCALARS[self.kind][0]

    def cpp_type(self):
        if self.kind == "records":
            return "Records"
        inner = f"std::vector<{self.element()}>" if self.array else self.element()
        return f"std::optional<{inner}>" if self.nullable else inner

    def initial(self):
        if self.array or self.nullable or self.struct:
            return ""
        value = self.default or SCALARS[self.kind][2]
        if value == "-2147483648":
            value = "INT32_MIN"
        if self.kind == "uuid":
            return "{}"
        return f" = {value}" if value else ""

    def default_expression(self):
        return f"{self.cpp_type()}{{{self.initial().removeprefix(' = ').removeprefix('{}')}}}"

    def smallest(self):
        """The least octets that one element (of an array) or the field itself takes."""
        if self.struct and self.nullable and not self.array:
            return 1
        one = self.struct.smallest() if self.struct else SCALARS[self.kind][1]
        return max(1, one)


class Struct:
    def __init__(self, name):
        self.name, self.fields = name, []

    def smallest(self):
        """Fields that some version lacks don't count: a lower bound for all versions."""
        whole = CURRENT["versions"]
        return sum(1 if f.array else f.smallest()
                   for f in self.fields if f.tag is None and f.versions == whole)


CURRENT = {}


def parse(path):
    message = {"file": os.path.basename(path), "comment": [], "request": None, "response": None}
    stack = []  # (indentation, Struct)
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                parse_line(line, message, stack)
            except DefinitionError as error:
                sys.exit(f"{path}:{number}: {error}")
    for part in ("key", "versions", "request", "response"):
        if message.get(part) is None:
            sys.exit(f"{path}: no {part}")
    return message


def parse_line(line, message, stack):
    if line.startswith("#") and "key" not in message:
        message["comment"].append(line[1:].strip())
    line = line.split("#")[0].rstrip()
    if not line:
        return
    words = line.split()
    indentation = len(line) - len(line.lstrip())
    if indentation == 0:
        stack.clear()
        if words[0] == "api":
            message["key"], message["name"] = int(words[1]), words[2]
        elif words[0] == "versions":
            message["versions"] = parse_range(words[1], (0, 32767))
            CURRENT["versions"] = message["versions"]
        elif words[0] == "flexible":
            message["flexible"] = parse_range(words[1], (0, 32767))
        elif words[0] in ("request", "response"):
            struct = Struct(message["name"] + words[0].capitalize())
            message[words[0]] = struct
            stack.append((0, struct, None))
        else:
            raise DefinitionError(f"'{words[0]}'")
        return
    while stack and stack[-1][2] is not None and stack[-1][2] > indentation:
        stack.pop()
    if not stack:
        raise DefinitionError("a field outside request and response")
    at, struct, inner = stack[-1]
    if inner is None:
        stack[-1] = (at, struct, indentation)
    elif inner != indentation:
        raise DefinitionError("indentation")
    field = Field(words, message["versions"])
    # A field that none of our versions has stands in the definition for its readers only.
    if field.versions is not None:
        struct.fields.append(field)
    if field.struct:
        stack.append((indentation, field.struct, None))


def condition(versions, whole):
    """A C++ condition that holds for `versions` of a message that has `whole`; '' if always."""
    first = f"version >= {versions[0]}" if versions[0] > whole[0] else ""
    last = f"version <= {versions[1]}" if versions[1] < whole[1] else ""
    return " && ".join(part for part in (first, last) if part)


class Writer:
    """C++ with indentation."""

    def __init__(self):
        self.lines, self.depth = [], 0

    def put(self, text=""):
        self.lines.append("  " * self.depth + text if text else "")

    def open(self, text):
        self.put(text)
        self.depth += 1

    def close(self, text="}"):
        self.depth -= 1
        self.put(text)

    def guarded(self, versions, whole, body):
        test = condition(versions, whole)
        if test:
            self.open(f"if ({test}) {{")
        body()
        if test:
            self.close()

    def text(self):
        return "\n".join(self.lines) + "\n"


class Generator:
    def __init__(self, message):
        self.m = message
        self.whole = message["versions"]
        self.flexible_from = message["flexible"][0] if message.get("flexible") else 32767

    # ---- header

    def declare(self, out, struct, constants=False):
        out.open(f"struct {struct.name} {{")
        if constants:
            out.put(f"static constexpr int16_t kApiKey = {self.m['key']};")
            out.put(f"static constexpr const char* kName = \"{self.m['name']}\";")
            out.put(f"static constexpr int16_t kMinVersion = {self.whole[0]};")
            out.put(f"static constexpr int16_t kMaxVersion = {self.whole[1]};")
            out.put(f"static constexpr int16_t kFlexibleFrom = {self.flexible_from};")
            out.put()
        for field in struct.fields:
            if field.struct:
                self.declare(out, field.struct)
        for field in struct.fields:
            out.put(f"{field.cpp_type()} {field.name}{field.initial()};")
        out.put()
        out.put("void decode(Decoder& in, int16_t version);")
        out.put("void encode(Encoder& out, int16_t version) const;")
        out.put("/// Calls visitor(field, whether it may be null) for each field of this version.")
        out.put("template <class Visitor>")
        out.open("void visit([[maybe_unused]] Visitor& visitor, "
                 "[[maybe_unused]] int16_t version) {")
        for field in struct.fields:
            null = "false"
            if field.nulls:
                null = condition(field.nulls, field.versions) or "true"
            out.guarded(field.versions, self.whole,
                        lambda f=field, n=null: out.put(f"visitor({f.name}, {n});"))
        out.close()
        out.put(f"bool operator==(const {struct.name}&) const = default;")
        out.close("};")
        out.put()

    def header(self):
        out = Writer()
        for line in self.m["comment"]:
            out.put(f"// {line}")
        for line in ("#pragma once", "", "#include <cstdint>", "#include <optional>",
                     "#include <vector>", "", '#include "codecs/kafka/wire/primitives.h"', "",
                     "namespace polylog::kafka::wire {", ""):
            out.put(line)
        self.declare(out, self.m["request"], True)
        self.declare(out, self.m["response"], True)
        out.put("}  // namespace polylog::kafka::wire")
        return BANNER % self.m["file"] + out.text()

    # ---- decoding

    def read_one(self, field):
        if field.kind in READ:
            return f"in.{READ[field.kind]}()"
        reader = {"string": "string", "bytes": "blob", "records": "records"}[field.kind]
        if field.nullable and not field.array and reader != "records":
            reader = {"string": "nullableString", "blob": "nullableBlob"}[reader]
        return f"in.{reader}(flexible)"

    def decode_elements(self, out, vector, count, field):
        out.put(f"{vector}.resize({count});")
        out.open(f"for (auto& element : {vector}) {{")
        out.put("if (!in.ok()) break;")
        if field.struct:
            out.put("element.decode(in, version);")
        else:
            out.put(f"element = {self.read_one(field)};")
        out.close()

    def decode_field(self, out, field):
        if field.array and field.nullable:
            test = condition(field.nulls, field.versions)
            counted = f"in.nullableArrayCount(flexible, {field.smallest()})"
            out.open(f"if (auto count = {counted}) {{")
            out.put(f"auto& elements = {field.name}.emplace();")
            self.decode_elements(out, "elements", "*count", field)
            if test:
                out.close(f"}} else if (!({test})) {{")
                out.depth += 1
                out.put("in.fail();")
            out.close()
        elif field.array:
            count = f"in.arrayCount(flexible, {field.smallest()})"
            self.decode_elements(out, field.name, count, field)
        elif field.struct and field.nullable:
            out.put(f"{field.name}.reset();")
            # Not emplace(): clang takes a nested struct for one that can't be made from nothing.
            out.put(f"if (in.i8() >= 0) ({field.name} = decltype({field.name})::value_type{{}})"
                    "->decode(in, version);")
        elif field.struct:
            out.put(f"{field.name}.decode(in, version);")
        else:
            out.put(f"{field.name} = {self.read_one(field)};")
            test = condition(field.nulls, field.versions) if field.nulls else ""
            if test and field.kind != "records":
                out.put(f"if (!{field.name} && !({test})) in.fail();")

    def decode(self, out, name, struct):
        out.open(f"void {name}::decode([[maybe_unused]] Decoder& in, "
                 "[[maybe_unused]] int16_t version) {")
        self.put_flexible(out)
        for field in struct.fields:
            if field.tag is None:
                out.guarded(field.versions, self.whole, lambda f=field: self.decode_field(out, f))
        tagged = [field for field in struct.fields if field.tag is not None]
        if self.may_be_flexible():
            out.open("if (flexible) {") if self.may_be_plain() else out.open("{")
            if tagged:
                self.decode_tagged(out, tagged)
            else:
                out.put("in.skipTagged();")
            out.close()
        out.close()
        out.put()

    def decode_tagged(self, out, tagged):
        out.open("in.tagged([&](uint32_t tag, Decoder& octets) {")
        for field in tagged:
            test = condition(field.versions, self.whole)
            out.open(f"if (tag == {field.tag}{' && ' + test if test else ''}) {{")
            inner = Writer()
            self.decode_field(inner, field)
            for line in inner.lines:
                out.put(re.sub(r"\bin\b", "octets", line))
            out.put("return true;")
            out.close()
        out.put("return false;")
        out.close("});")

    # ---- encoding

    def write_one(self, field, value):
        if field.struct:
            return f"{value}.encode(out, version);"
        if field.kind in READ:
            return f"out.{READ[field.kind]}({value});"
        writer = {"string": "string", "bytes": "blob", "records": "records"}[field.kind]
        return f"out.{writer}({value}, flexible);"

    def encode_elements(self, out, vector, field):
        out.put(f"out.arrayCount({vector}.size(), flexible);")
        out.put(f"for (const auto& element : {vector}) {self.write_one(field, 'element')}")

    def encode_field(self, out, field):
        test = condition(field.nulls, field.versions) if field.nulls else ""
        if field.array and field.nullable:
            out.open(f"if ({field.name}) {{")
            self.encode_elements(out, f"(*{field.name})", field)
            out.close("} else {")
            out.depth += 1
            if test:
                out.put(f"if ({test}) out.nullArray(flexible);")
                out.put(f"else out.arrayCount(0, flexible);")
            else:
                out.put(f"out.nullArray(flexible);")
            out.close()
        elif field.array:
            self.encode_elements(out, field.name, field)
        elif field.struct and field.nullable:
            out.put(f"out.i8({field.name} ? 1 : -1);")
            out.put(f"if ({field.name}) {field.name}->encode(out, version);")
        elif field.nullable and field.kind != "records":
            writer = {"string": "String", "bytes": "Blob"}[field.kind]
            nullable = f"out.nullable{writer}({field.name}, flexible);"
            if test:
                out.put(f"if ({test}) {nullable}")
                out.put(f"else out.{writer.lower()}({field.name}.value_or(BytesView()), flexible);")
            else:
                out.put(nullable)
        else:
            out.put(self.write_one(field, field.name))

    def encode(self, out, name, struct):
        out.open(f"void {name}::encode([[maybe_unused]] Encoder& out, "
                 "[[maybe_unused]] int16_t version) const {")
        self.put_flexible(out)
        for field in struct.fields:
            if field.tag is None:
                out.guarded(field.versions, self.whole, lambda f=field: self.encode_field(out, f))
        tagged = sorted((f for f in struct.fields if f.tag is not None), key=lambda f: f.tag)
        if self.may_be_flexible():
            out.open("if (flexible) {") if self.may_be_plain() else out.open("{")
            self.encode_tagged(out, tagged)
            out.close()
        out.close()
        out.put()

    def encode_tagged(self, out, tagged):
        if not tagged:
            out.put("out.varuint(0);")
            return
        out.put("uint32_t tags = 0;")
        for field in tagged:
            test = condition(field.versions, self.whole)
            test = f"{test} && " if test else ""
            differs = f"{field.name} != {field.default_expression()}"
            out.put(f"const bool has{field.tag} = {test}{differs};")
            out.put(f"if (has{field.tag}) ++tags;")
        out.put("out.varuint(tags);")
        for field in tagged:
            out.open(f"if (has{field.tag}) {{")
            out.put("Encoder part;")
            inner = Writer()
            self.encode_field(inner, field)
            for line in inner.lines:
                out.put(re.sub(r"\bout\b", "part", line))
            out.put(f"out.tag({field.tag}, part.view());")
            out.close()

    # ---- both

    def may_be_flexible(self):
        return self.flexible_from <= self.whole[1]

    def may_be_plain(self):
        return self.flexible_from > self.whole[0]

    def put_flexible(self, out):
        out.put(f"[[maybe_unused]] const bool flexible = version >= {self.flexible_from};")

    def walk(self, out, prefix, struct):
        self.decode(out, prefix, struct)
        self.encode(out, prefix, struct)
        for field in struct.fields:
            if field.struct:
                self.walk(out, f"{prefix}::{field.struct.name}", field.struct)

    def source(self, stem):
        out = Writer()
        out.put(f'#include "codecs/kafka/wire/{stem}.h"')
        out.put()
        out.put("namespace polylog::kafka::wire {")
        out.put()
        for part in ("request", "response"):
            self.walk(out, self.m[part].name, self.m[part])
        out.put("}  // namespace polylog::kafka::wire")
        return BANNER % self.m["file"] + out.text()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def write_all(outdir, paths):
    stems = [os.path.splitext(os.path.basename(path))[0] for path in sorted(paths)]
    names = [parse(path)["name"] for path in sorted(paths)]
    out = Writer()
    out.put("// Every message that there is a definition of.")
    out.put("#pragma once")
    out.put()
    out.put("#include <tuple>")
    out.put()
    for stem in stems:
        out.put(f'#include "codecs/kafka/wire/{stem}.h"')
    out.put()
    out.put("namespace polylog::kafka::wire {")
    out.put()
    for part in ("Request", "Response"):
        listed = ",\n    ".join(name + part for name in names)
        out.put(f"using All{part}s = std::tuple<\n    {listed}>;")
        out.put()
    out.put("}  // namespace polylog::kafka::wire")
    write(os.path.join(outdir, "all.h"), BANNER % "*.def" + out.text())


def main(arguments):
    if len(arguments) >= 3 and arguments[0] == "--all":
        return write_all(arguments[1], arguments[2:])
    if len(arguments) != 2:
        sys.exit(__doc__)
    path, outdir = arguments
    stem = os.path.splitext(os.path.basename(path))[0]
    generator = Generator(parse(path))
    write(os.path.join(outdir, stem + ".h"), generator.header())
    write(os.path.join(outdir, stem + ".cc"), generator.source(stem))


if __name__ == "__main__":
    main(sys.argv[1:])
