#!/usr/bin/python3
"""librdkafka of today (2.15, by npm's @confluentinc/kafka-javascript; build_librdkafka builds it): Debian's is 2.0 and
knows neither KIP-848's groups, nor transactions of version 2, nor telemetry. In every case it has nothing to warn of."""

import re
import sys
import tempfile
import time

from auth import user
from kafka_tools import platformatic, scraped, subscribe
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.certificates import Authority
from lib.identity import Issuer
from lib.librdkafka import Clients, Refused, shared

suite = Suite("kafka librdkafka")
# Silent members are given up soon, and heartbeats come often.
SETTINGS = ["kafka.group.consumer.session_timeout_ms=6000", "kafka.group.consumer.heartbeat_interval_ms=1000"]
NEW = {"group_protocol": "consumer"}
CLASSIC = {"group_protocol": "classic", "partition_assignment_strategy": "cooperative-sticky",
           "session_timeout_ms": 6000, "heartbeat_interval_ms": 500}


@suite.case("it is there, and of today")
def built():
    with Broker() as broker, Clients(broker) as clients:
        major, minor = clients.admin().version.split(".")[:2]
        assert (int(major), int(minor)) >= (2, 15), clients[0].version


def create(clients, **topics):
    admin = clients.admin()
    for name, partitions in topics.items():
        admin.createTopic({"topic": name, "num_partitions": partitions, "replication_factor": 1}, 20_000)
    return admin


def records(topic, values, partitions=1):
    return [{"topic": topic, "partition": i % partitions, "value": value} for i, value in enumerate(values)]


# ---------------------------------------------------------------- records


@suite.case("records at every compression: keys, headers, timestamps, null values, there and back")
def compression():
    with Broker() as broker, Clients(broker) as clients:
        codecs = ("none", "gzip", "snappy", "lz4", "zstd")
        create(clients, **{codec: 1 for codec in codecs})
        for codec in codecs:
            sent = [{"topic": codec, "partition": 0, "value": f"{codec} {i} " * 50 if i != 3 else None, "key": f"k{i}",
                     "timestamp": 1_700_000_000_000 + i, "headers": [["h", "1"], ["h", "2"], ["n", ""]]} for i in range(20)]
            producer = clients.producer(compression_type=codec, linger_ms=50)
            equal(producer.produce(*sent), list(range(20)), f"{codec}: offsets")
            consumer = clients.consumer(group=codec)
            consumer.assign([{"topic": codec, "partition": 0, "offset": 0}])
            consumer.consume()
            wait_until(lambda: len(consumer.records) == 20, 20, f"{codec}: all records")
            for mine, read in zip(sent, consumer.records):
                equal({name: read[name] for name in mine}, mine, codec)
        clients.content()


# ---------------------------------------------------------------- groups


def rolled(clients, members, topic, count, old, new):
    """Members leave one by one, and others come for them."""
    for member in list(members):
        member.disconnect()
        members.remove(member)
        members.append(clients.consumer(topic, **new))
        shared(members, topic, count)
    equal(len(members), 2, "members")


def read_by(members, values):
    """Waits until the members have read all of these, and holds that each was read once."""
    read = lambda: [value for member in members for value in member.values if value in values]
    wait_until(lambda: set(read()) >= set(values), 30, "all records")
    equal(sorted(read()), sorted(values), "records, each one read once")


def group_type(admin, group="g"):
    return {one["groupId"]: one["type"] for one in admin.listGroups({"timeout": 20_000})["groups"]}.get(group)


@suite.case("KIP-848: members come, leave and are killed; partitions move only as far as they have to; all is read once")
def consumer_groups():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        admin = create(clients, t=6)
        producer = clients.producer()
        members = []
        for number in range(3):
            members.append(clients.consumer("t", **NEW))
            shared(members, "t", 6)
        equal(members[0].rebalanceProtocol(), "COOPERATIVE", "how partitions move")
        kept = set(members[0].partitions())
        assert all(not parts & {("t", p) for p in kept} for event, parts in members[0].moves if event == "revoked"), "moved about"
        values = [f"v{i}" for i in range(120)]
        producer.produce(*records("t", values, 6))
        read_by(members, values)
        [told] = admin.describeGroups(["g"], {"timeout": 20_000})["groups"]
        equal((told["type"], told["state"], len(told["members"]), told["partitionAssignor"]), (1, 3, 3, "uniform"), "described")
        members.pop().disconnect()
        shared(members, "t", 6)
        members.pop().kill()
        shared(members, "t", 6)
        producer.produce(*records("t", ["last"]))
        read_by(members, ["last"])
        clients.content()


