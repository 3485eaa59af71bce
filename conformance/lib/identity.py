"""Who else says who a client is, for the suite `identity`: an issuer of tokens and a web service; and
clients in JavaScript that go on while the suite looks on."""

import contextlib
import http.server
import json
import os
import subprocess
import threading
import time

import jwt

from lib.cases import wait_until
from lib.certificates import openssl

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Issuer:
    """Signs tokens, and has its keys in a file for the broker."""

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "issuer.pem")
        self.renew()

    def renew(self):
        self.private = os.path.join(self.folder, "issuer.key")
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.private)
        openssl("pkey", "-in", self.private, "-pubout", "-out", self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def token(self, user, seconds=600, key=None, algorithm="RS256", headers=None, **claims):
        with open(self.private) as file:
            secret = file.read() if key is None else key
        made = {"iss": "https://id.example", "aud": "polylog", "sub": user, "exp": time.time() + seconds, **claims}
        return jwt.encode(made, secret, algorithm=algorithm, headers=headers)


class Service:
    """Answers as a test says, and keeps what it was asked."""

    def __init__(self):
        service = self
        service.asked, service.answer, service.hold = [], (200, b'{"result": "allow"}'), threading.Event()
        service.hold.set()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.headers["Content-Type"], body))
                service.hold.wait(30)
                status, said = service.answer
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(said)))
                with contextlib.suppress(BrokenPipeError):  # who asked has given up
                    self.end_headers()
                    self.wfile.write(said)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/login"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


class Talker:
    """A client in JavaScript that goes on by lines on its standard input, and says what it has done."""

    def __init__(self, script, *arguments):
        self.said = []
        self.process = subprocess.Popen(["node", os.path.join(HERE, "js", script), *arguments], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.said.append(line.strip())

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, word, count=1):
        wait_until(lambda: self.said.count(word) >= count or self.process.poll() is not None, 30, word)
        assert self.said.count(word) >= count, self.said

    def status(self):
        self.process.stdin.close()
        return self.process.wait(30)
