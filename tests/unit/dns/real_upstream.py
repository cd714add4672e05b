#!/usr/bin/python3
"""dnsdist as an upstream over TLS: dns_bench_server asks it what is not its own.

real_upstream.py SERVER_PROGRAM; without dnsdist (with dns-over-tls), openssl or dig it is skipped.
"""
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
PATIENCE = 60  # seconds
NAME = "dns.muster.example"


def missing():
    for program in ("dnsdist", "openssl", "dig"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    about = subprocess.run(["dnsdist", "--version"], capture_output=True, text=True, check=False)
    return "" if "dns-over-tls" in about.stdout else "this dnsdist has no dns-over-tls"


def free_port():
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        return tcp.getsockname()[1]


class Dnsdist:
    """Answers every name with 192.0.2.7, over TLS, until it is stopped."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        config = folder / "dnsdist.conf"
        config.write_text(f"""
setLocal("127.0.0.1:{free_port()}")
addTLSLocal("127.0.0.1:{port}", "{folder}/server.pem", "{folder}/server.key", {{ provider="openssl" }})
setSecurityPollSuffix("")
addAction(AllRule(), SpoofAction("192.0.2.7"))
""")
        self.process = subprocess.Popen(["dnsdist", "-C", config, "--supervised", "--disable-syslog"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("dnsdist does not start: " + self.process.stderr.read()) from None
                time.sleep(0.05)

    def stop(self):
        self.process.kill()
        self.process.communicate()


class Server:
    def __init__(self, *arguments):
        for _ in range(20):  # the port may be taken by somebody faster
            self.port = free_port()
            self.process = subprocess.Popen([PROGRAM, f"127.0.0.1:{self.port}", "1", *arguments],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.process.stdout.readline().startswith("ready"):
                return
            self.stop()
        raise RuntimeError("the server does not start")

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE)

    def ask(self, *words):
        done = subprocess.run(["dig", "@127.0.0.1", "-p", str(self.port), "+tries=1", "+time=20", *words],
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stdout


class RealUpstream(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.made.name)

        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=cls.folder, check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-subj", "/CN=muster test", "-days", "2")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr",
                "-subj", "/CN=ignored")
        (cls.folder / "names").write_text(f"subjectAltName=DNS:{NAME}")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", "names", "-out", "server.pem", "-days", "2")
        cls.port = free_port()
        cls.dnsdist = Dnsdist(cls.folder, cls.port)

    @classmethod
    def tearDownClass(cls):
        cls.dnsdist.stop()
        cls.made.cleanup()

    def server(self, name):
        out = Server("--no-cache", "--upstream", f"tls://127.0.0.1:{self.port}#{name}", "--upstream-ca",
                     str(self.folder / "ca.pem"))
        self.addCleanup(out.stop)
        return out

    def test_names_are_asked_over_tls_and_again_after_a_restart(self):
        server = self.server(NAME)
        for words in (["+short"], ["+short", "+noedns"], ["+short", "+tcp"], ["+short", "+dnssec"]):
            self.assertEqual(server.ask("www.example.com", "A", *words), "192.0.2.7\n", words)
        batch = self.folder / "batch"
        batch.write_text("".join(f"n{i}.example.com A\n" for i in range(200)))
        self.assertEqual(server.ask("+short", "-f", str(batch)), "192.0.2.7\n" * 200)
        self.dnsdist.stop()
        type(self).dnsdist = Dnsdist(self.folder, self.port)
        self.assertEqual(server.ask("www.example.com", "A", "+short"), "192.0.2.7\n")

    def test_another_name_is_refused(self):
        self.assertIn("status: SERVFAIL", self.server("other.muster.example").ask("www.example.com", "A"))


if __name__ == "__main__":
    reason = missing()
    if reason:
        print(f"SKIPPED: {reason}")
        sys.exit(0)
    unittest.main(verbosity=2)