@suite.case("KIP-848: kill -9 of the broker; members go on with what they had, and nothing is skipped")
def group_over_a_kill():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        create(clients, t=4)
        members = [clients.consumer("t", **NEW) for _ in range(2)]
        shared(members, "t", 4)
        before = [member.partitions() for member in members]
        for number in range(3):
            values = [f"r{number}-{i}" for i in range(40)]
            clients.producer(enable_idempotence=True).produce(*records("t", values, 4))
            broker.restart()
            wait_until(lambda: {v for member in members for v in member.values} >= set(values), 40, "all records")
        equal([member.partitions() for member in members], before, "assignments")
        clients.content(but=("connections are down", "transport failure", "Connection refused", "Disconnected"))


@suite.case("KIP-848: a static member that is back in time gets what was its own; a second of its name is refused")
def static_members():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        create(clients, t=4)
        first = clients.consumer("t", group_instance_id="a", **NEW)
        second = clients.consumer("t", group_instance_id="b", **NEW)
        shared([first, second], "t", 4)
        mine, moves = first.partitions(), len(second.moves)
        first.disconnect()
        again = clients.consumer("t", group_instance_id="a", **NEW)
        wait_until(lambda: again.partitions() == mine, 20, "the same partitions")
        equal(len(second.moves), moves, "the other's partitions moved")
        clients.content()
        other = clients.consumer("t", group_instance_id="a", **NEW)
        wait_until(lambda: other.errors or other.log, 20, "a refusal")
        equal(again.partitions(), mine, "the first's")


@suite.case("KIP-848: a subscription by a regular expression follows topics that come and go")
def patterns():
    # A producer that asks after the topic would make it anew.
    with Broker(SETTINGS + ["topics.auto_create=false"]) as broker, Clients(broker, topic_metadata_refresh_interval_ms=500) as clients:
        admin = create(clients, **{"orders-eu": 2, "payments": 1})
        producer = clients.producer()
        members = [clients.consumer("^orders-.*", **NEW)]
        shared(members, "orders-eu", 2)
        admin.createTopic({"topic": "orders-us", "num_partitions": 2, "replication_factor": 1}, 20_000)
        shared(members, "orders-us", 2)
        members.append(clients.consumer("^orders-.*", **NEW))
        wait_until(lambda: [len(member.assigned) for member in members] == [2, 2], 30, "half for each")
        producer.produce(*records("orders-us", ["a", "b"], 2), *records("payments", ["c"]), *records("orders-eu", ["d", "e"], 2))
        read_by(members, ["a", "b", "d", "e"])
        assert "c" not in members[0].values + members[1].values, "another topic's"
        admin.deleteTopic("orders-us", 20_000)
        wait_until(lambda: sorted(p for m in members for p in m.assigned) == [("orders-eu", 0), ("orders-eu", 1)], 30, "one is gone")
        clients.content(but=("Unknown topic", "unknown partition"))


@suite.case("classic cooperative-sticky: a third and a second member come and go; only what moves is given up")
def cooperative():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        create(clients, t=6)
        producer = clients.producer()
        members = []
        for _ in range(3):
            members.append(clients.consumer("t", **CLASSIC))
            shared(members, "t", 6)
        revoked = [parts for event, parts in members[0].moves if event == "revoked" and parts]
        assert all(len(parts) < 6 for parts in revoked), f"all was given up: {revoked}"
        values = [f"v{i}" for i in range(60)]
        producer.produce(*records("t", values, 6))
        read_by(members, values)
        members.pop().disconnect()
        shared(members, "t", 6)
        members.pop().kill()
        shared(members, "t", 6)
        clients.content()


