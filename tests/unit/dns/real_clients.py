#!/usr/bin/python3
"""What real clients make of the server: dig, kdig and dnspython against dns_bench_server.

real_clients.py SERVER_PROGRAM; a client that is not installed is named on a line SKIPPED.
"""
import shutil
import socket
import subprocess
import sys
import unittest

try:
    import dns.flags
    import dns.message
    import dns.query
    import dns.rcode
    import dns.zone
except ImportError:
    dns = None

PROGRAM = sys.argv.pop(1)
APPS = 30


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return udp.getsockname()[1]


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for _ in range(20):  # the port may be taken for TCP, or by somebody faster
            cls.port = free_port()
            cls.server = subprocess.Popen([PROGRAM, f"127.0.0.1:{cls.port}", str(APPS)],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if cls.server.stdout.readline().startswith("ready"):
                return
            cls.server.stdin.close()
            cls.server.stdout.close()
            cls.server.wait()
        raise RuntimeError("the server does not start")

    @classmethod
    def tearDownClass(cls):
        cls.server.stdin.close()
        cls.server.stdout.close()
        cls.server.wait(20)

    def run_client(self, program, *arguments):
        if shutil.which(program) is None:
            self.skipTest(f"{program} is not installed")
        done = subprocess.run([program, "@127.0.0.1", "-p", str(self.port), "+norecurse",
                               *arguments],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for complaint in ("Warning", "WARNING", "warning", "malformed"):
            self.assertNotIn(complaint, done.stdout + done.stderr)
        return done.stdout

    def both(self, *arguments):
        for program in ("dig", "kdig"):
            if shutil.which(program):
                yield self.run_client(program, *arguments)
            else:
                print(f"{program} is not installed: left out")

    def test_addresses(self):
        for out in self.both("app3.marathon.mesos", "A", "+short"):
            self.assertEqual(len(out.split()), 4)

    def test_services_with_their_addresses(self):
        for out in self.both("_app3._tcp.marathon.mesos", "SRV", "+tcp", "+noall", "+answer",
                             "+additional"):
            self.assertEqual(out.count("SRV"), 4)
            self.assertEqual(sum(line.split()[3:4] == ["A"] for line in out.splitlines()), 4)

    def test_cookie_is_echoed_and_good(self):
        out = self.run_client("dig", "app3.marathon.mesos", "A", "+cookie")
        self.assertRegex(out, r"COOKIE: [0-9a-f]{48} \(good\)")

    def test_misses(self):
        for out in self.both("nobody.mesos", "A"):
            self.assertIn("NXDOMAIN", out)
        for out in self.both("app3.marathon.mesos", "TXT"):
            self.assertIn("NOERROR", out)

    def test_any_is_small(self):
        for out in self.both("ready.spartan", "ANY", "+short"):
            self.assertTrue(out.strip())

    def test_keepopen(self):
        out = self.run_client("dig", "+tcp", "+keepopen", "app1.marathon.mesos", "A", "+short",
                              "app2.marathon.mesos", "A", "+short")
        self.assertEqual(len(out.split()), 8)

    def test_zone_transfer(self):
        out = self.run_client("dig", "mesos", "AXFR")
        self.assertIn("XFR size", out)
        for _ in self.both("mesos", "IXFR=1"):
            pass

    @unittest.skipIf(dns is None, "python3-dnspython is not installed")
    def test_dnspython_reads_the_zone(self):
        zone = dns.zone.from_xfr(dns.query.xfr("127.0.0.1", "mesos", port=self.port))
        self.assertGreater(len(zone.nodes), APPS)
        query = dns.message.make_query("APP3.Marathon.mesos", "A", use_edns=0, payload=4096)
        reply = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=10)
        self.assertEqual(reply.rcode(), dns.rcode.NOERROR)
        self.assertTrue(reply.flags & dns.flags.AA)
        self.assertEqual(str(reply.answer[0].name), "APP3.Marathon.mesos.")
        unknown = dns.message.make_query("mesos", "SOA")
        unknown.set_opcode(5)
        self.assertEqual(dns.query.udp(unknown, "127.0.0.1", port=self.port, timeout=10,
                                       ignore_unexpected=True).rcode(), dns.rcode.NOTIMP)


if __name__ == "__main__":
    unittest.main(verbosity=2)
