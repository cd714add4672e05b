"""Docker and firewalld of Debian, unpacked and not installed, in a mount and a pid namespace of their own."""

import json
import os
import pathlib
import shutil
import subprocess
import time

from room import LIMIT, NODE, Stop, namespace, sh, skip

CGROUP = f"/muster-firewalls-{os.getpid()}"
# What starts everything else there. That a child has ended interests nobody: the kernel buries it.
INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"


class Programs:
    """Where the daemons live: the node's network namespace, and a file system that is this machine's with `unpacked` laid over it, and what is
    written kept in memory. Goes with its first process, and with it all that was started there."""

    def __init__(self, room, unpacked, iptables="nft"):
        self.room, self.unpacked, self.iptables, self.daemons = room, pathlib.Path(unpacked), iptables, {}
        self.first = self.parent = None

    def __enter__(self):
        try:
            self._enter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _enter(self):
        layers = "".join(f"mkdir -p /run/layer{at}/up /run/layer{at}/work && "
                         f"mount -t overlay -o lowerdir={below}{at},upperdir=/run/layer{at}/up,workdir=/run/layer{at}/work muster {at} && "
                         for at, below in (("/usr", f"{self.unpacked}/usr:"), ("/etc", f"{self.unpacked}/etc:"), ("/var", "")))
        ready = self.room.folder / "layered"
        commands = (f"mount -t tmpfs muster /run && mkdir -p /run/lock /run/dbus && {layers}"
                    f"mkdir -p /var/lib/docker /var/lib/containerd && mount -t tmpfs muster /var/lib/docker && mount -t tmpfs muster /var/lib/containerd && "
                    + "".join(f"ln -sf /usr/sbin/{program}-{self.iptables} /etc/alternatives/{program} && " for program in ("iptables", "ip6tables"))
                    # As the package's installation does, for polkit where there is one.
                    + "ln -sf org.fedoraproject.FirewallD1.server.policy.choice /usr/share/polkit-1/actions/org.fedoraproject.FirewallD1.policy && "
                    + f"touch {ready} && exec python3 -c '{INIT}'")
        self.parent = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "nsenter", namespace(NODE), "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                                        "--mount-proc", "sh", "-c", commands], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + LIMIT
        while not ready.exists():
            if self.parent.poll() is not None:
                skip(f"no overlay of file systems: {self.parent.stderr.read().strip()}")
            if time.monotonic() > end:
                raise RuntimeError("the file systems were not laid over each other")
            time.sleep(0.02)
        children = [int(file.parent.name) for file in pathlib.Path("/proc").glob("[0-9]*/stat") if parent_of(file) == self.parent.pid]
        self.first = children[0]

    def __exit__(self, *_):
        if self.parent:
            if self.first:
                os.kill(self.first, 9)  # and so all that is in there
            else:
                self.parent.kill()
            self.parent.wait(LIMIT)
        for process, log in self.daemons.values():
            process.wait(LIMIT)
            log.close()
        for folder in sorted(pathlib.Path("/sys/fs/cgroup").glob(f"**{CGROUP}/**/"), reverse=True):
            folder.rmdir()

    def command(self, *arguments):
        return ["nsenter", "-t", str(self.first), "-m", "-p", "-n", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *map(str, arguments)]

    def run(self, *arguments, good=True, timeout=LIMIT):
        done = subprocess.run(self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if good and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}{done.stdout}{self.log_of('dockerd')}{self.log_of('firewalld')}")
        return done.stdout.strip()

    # --- daemons

    def start(self, name, *arguments):
        log = open(self.room.folder / f"{name}.log", "a")
        process = subprocess.Popen(self.command("sh", "-c", f'echo $$ >/run/muster-{name}; exec "$0" "$@"', *arguments),
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.daemons[name] = (process, log)

    def stop(self, name, signal="TERM"):
        self.run("sh", "-c", f"kill -{signal} $(cat /run/muster-{name})")
        process, log = self.daemons.pop(name)
        process.wait(LIMIT)
        log.close()

    def log_of(self, name):
        file = self.room.folder / f"{name}.log"
        return f"\n--- {name}\n{file.read_text()[-3000:]}" if file.exists() else ""

    def await_daemon(self, name, *question):
        """Until `question` is answered without an error."""
        end = time.monotonic() + LIMIT
        while True:
            done = subprocess.run(self.command(*question), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
            if done.returncode == 0:
                return
            if self.daemons[name][0].poll() is not None or time.monotonic() > end:
                self.room.check(f"{name} starts", False, done.stderr + self.log_of(name))
                raise Stop
            time.sleep(0.1)

    # --- Docker

    def start_docker(self):
        self.start("dockerd", "dockerd", "--storage-driver", "vfs", "--cgroup-parent", CGROUP, "--exec-opt", "native.cgroupdriver=cgroupfs", "--live-restore",
                   "--userland-proxy=true")
        self.await_daemon("dockerd", "docker", "version")

    def stop_docker(self, signal="TERM"):
        self.stop("dockerd", signal)

    def make_image(self):
        """This machine's own /usr is mounted into its containers."""
        tree = self.room.folder / "image"
        (tree / "usr").mkdir(parents=True)
        (tree / "test").mkdir()
        for link in ("bin", "sbin", "lib", "lib64"):
            (tree / link).symlink_to(f"usr/{link}")
        sh(f"tar -C {tree} -cf {self.room.folder}/image.tar .")
        self.run("docker", "import", f"{self.room.folder}/image.tar", "test")

    def container(self, name, *options):
        """One that serves its name at port 8080; its address."""
        self.run("docker", "run", "-d", "--name", name, "-v", "/usr:/usr:ro", "-v", f"{pathlib.Path(__file__).parent}:/test:ro", *options, "test",
                 "python3", "-B", "/test/roles.py", "serve", name, "8080")
        return self.inspect(name)["NetworkSettings"]["Networks"].popitem()[1]["IPAddress"]

    def inspect(self, name):
        return json.loads(self.run("docker", "inspect", name))[0]

    def inside(self, name):
        """The network namespace of a container, as the test can enter it."""
        return f"/proc/{self.first}/root{self.inspect(name)['NetworkSettings']['SandboxKey']}".replace("/var/run/", "/run/")

    # --- firewalld

    def start_firewalld(self):
        if "dbus" not in self.daemons:
            self.start("dbus", "dbus-daemon", "--system", "--nofork", "--nopidfile")
            self.await_daemon("dbus", "dbus-send", "--system", "--dest=org.freedesktop.DBus", "--print-reply", "/", "org.freedesktop.DBus.ListNames")
        self.start("firewalld", "firewalld", "--nofork", "--nopid")
        self.await_daemon("firewalld", "firewall-cmd", "--state")

    def stop_firewalld(self):
        self.stop("firewalld")


def parent_of(file):
    try:
        return int(file.read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def unpacked(folder, *programs):
    """Ends the test, with the reason, where they are not there."""
    missing = [program for program in programs if not shutil.which(program, path=f"{folder}/usr/sbin:{folder}/usr/bin")]
    if missing:
        skip(f"{', '.join(missing)}: not unpacked (deploy/install-deps --unpack {folder} firewalls)")