@suite.case("a group moves from the classic protocol to KIP-848's and back while it reads, member by member")
def moved():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        admin = create(clients, t=4)
        producer = clients.producer()
        members = [clients.consumer("t", **CLASSIC) for _ in range(2)]
        shared(members, "t", 4)
        equal(group_type(admin), 2, "a classic group")
        for number, (old, new, kind) in enumerate(((CLASSIC, NEW, 1), (NEW, CLASSIC, 2))):
            rolled(clients, members, "t", 4, old, new)
            wait_until(lambda: group_type(admin) == kind, 20, "the group's type")
            values = [f"v{number}-{i}" for i in range(40)]
            producer.produce(*records("t", values, 4))
            read_by(members, values)
        clients.content()


# ---------------------------------------------------------------- transactions


def read(clients, topic, isolation="read_committed"):
    """What a reader of that isolation sees up to its end."""
    reader = clients.consumer(group="reader", isolation_level=isolation, enable_partition_eof=True)
    reader.assign([{"topic": topic, "partition": 0, "offset": 0}])
    reader.consume()
    wait_until(lambda: reader.ended, 20, "the end")
    reader.kill()
    return reader.values


@suite.case("an idempotent producer over kill -9 of the broker: no gap, no duplicate")
def idempotent():
    with Broker() as broker, Clients(broker) as clients:
        create(clients, t=1)
        producer = clients.producer(enable_idempotence=True, linger_ms=1, batch_num_messages=10)
        started = []
        for number in range(3):
            started.append(producer.begin("produce", *records("t", [f"{number}-{i}" for i in range(500)])))
            broker.restart()
        for call in started:
            producer.end(call)
        equal(read(clients, "t"), [f"{n}-{i}" for n in range(3) for i in range(500)], "records")


@suite.case("transactions: commit, abort, the next producer of the name fences the first; kill -9 in between")
def transactions():
    with Broker() as broker, Clients(broker) as clients:
        create(clients, t=1)
        first = clients.producer(transactional_id="tx")
        first.initTransactions(20_000)
        for number in range(4):
            first.beginTransaction()
            first.produce(*records("t", [f"a{number}", f"b{number}"]))
            first.commitTransaction(20_000) if number % 2 == 0 else first.abortTransaction(20_000)
        equal(read(clients, "t"), ["a0", "b0", "a2", "b2"], "committed")
        equal(read(clients, "t", "read_uncommitted"), [f"{p}{n}" for n in range(4) for p in "ab"], "all")
        clients.content()
        first.beginTransaction()
        first.produce(*records("t", ["lost"]))
        broker.restart()
        second = clients.producer(transactional_id="tx")
        second.initTransactions(20_000)
        try:
            first.commitTransaction(20_000)
        except Refused as error:
            assert error.fatal, error
        else:
            raise AssertionError("the first committed")
        second.beginTransaction()
        second.produce(*records("t", ["kept"]))
        second.commitTransaction(20_000)
        equal(read(clients, "t"), ["a0", "b0", "a2", "b2", "kept"], "committed")


@suite.case("consume, transform, produce: offsets go with the transaction, in groups of both protocols; aborted, they stay")
def offsets():
    for protocol in (NEW, CLASSIC):
        with Broker(SETTINGS) as broker, Clients(broker) as clients:
            create(clients, t=1, out=1)
            clients.producer().produce(*records("t", [f"v{i}" for i in range(10)]))
            consumer = clients.consumer("t", enable_auto_commit=False, **protocol)
            producer = clients.producer(beside=consumer, transactional_id="tx")
            producer.initTransactions(20_000)
            wait_until(lambda: len(consumer.values) == 10, 30, "records")
            for upto, commit in ((4, True), (7, False), (10, True)):
                producer.beginTransaction()
                producer.produce(*records("out", [f"{commit} {upto}"]))
                producer.sendOffsetsToTransaction([{"topic": "t", "partition": 0, "offset": upto}], consumer.name, 20_000)
                producer.commitTransaction(20_000) if commit else producer.abortTransaction(20_000)
                [told] = consumer.committed([{"topic": "t", "partition": 0}], 20_000)
                equal(told["offset"], upto if commit else 4, f"{protocol['group_protocol']}: offset")
            equal(read(clients, "out"), ["True 4", "True 10"], "committed")
            clients.content()


