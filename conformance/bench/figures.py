"""Takes the figures in turn, and prints medians and ratios. Called by conformance/bench/run."""

import os
import re
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.broker import Broker  # noqa: E402
from lib.mosquitto import Mosquitto  # noqa: E402
from lib.rabbitmq import RabbitMQ  # noqa: E402

BUILD, ROUNDS = sys.argv[1], int(sys.argv[2])
MESSAGES = {0: 200_000, 1: 100_000, 2: 50_000}


def run(broker, *command, timeout=300):
    before = broker.cpu_seconds()
    output = subprocess.run([os.path.join(BUILD, command[0]), *map(str, command[1:])], check=True,
                            stdout=subprocess.PIPE, text=True, timeout=timeout).stdout
    values = {name: float(value) for name, value in re.findall(r"(\S+) ([\d.]+)", output)}
    values["cpu"] = broker.cpu_seconds() - before
    return values


def mqtt_throughput():
    print("MQTT one to one, 64 octets, messages a second (median of rounds, taken in turn)")
    for qos, count in MESSAGES.items():
        rates, cpu = {"polylog": [], "mosquitto": []}, {"polylog": [], "mosquitto": []}
        for _ in range(ROUNDS):
            for name, kind in (("polylog", Broker), ("mosquitto", Mosquitto)):
                with kind() as broker:
                    values = run(broker, "mqtt_bench", broker.mqtt, qos, count, 64)
                    rates[name].append(values["rate"])
                    cpu[name].append(values["cpu"] * 1e6 / count)
        ours, theirs = (statistics.median(rates[name]) for name in ("polylog", "mosquitto"))
        print(f"  QoS {qos}: polylog {ours:,.0f}, mosquitto {theirs:,.0f}, ratio {ours / theirs:.2f}; "
              f"CPU s a million: {statistics.median(cpu['polylog']):.1f} and "
              f"{statistics.median(cpu['mosquitto']):.1f}")


def mqtt_hop():
    for name, kind in (("polylog", Broker), ("mosquitto", Mosquitto)):
        with kind() as broker:
            medians = [run(broker, "mqtt_bench", broker.mqtt, 0, 300, 64, 100) for _ in range(ROUNDS)]
            print(f"MQTT QoS 0 hop at 100 a second, {name}: median "
                  f"{statistics.median(m['median_us'] for m in medians):.0f} us, p99 "
                  f"{statistics.median(m['p99_us'] for m in medians):.0f} us")


def kafka_figures():
    # Long enough that the client's own warm-up (its heap grows by its queue's size) is a small share.
    for size, count in ((100, 5_000_000), (1000, 3_000_000)):
        produced, fetched = [], []
        for number in range(ROUNDS):
            with Broker() as broker:
                produced.append(run(broker, "kafka_bench", "produce", broker.kafka, "bench", count, size))
                for _ in range(2):
                    fetched.append(run(broker, "kafka_bench", "fetch", broker.kafka, "bench", count))
        for verb, values in (("produced", produced), ("fetched", fetched)):
            print(f"Kafka {size} B {verb}: {statistics.median(v['records/s'] for v in values):,.0f} "
                  f"records/s, {statistics.median(v['MB/s'] for v in values):.0f} MB/s, CPU s a "
                  f"million {statistics.median(v['cpu'] for v in values) * 1e6 / count:.2f}")


def amqp_figures():
    cases = (("one queue, 100 B, persistent with confirms", ("queue",), 100_000, 100, ()),
             ("one queue, 1 KB, persistent with confirms", ("queue",), 100_000, 1000, ()),
             ("one queue, 100 B, at 2,000 a second", ("queue",), 10_000, 100, (2000,)),
             ("fanout to 100 queues, 100 B (deliveries)", ("fanout",), 4000, 100, (100,)))
    for title, verb, count, size, rest in cases:
        seen = {"polylog": [], "rabbitmq": []}
        for _ in range(ROUNDS):
            for name, kind in (("polylog", Broker), ("rabbitmq", RabbitMQ)):
                with kind() as broker:
                    seen[name].append(run(broker, "amqp_bench", *verb, broker.amqp, count, size, *rest))

        def median(name, what):
            return statistics.median(values[what] for values in seen[name])

        print(f"AMQP {title}: polylog {median('polylog', 'rate'):,.0f}/s, rabbitmq "
              f"{median('rabbitmq', 'rate'):,.0f}/s, ratio "
              f"{median('polylog', 'rate') / median('rabbitmq', 'rate'):.2f}; CPU s a million: "
              f"{median('polylog', 'cpu') * 1e6 / count:.1f} and {median('rabbitmq', 'cpu') * 1e6 / count:.1f}")
        for what in ("confirm", "way"):
            print(f"    {what}: median {median('polylog', what + '_median_us'):,.0f} and "
                  f"{median('rabbitmq', what + '_median_us'):,.0f} us, p99 "
                  f"{median('polylog', what + '_p99_us'):,.0f} and "
                  f"{median('rabbitmq', what + '_p99_us'):,.0f} us, ratio of p99 "
                  f"{median('polylog', what + '_p99_us') / median('rabbitmq', what + '_p99_us'):.2f}")


