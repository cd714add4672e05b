"""firewalld: its default zone, reloads and restarts; alone, and with Docker, which it has a zone for."""

from docker_case import DIRECT, EVERYTHING, FAR, FAR_UDP, HOST, NOBODY, OUTSIDE, Containers, base_tasks
from programs import Programs, unpacked
from room import NODE, NODE_IP, PLAIN, REMOTE, Room, sh

REACHED = {FAR: "remote", FAR_UDP: "remote", OUTSIDE: "remote", HOST: "node", NOBODY: None}
SERVED = [at for at, answer in REACHED.items() if answer]
PORT = f"tcp/{NODE_IP}:8080"


def denied(room, what):
    """That firewalld does what it is there for: else the rest would say nothing."""
    room.expect(f"{what}: firewalld lets nobody forward, nor in", PLAIN, {DIRECT: None, "tcp/10.3.0.1:8080": None})
    room.expect(f"{what}: from outside neither", REMOTE, {"tcp/10.3.0.2:8080": None, PORT: None})


def reached(room, what):
    room.expect(f"{what}: a container reaches VIPs", PLAIN, REACHED)
    room.expect(f"{what}: the node reaches VIPs", NODE, REACHED)


def loads():
    return {"a container": (PLAIN, SERVED), "the node": (NODE, SERVED)}


def walk(room, programs):
    programs.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")  # as whoever makes containers does
    room.place(**base_tasks())
    room.start_muster(accept=True)
    reached(room, "before firewalld")
    programs.start_firewalld()
    denied(room, "muster first, then firewalld")
    reached(room, "muster first, then firewalld")
    with room.load("firewalld reloaded", loads()):
        programs.run("firewall-cmd", "--reload")
    reached(room, "firewalld reloaded")
    with room.load("firewalld reloaded completely", loads()):
        programs.run("firewall-cmd", "--complete-reload")
    with room.load("firewalld restarted", loads()):
        programs.stop_firewalld()
        programs.start_firewalld()
    denied(room, "firewalld restarted")
    reached(room, "firewalld restarted")
    programs.run("firewall-cmd", "--permanent", "--add-port=8080/tcp")
    programs.run("firewall-cmd", "--reload")
    room.expect("a port that is opened is open", REMOTE, {PORT: "node"})
    programs.run("firewall-cmd", "--permanent", "--remove-port=8080/tcp")
    programs.run("firewall-cmd", "--reload")
    room.clean_up()
    before = room.rules()
    room.check("cleaned up, nothing of muster's is left", "muster" not in before, before)
    denied(room, "without muster")
    room.start_muster(accept=True)
    reached(room, "firewalld first, then muster")
    denied(room, "firewalld first, then muster")
    with room.load("muster stopped and started", loads()):
        room.stop_muster()
        room.start_muster(accept=True)
    room.clean_up()
    room.check("cleaned up, the rules are those of before to the letter", room.rules() == before, f"{before}\n---\n{room.rules()}")
    # It accepts itself what has been translated: muster neither changes that chain nor warns of it.
    room.start_muster(accept=False)
    reached(room, "not told to accept")
    room.check("and muster does not say that something would drop it", room.metric("muster_lb_forward_chains_dropping") == 0, room.log())
    room.clean_up()
    as_ipvs_needs(room, programs)
    room.check("firewalld complains of nothing", "ERROR" not in programs.log_of("firewalld"), programs.log_of("firewalld"))


def as_ipvs_needs(room, programs):
    """Driver ipvs takes VIPs in where the node takes its own addresses; by the rule that docs/data-plane.md names, firewalld lets it."""
    vip = "tcp/11.0.0.1:8080"
    sh(f"ip -n {NODE} addr add 11.0.0.1/32 dev lo")
    room.expect("firewalld lets nobody in at an address of the range", PLAIN, {vip: None})
    programs.run("firewall-cmd", "--permanent", "--add-rich-rule=rule family=ipv4 destination address=11.0.0.0/8 accept")
    programs.run("firewall-cmd", "--reload")
    room.expect("but by a rule that says so, and nowhere else", PLAIN, {vip: "node", "tcp/10.3.0.1:8080": None})


def run(muster, folder):
    unpacked(folder, "firewalld", "firewall-cmd")
    with Room(muster) as room, Programs(room, folder) as programs:
        try:
            walk(room, programs)
        finally:
            if room.failures:
                print(programs.log_of("firewalld"), room.log(), sep="\n")
        return room.failures


def with_docker(room, programs):
    room.place(**base_tasks())
    programs.start_firewalld()
    programs.start_docker()
    room.start_muster(accept=True)
    containers = Containers(room, programs)
    containers.all_reached("firewalld, Docker, muster")
    clients = containers.clients()
    with room.load("firewalld reloaded", clients):
        programs.run("firewall-cmd", "--reload")
    containers.all_reached("firewalld reloaded")
    with room.load("firewalld restarted", clients):
        programs.stop_firewalld()
        programs.start_firewalld()
    containers.all_reached("firewalld restarted")
    with room.load("Docker stopped and started", clients):
        programs.stop_docker()
        programs.start_docker()
    containers.all_reached("Docker started again")
    containers.its_own_works("firewalld, Docker, muster")
    room.clean_up()
    room.check("cleaned up, nothing of muster's is left", "muster" not in room.rules() and "muster" not in programs.run("iptables-save"), room.rules())


def run_with_docker(muster, folder):
    unpacked(folder, "firewalld", "firewall-cmd", "dockerd", "docker", "containerd", "runc")
    with Room(muster) as room, Programs(room, folder) as programs:
        try:
            with_docker(room, programs)
        finally:
            if room.failures:
                print(programs.log_of("firewalld"), programs.log_of("dockerd"), room.log(), sep="\n")
        return room.failures