# ---------------------------------------------------------------- telemetry (KIP-714)


@suite.case("telemetry: a subscription makes it push its own metrics, which /metrics shows")
def telemetry():
    with Broker() as broker, Clients(broker, debug="telemetry") as clients:
        create(clients, t=1)
        [done] = platformatic(broker, subscribe("s", interval_ms="200", metrics="org.apache.kafka.producer.,org.apache.kafka.consumer.",
                                                match="client_software_name=confluent-kafka-.*,client_software_version=.*librdkafka-2.*"))
        assert "error" not in done, done
        producer = clients.producer(client_id="makes")
        consumer = clients.consumer("t", client_id="reads", **NEW)
        producer.produce(*records("t", ["a", "b"]))
        wait_until(lambda: len(consumer.values) == 2, 20, "records")
        shown = lambda client: {re.search(r',name="([^"]*)"', line)[1]: float(line.rsplit(" ", 1)[1])
                                for line in scraped(broker, "polylog_kafka_client_metric{") if f'client_id="{client}"' in line}
        wait_until(lambda: shown("makes").get("org.apache.kafka.producer.node.request.latency.avg", 0) > 0, 30, "a producer's metrics")
        wait_until(lambda: shown("reads").get("org.apache.kafka.consumer.coordinator.assigned.partitions") == 1, 30, "a consumer's metrics")
        assert all(name.startswith("org.apache.kafka.producer.") for name in shown("makes")), shown("makes")
        [line] = scraped(broker, 'pushes_total{result="taken"}')
        pushes = int(line.rsplit(" ", 1)[1])
        wait_until(lambda: int(scraped(broker, 'pushes_total{result="taken"}')[0].rsplit(" ", 1)[1]) > pushes + 3, 20, "more pushes")
        equal([line for client in clients for line in client.said if "rror" in line], [], "errors")
        clients.content()


# ---------------------------------------------------------------- logins


@suite.case("PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, in the clear and over TLS; wrong passwords are told as such")
def logins():
    authority = Authority()
    server = authority.issue("server", "/CN=broker")
    with tempfile.TemporaryDirectory(prefix="polylog-librdkafka-") as folder:
        issuer = Issuer(folder)
        with Broker([f"tls.certificate={server.file}", f"tls.key={server.key}", "auth.required=true", "auth.superusers=ann",
                     f"auth.jwt.key_file={issuer.path}", "auth.jwt.issuer=https://id.example", "auth.jwt.audience=polylog"],
                    listeners={"kafkas": ""}) as broker, Clients(broker) as clients:
            user(broker, "ann", "ann-secret", env=None)
            for protocol, address in (("sasl_plaintext", broker.kafka), ("sasl_ssl", f"127.0.0.1:{broker.ports['kafkas']}")):
                where = {"security_protocol": protocol, "bootstrap_servers": address, "ssl_ca_location": authority.ca}
                for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
                    login = {**where, "sasl_mechanism": mechanism, "sasl_username": "ann", "sasl_password": "ann-secret"}
                    if protocol == "sasl_plaintext" and mechanism == "PLAIN":
                        clients.admin(**login).createTopic({"topic": "t", "num_partitions": 1, "replication_factor": 1}, 20_000)
                    clients.producer(**login).produce(*records("t", [mechanism]))
                clients.producer(**where, sasl_mechanism="OAUTHBEARER", token=issuer.token("ann")).produce(*records("t", ["token"]))
            for client in clients:
                found = [line for line in client.log if "CONFWARN" not in line] + client.errors
                equal(found, [], "warnings")
            wrong = clients.admin(**{**login, "sasl_password": "wrong"})
            wait_until(lambda: wrong.errors, 20, "a refusal")
            assert "uthentication" in wrong.errors[0][1], wrong.errors


