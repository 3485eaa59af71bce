"""Runs the built binary: start, kill -9, restart, measure. Nothing here knows a protocol."""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BINARY = os.environ.get("POLYLOG", os.path.join(ROOT, "build", "release", "polylog"))


class Broker:
    """One broker on free ports of the loopback address, with a data directory of its own.

    The ports stay the same over restarts, as a client expects of an address. `listeners` has more
    protocols, and keys of their own: {"mqtts": "tls.min_version=1.3"}; `unix` has Unix-domain
    sockets: ["mqtt=unix:/its/path"].
    """

    PROTOCOLS = ("mqtt", "kafka", "amqp", "admin")

    def __init__(self, settings=(), data=None, listeners=None, unix=()):
        self.settings = list(settings)
        self.own = dict(listeners or {})
        self.unix = list(unix)
        self.data = data or tempfile.mkdtemp(prefix="polylog-conformance-")
        self.log_path = self.data.rstrip("/") + ".log"
        self.ports = {protocol: 0 for protocol in (*self.PROTOCOLS, *self.own)}
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.kill()
        if kind is None:
            shutil.rmtree(self.data, ignore_errors=True)
            os.path.exists(self.log_path) and os.unlink(self.log_path)
        else:
            print(f"    broker log: {self.log_path}; data: {self.data}")

    def start(self, timeout=30):
        command = [BINARY, "serve", "--data", self.data]
        for protocol, port in self.ports.items():
            own = self.own.get(protocol, "")
            command += ["--listen", f"{protocol}=127.0.0.1:{port} {own}".strip()]
        for text in self.unix:
            command += ["--listen", text]
        for setting in self.settings:
            command += ["--set", setting]
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        log.close()
        line = self.ready = self._ready_line(timeout)
        for protocol, port in re.findall(r"(\w+)=\S+:(\d+)", line):
            self.ports[protocol] = int(port)
        return self

    def _ready_line(self, timeout):
        deadline = time.monotonic() + timeout
        text = b""
        descriptor = self.process.stdout.fileno()
        while not text.endswith(b"\n"):
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([descriptor], [], [], wait)[0]:
                raise AssertionError(f"the broker wasn't ready within {timeout} s; {self.log_path}")
            piece = os.read(descriptor, 4096)
            if not piece:
                raise AssertionError(f"the broker ended while starting; {self.log_path}")
            text += piece
        line = text.decode()
        assert line.startswith("ready "), line
        return line

    @property
    def mqtt(self):
        return self.ports["mqtt"]

    @property
    def kafka(self):
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def amqp(self):
        return self.ports["amqp"]

    @property
    def admin(self):
        return f"http://127.0.0.1:{self.ports['admin']}"

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """kill -9, as a crash does."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def stop(self, timeout=35):
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.process.stdout.close()
        self.process = None
        return status

    def restart(self):
        self.kill()
        return self.start()

    def data_bytes(self):
        """Octets on disk below the data directory (blocks in use, as du counts them)."""
        total = 0
        for folder, _, names in os.walk(self.data):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    pass
        return total

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
