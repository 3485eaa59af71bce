"""Debian's mosquitto in the place of our broker: the same cases against the reference tell whether a
case itself is right (`BROKER=mosquitto conformance/mqtt_basics.py`), and benchmarks compare with it."""

import os
import socket
import subprocess
import tempfile
import time

from .ports import free_port


class Mosquitto:
    """`websocket`: it listens for that, too, at ports["ws"]. `limited`: at ports["limited"] it serves
    QoS 1 at most. `more`: further lines of its configuration; `listener`: those of its MQTT listener."""

    def __init__(self, settings=(), data=None, websocket=False, limited=False, more="", listener=""):
        self.more, self.listener = more, listener
        self.data = tempfile.mkdtemp(prefix="mosquitto-conformance-")
        self.mqtt = free_port()
        self.ports = {"mqtt": self.mqtt}
        if websocket:
            self.ports["ws"] = free_port()
        if limited:
            self.ports["limited"] = free_port()
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def start(self):
        path = os.path.join(self.data, "mosquitto.conf")
        with open(path, "w") as file:
            if "ws" in self.ports:
                file.write(f"listener {self.ports['ws']} 127.0.0.1\nprotocol websockets\n")
            if "limited" in self.ports:
                file.write(f"listener {self.ports['limited']} 127.0.0.1\nmax_qos 1\n")
            file.write(f"listener {self.mqtt} 127.0.0.1\n{self.listener}\nallow_anonymous true\n"
                       f"persistence true\npersistence_location {self.data}/\n"
                       "max_queued_messages 0\nmax_inflight_messages 1000\nuser root\n"
                       f"{self.more}\n")
        self.process = subprocess.Popen(["mosquitto", "-c", path], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.mqtt)).close()
                return self
            except ConnectionRefusedError:
                time.sleep(0.01)
        raise AssertionError("mosquitto didn't start")

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def crash(self):
        """kill -9: what it hasn't saved is lost."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        self.kill()
        return self.start()

    def data_bytes(self):
        return 0

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
