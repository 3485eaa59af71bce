#!/usr/bin/env python3
"""Holds every #include of the tree to the house's direction:

    socket -> codecs/<protocol> -> mapping -> router -> storage,  core below all

Reads the sources only; last line `N passed, N failed`, a case being one file. It proves on a
made-up tree, before the real one, that it can fail."""
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("core", "mapping", "codecs", "router", "storage", "server")

# Folder -> what its files may include, by prefix. A codec's own folder is added to what it may.
MAY_INCLUDE = {
    "core/base": ("core/base/",),
    "core/model": ("core/base/", "core/model/"),
    "core/event": ("core/base/", "core/event/"),
    "core/jwt": ("core/base/", "core/model/", "core/jwt/"),
    "core/password": ("core/base/", "core/model/", "core/password/"),
    "core/net": ("core/base/", "core/event/", "core/net/"),
    "mapping": ("core/base/", "core/model/", "mapping/"),
    "codecs": ("core/", "mapping/"),
    "router": ("core/", "router/", "storage/file.h", "storage/log_store.h", "storage/state_view.h"),
    "storage": ("core/base/", "core/model/", "storage/"),
    "server": ("core/", "mapping/", "codecs/", "router/", "storage/", "server/"),
}
# Outside headers that belong behind one seam -> the folders that may see them.
OUTSIDE = {
    r"event2?/|event\.h": ("core/event/", "core/net/", "server/"),
    r"rocksdb/": ("storage/",),
    r"(sys/socket|sys/un|netinet/.*|arpa/inet|netdb|sys/epoll)\.h": ("core/net/", "server/"),
    r"openssl/(ssl|bio|x509|x509v3)\.h": ("core/net/",),
    r"re2/": ("mapping/",),
    r"yaml-cpp/|CLI/|curl/": ("server/",),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def allowed_for(path: str):
    parts = path.split("/")
    if parts[0] == "core":
        return MAY_INCLUDE.get("/".join(parts[:2]), ())
    if parts[0] == "codecs":
        return MAY_INCLUDE["codecs"] + (f"codecs/{parts[1]}/",)
    return MAY_INCLUDE[parts[0]]


def violations_in(path: str, text: str):
    found = []
    for ours, outside in INCLUDE.findall(text):
        if ours and not ours.startswith(allowed_for(path)):
            found.append(f'{path}: may not include "{ours}"')
        for pattern, folders in OUTSIDE.items():
            if re.match(pattern, ours or outside) and not path.startswith(folders):
                found.append(f"{path}: may not include <{ours or outside}>; that is for "
                             + ", ".join(folders))
    return found


def check(root: Path):
    """Returns (files seen, list of violations, number of files that have some)."""
    seen, found, bad = 0, [], 0
    for layer in LAYERS:
        for file in sorted((root / layer).rglob("*")):
            if file.suffix not in (".h", ".cc"):
                continue
            path = file.relative_to(root).as_posix()
            in_file = violations_in(path, file.read_text(encoding="utf-8"))
            seen += 1
            bad += bool(in_file)
            found += in_file
    return seen, found, bad


def can_fail():
    """The made-up tree: each file and whether it breaks the direction."""
    made_up = {
        "core/base/fine.h": ('#include "core/base/bytes.h"\n#include <string>', False),
        "core/base/upwards.h": ('#include "core/model/record.h"', True),
        "core/model/loop.h": ('#include "core/net/transport.h"', True),
        "mapping/io.cc": ("#include <sys/socket.h>", True),
        "mapping/router.cc": ('#include "router/router.h"', True),
        "codecs/mqtt/own.cc": ('#include "codecs/mqtt/packet.h"\n#include "mapping/mqtt.h"', False),
        "codecs/mqtt/other.cc": ('#  include "codecs/kafka/session.h"', True),
        "codecs/kafka/deep/disk.cc": ('#include "storage/log_store.h"', True),
        "router/public.cc": ('#include "storage/log_store.h"\n#include "core/net/net.h"', False),
        "router/inner.cc": ('#include "storage/segment.h"', True),
        "router/rocks.cc": ("#include <rocksdb/db.h>", True),
        "storage/net.cc": ('#include "core/net/connection.h"', True),
        "server/any.cc": ('#include "codecs/kafka/session.h"\n#include <yaml-cpp/yaml.h>', False),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, (text, _) in made_up.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text + "\n", encoding="utf-8")
        seen, found, _ = check(root)
    caught = {line.split(":")[0] for line in found}
    expected = {path for path, (_, breaks) in made_up.items() if breaks}
    if seen != len(made_up) or caught != expected:
        print(f"FAIL self-check: caught {sorted(caught)}, expected {sorted(expected)}")
        return False
    return True


def main():
    self_check = can_fail()
    seen, found, bad = check(ROOT)
    for line in found:
        print("FAIL " + line)
    passed = seen - bad + int(self_check)
    failed = bad + int(not self_check)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and seen > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