# ---------------------------------------------------------------- administration


@suite.case("administration: topics, groups and their operations, offsets by kind and time, deleting records, groups and topics")
def administration():
    with Broker(SETTINGS) as broker, Clients(broker) as clients:
        admin = create(clients, t=2)
        admin.createTopic({"topic": "kept", "num_partitions": 1, "replication_factor": 1, "config": {"retention.ms": "60000"}}, 20_000)
        admin.createPartitions("kept", 3, 20_000)
        equal(sorted(admin.listTopics({"timeout": 20_000})), ["kept", "t"], "topics")
        [told] = admin.describeTopics(["kept"], {"timeout": 20_000, "includeAuthorizedOperations": True})
        equal((told["name"], len(told["partitions"]), sorted(told["authorizedOperations"])),
              ("kept", 3, [3, 4, 5, 6, 7, 8, 10, 11]), "a topic")
        assert told["topicId"]["base64"] and not told["isInternal"], told
        [none] = admin.describeTopics(["none"], {"timeout": 20_000})
        equal(none["error"]["code"], 3, "no such topic")
        now = int(time.time() * 1000)
        clients.producer().produce(*[{"topic": "t", "partition": 0, "value": f"v{i}", "timestamp": now + i * (3 - i)} for i in range(4)])
        at = lambda timestamp: admin.listOffsets([{"topic": "t", "partition": 0, "offset": {"timestamp": timestamp}}], {
            "timeout": 20_000, "isolationLevel": 1})[0]
        equal([at(kind)["offset"] for kind in (-2, -1, -3, now + 1, now + 3)], [0, 4, 1, 1, -1], "offsets")
        for number, protocol in enumerate((NEW, CLASSIC)):
            group = f"g{number}"
            consumer = clients.consumer("t", group=group, enable_auto_commit=False, **protocol)
            wait_until(lambda: len(consumer.values) == 4, 30, "records")
            consumer.commitSync([{"topic": "t", "partition": 0, "offset": 3, "metadata": "mine"}])
            [found] = admin.describeGroups([group], {"timeout": 20_000, "includeAuthorizedOperations": True})["groups"]
            equal((found["type"], found["state"], found["isSimpleConsumerGroup"], sorted(found["authorizedOperations"])),
                  (number + 1, 3, False, [3, 6, 8, 10, 11]), "a group")
            [member] = found["members"]
            equal(sorted(part["partition"] for part in member["assignment"]["topicPartitions"]), [0, 1], "its member's")
            try:
                refused = admin.deleteGroups([group], {"timeout": 20_000})[0]["error"]["code"]
            except Refused as error:
                refused = error.code
            equal(refused, 68, "NON_EMPTY_GROUP")
            consumer.disconnect()
            [told] = admin.listConsumerGroupOffsets([{"groupId": group, "partitions": [{"topic": "t", "partition": 0}]}],
                                                    {"timeout": 20_000, "requireStableOffsets": True})
            equal([part["offset"] for part in told["partitions"]], [3], "its offset")
        equal({one["groupId"]: (one["type"], one["state"]) for one in admin.listGroups({"timeout": 20_000})["groups"]},
              {"g0": (1, 5), "g1": (2, 5)}, "groups")
        equal([one["groupId"] for one in admin.listGroups({"timeout": 20_000, "matchConsumerGroupTypes": [1]})["groups"]], ["g0"], "of one type")
        [deleted] = admin.deleteRecords([{"topic": "t", "partition": 0, "offset": 2}], {"timeout": 20_000})
        equal((deleted["lowWatermark"], at(-2)["offset"]), (2, 2), "the beginning")
        equal([one.get("error") for one in admin.deleteGroups(["g0", "g1"], {"timeout": 20_000})], [None, None], "deleted")
        equal(admin.listGroups({"timeout": 20_000})["groups"], [], "groups")
        admin.deleteTopic("kept", 20_000)
        equal(admin.listTopics({"timeout": 20_000}), ["t"], "topics")
        clients.content()


if __name__ == "__main__":
    sys.exit(suite.run())
