#!/usr/bin/python3
"""sarama, the Go client, as Debian has it: its program is native/sarama.go. Of an age with Kafka 2.2, it speaks the
oldest versions that Kafka 4 serves, and a few older ones, which are left out (zstd, ListTopics, DescribeConfig)."""

import os
import subprocess
import sys
import tempfile

from confluent_kafka.admin import AdminClient, NewTopic

from lib.broker import Broker
from lib.cases import Suite, equal

suite = Suite("kafka sarama")
HERE = os.path.dirname(os.path.abspath(__file__))
# Debian's Go packages are a GOPATH of their own.
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
folder = tempfile.TemporaryDirectory(prefix="polylog-sarama-")
PROGRAM = os.path.join(folder.name, "sarama")


def create(broker, name, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)


def sarama(broker, *arguments):
    said = subprocess.run([PROGRAM, arguments[0], broker.kafka, *arguments[1:]], capture_output=True, timeout=120, text=True)
    equal((said.stdout.splitlines()[-1:], said.returncode), (["ok"], 0), " ".join(arguments) + said.stderr[-300:])


@suite.case("it builds")
def build():
    cache = os.environ.get("GOCACHE") or os.path.join(folder.name, "cache")
    subprocess.run(["go", "build", "-o", PROGRAM, os.path.join(HERE, "native", "sarama.go")], check=True, timeout=300,
                   env={**os.environ, **GO, "GOCACHE": cache, "CGO_CFLAGS": "-g -O1 -w"})


@suite.case("records with keys, headers and timestamps, there and back, at every compression that it has for Kafka 4")
def exact():
    with Broker() as broker:
        for codec in ("none", "gzip", "snappy", "lz4"):
            create(broker, codec)
            sarama(broker, "exact", codec, codec)


@suite.case("a consumer group: a member joins, the first leaves, a third goes on from the committed offsets; all read once")
def group():
    with Broker() as broker:
        create(broker, "t", 4)
        sarama(broker, "group", "t", "g")


@suite.case("ClusterAdmin: topics, partitions, configurations, deleting records, groups with their members and offsets")
def admin():
    with Broker() as broker:
        sarama(broker, "admin", "t")


@suite.case("an idempotent producer; offsets by time (it leaves the batch's largest timestamp out), beyond the end")
def fetch():
    with Broker() as broker:
        create(broker, "t")
        sarama(broker, "fetch", "t")


if __name__ == "__main__":
    sys.exit(suite.run())