def idle():
    began = time.monotonic()
    with Broker() as broker:
        print(f"Ready on an empty directory in {time.monotonic() - began:.2f} s; "
              f"idle: {broker.resident_bytes() / (1 << 20):.1f} MiB resident")


def sleepers():
    """Persistent sessions that sleep, each with a partition and a subscription of its own."""
    count = int(os.environ.get("SLEEPERS", 1_000_000))

    def told(what, broker):
        octets = broker.resident_bytes()
        print(f"  {what}: {octets / (1 << 20):,.0f} MiB resident, {octets / count:,.0f} octets a session")

    def hop(what, broker):
        took = run(broker, "mqtt_bench", broker.mqtt, 1, 1000, 64, 100)
        print(f"  {what}: a QoS 1 hop at 100 a second takes {took['median_us']:,.0f} us, p99 {took['p99_us']:,.0f} us")

    def restarted(what, broker, end):
        began = time.monotonic()
        end()
        ended = time.monotonic()
        broker.start(timeout=120)
        print(f"  {what} took {ended - began:.1f} s, ready {time.monotonic() - ended:.1f} s later")
        told("then", broker)

    print(f"{count:,} sleeping sessions")
    with Broker() as broker:
        hop("before", broker)
        made = run(broker, "mqtt_sessions", broker.mqtt, 0, count, 400, timeout=1200)
        print(f"  made at {made['sessions/s']:,.0f} a second, {made['cpu'] * 1e6 / count:,.0f} us of the broker's CPU each")
        told("made", broker)
        restarted("kill -9", broker, broker.kill)
        restarted("SIGTERM", broker, broker.stop)
        hop("with them", broker)
        told("afterwards", broker)


def connections():
    """Idle connections, and all of them at once. As many as descriptors allow, of the broker and the client each."""
    count = min(int(os.environ.get("CONNECTIONS", 18_000)), resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000)
    print(f"{count:,} idle MQTT connections")
    for sessions in ("clean", "kept"):
        for name, kind in (("polylog", Broker), ("mosquitto", Mosquitto)):
            each, opened, storms, cpu = [], [], [], []
            for _ in range(ROUNDS):
                with kind() as broker:
                    command = [os.path.join(BUILD, "mqtt_connections"), str(broker.mqtt), str(count), sessions]
                    before = broker.resident_bytes()
                    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:

                        def go():
                            client.stdin.write("\n")
                            client.stdin.flush()
                            said = client.stdout.readline().split()
                            return float(said[1]) if said else float("inf")  # not all were served

                        opened.append(go())
                        each.append((broker.resident_bytes() - before) / count)
                        took = broker.cpu_seconds()
                        storms.append(go())
                        cpu.append(broker.cpu_seconds() - took)
                        client.stdin.close()
            print(f"  {name}, sessions {sessions}: {statistics.median(each):,.0f} octets each; opened in "
                  f"{statistics.median(opened):.1f} s, all back at once in {statistics.median(storms):.1f} s, "
                  f"{statistics.median(cpu):.1f} s of the broker's CPU")


def retained():
    """Retained messages of 64 octets, an address each."""
    count = int(os.environ.get("RETAINED", 2_000_000))
    print(f"{count:,} retained MQTT messages")
    for name, kind in (("polylog", Broker), ("mosquitto", Mosquitto)):
        with kind() as broker:
            before = broker.resident_bytes()
            put = run(broker, "mqtt_retained", "put", broker.mqtt, count)
            print(f"  {name}: {put['retained/s']:,.0f} a second taken, "
                  f"{(broker.resident_bytes() - before) / count:,.0f} octets resident each")
            for what, wanted in (("#", count), ("plant/7/+", 1000), ("plant/+/5", count // 1000)):
                got = run(broker, "mqtt_retained", "get", broker.mqtt, what)
                assert got["received"] == wanted, f"{got['received']} of {wanted} by {what}"
                print(f"    {what}: {wanted:,} in {wanted / got['received/s'] * 1000:,.1f} ms")
            if name == "polylog":
                broker.kill()
                began = time.monotonic()
                broker.start(timeout=120)
                print(f"    ready {time.monotonic() - began:.1f} s after kill -9")


PARTS = {"idle": (idle,), "connections": (connections,), "sleepers": (sleepers,), "retained": (retained,),
         "mqtt": (mqtt_hop, mqtt_throughput), "kafka": (kafka_figures,), "amqp": (amqp_figures,)}
for chosen in sys.argv[3:] or PARTS:
    for part in PARTS[chosen]:
        part()
