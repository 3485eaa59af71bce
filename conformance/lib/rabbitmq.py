"""Debian's rabbitmq-server in the place of our broker: the AMQP scenarios run against both and what
they saw is compared; benchmarks compare with it too.

The server is a plain child process with an epmd, a node name, ports and directories of its own, so
that it meets no other node on the machine and leaves nothing behind.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .ports import free_port

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # Debian's wrapper in sbin would change the user


class RabbitMQ:
    """Of the shape of lib/broker.py's Broker, with an AMQP port only. `settings` are lines of
    rabbitmq.conf. The ports and the data stay the same over restarts."""

    def __init__(self, settings=(), data=None):
        self.settings = list(settings)
        self.data = data or tempfile.mkdtemp(prefix="rabbitmq-conformance-")
        self.log_path = os.path.join(self.data, "server.out")
        self.amqp = free_port()
        self.epmd_port = free_port()
        self.distribution_port = free_port()
        self.process = None
        self.epmd = None
        self.watchers = []

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.kill()
        if kind is None:
            shutil.rmtree(self.data, ignore_errors=True)
        else:
            print(f"    RabbitMQ's log and data: {self.data}")

    def _environment(self):
        data = self.data
        config = os.path.join(data, "rabbitmq.conf")
        with open(config, "w") as file:
            file.write("\n".join(["log.file.level = warning", *self.settings]) + "\n")
        plugins = os.path.join(data, "enabled_plugins")
        with open(plugins, "w") as file:
            file.write("[].\n")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        return {
            **kept, "HOME": data,
            "RABBITMQ_NODENAME": f"conformance{self.amqp}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.amqp),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": os.path.join(data, "mnesia"),
            "RABBITMQ_LOG_BASE": os.path.join(data, "log"),
            "RABBITMQ_PID_FILE": os.path.join(data, "pid"),
            "RABBITMQ_CONFIG_FILE": config, "RABBITMQ_CONF_ENV_FILE": os.path.join(data, "no-env.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": os.path.join(data, "no-advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
            "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The script then becomes the server by exec, instead of waiting for it as a parent.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def start(self, timeout=60):
        environment = self._environment()
        with open(self.log_path, "ab") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": self.data,
                       "env": environment, "start_new_session": True}
            if self.epmd is None:
                # In the foreground, so that it is ours to end.
                self.epmd = subprocess.Popen(
                    ["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"], **options)
                self._outlived_by(self.epmd)
                self._connected(self.epmd_port, self.epmd, time.monotonic() + 10)
            self.process = subprocess.Popen([SERVER], **options)
            self._outlived_by(self.process)
        self._connected(self.amqp, self.process, time.monotonic() + timeout)
        return self

    def _outlived_by(self, process):
        """Sees to it that the process goes with this one, however that ends: when our end of a pipe
        is closed its reader kills."""
        self.watchers.append(subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -9 "$0"', str(process.pid)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True))

    def _connected(self, port, process, deadline):
        """Waits until the port accepts. (Outside processes send no event that one could wait for.)"""
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)
        self.kill()
        raise AssertionError(f"RabbitMQ didn't start; {self.log_path}")

    @property
    def pid(self):
        return self.process.pid

    def _crash(self):
        if self.process:
            end_session(self.process)
            self.process = None

    def kill(self):
        """kill -9 of the server and whatever it started; epmd goes too."""
        self._crash()
        if self.epmd:
            end_session(self.epmd)
            self.epmd = None
        for watcher in self.watchers:
            watcher.kill()
            watcher.wait()
            watcher.stdin.close()
        self.watchers.clear()

    def stop(self, timeout=60):
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.kill()
        return status

    def restart(self):
        self._crash()
        return self.start()

    def data_bytes(self):
        """Octets of the files below RabbitMQ's data directory."""
        total = 0
        for folder, _, names in os.walk(os.path.join(self.data, "mnesia")):
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
        """Of the Erlang machine, its helpers and those that have ended."""
        ticks = sum(int(field) for _, fields in family(self.pid) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")


def processes():
    """(pid, fields of /proc/PID/stat from the state on) of every process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    yield int(name), file.read().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                pass


def family(root):
    """The process, those of the session that it leads and whatever descends from these."""
    listed = list(processes())
    members = {root}
    for _ in range(4):  # a helper's helper at most
        members |= {pid for pid, fields in listed
                    if int(fields[1]) in members or int(fields[3]) == root}
    return [(pid, fields) for pid, fields in listed if pid in members]


def end_session(process):
    """kill -9 of a process and its family."""
    for pid, _ in family(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
