"""A certificate authority of a suite's own, by the openssl command."""

import os
import subprocess
import tempfile

EXTENSIONS = "basicConstraints=critical,CA:FALSE\nsubjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"
CA_SECTION = """[ca]
default_ca=own
[own]
database={folder}/index.txt
crlnumber={folder}/crlnumber
default_md=sha256
default_crl_days=1
certificate={folder}/ca.crt
private_key={folder}/ca.key
"""


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, text=True)
    assert done.returncode == 0, f"openssl {arguments}: {done.stdout}"
    return done.stdout


class Certificate:
    def __init__(self, path):
        self.file, self.key = path + ".crt", path + ".key"


class Authority:
    def __init__(self, name="Conformance CA"):
        self.scratch = tempfile.TemporaryDirectory(prefix="polylog-ca-")
        self.folder = self.scratch.name
        self.ca = os.path.join(self.folder, "ca.crt")
        openssl("req", "-x509", *self._new_key("ca"), "-subj", f"/CN={name}", "-days", "1", "-out", self.ca,
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        for file, text in (("index.txt", ""), ("crlnumber", "01\n"),
                           ("ca.cnf", CA_SECTION.format(folder=self.folder))):
            with open(os.path.join(self.folder, file), "w") as out:
                out.write(text)

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                os.path.join(self.folder, name + ".key")]

    def issue(self, name, subject, names="IP:127.0.0.1,DNS:localhost"):
        made = Certificate(os.path.join(self.folder, name))
        request = os.path.join(self.folder, name + ".csr")
        extensions = os.path.join(self.folder, name + ".ext")
        with open(extensions, "w") as out:
            out.write(EXTENSIONS.format(names=names))
        openssl("req", "-new", *self._new_key(name), "-subj", subject, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", os.path.join(self.folder, "ca.key"),
                "-CAcreateserial", "-days", "1", "-extfile", extensions, "-out", made.file)
        return made

    def revoke(self, *certificates):
        """The list of the revoked, these among them."""
        configuration = os.path.join(self.folder, "ca.cnf")
        for each in certificates:
            openssl("ca", "-config", configuration, "-revoke", each.file)
        path = os.path.join(self.folder, "ca.crl")
        openssl("ca", "-config", configuration, "-gencrl", "-out", path)
        return path
