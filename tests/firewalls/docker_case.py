"""Docker: its own bridges, published ports, its chains rewritten by restarts; and a container that is not Docker's."""


from programs import Programs, unpacked
from room import NODE, NODE_IP, PLAIN, REMOTE, REMOTE_IP, Room, namespace, sh

# Vips by what is behind them.
FAR, FAR_UDP, OUTSIDE = "tcp/11.0.0.1:80", "udp/11.0.0.1:53", "tcp/10.99.0.1:443"
HOST, PROXIED, PUBLISHED = "tcp/11.0.0.2:80", "tcp/11.0.0.3:80", "tcp/11.0.0.4:80"
ON_DOCKER0, ON_SHOP, NOBODY = "tcp/11.0.0.5:80", "tcp/11.0.0.6:80", "tcp/11.0.0.7:80"
EVERYTHING = {FAR: "remote", FAR_UDP: "remote", OUTSIDE: "remote", HOST: "node", PROXIED: "web", PUBLISHED: "web", ON_DOCKER0: "web", ON_SHOP: "shop", NOBODY: None}
# Docker's own proxy, which is Docker: while that does not run, nobody listens there.
WITHOUT_DOCKER = [at for at, answer in EVERYTHING.items() if answer and at != PROXIED]
DIRECT = f"tcp/{REMOTE_IP}:8080"
ITS_PORT = f"tcp/{NODE_IP}:31000"


def base_tasks():
    return {"far": {"agent": REMOTE_IP, "port": 8080, "vips": [FAR, OUTSIDE]}, "far_udp": {"agent": REMOTE_IP, "port": 8080, "vips": [FAR_UDP]},
            "host": {"agent": NODE_IP, "port": 8080, "vips": [HOST]}}


class Containers:
    """Two behind docker0, two behind a bridge of the user's."""

    def __init__(self, room, programs):
        self.room, self.programs = room, programs
        programs.make_image()
        self.web = programs.container("web", "-p", "31000:8080")
        self.client = programs.container("client")
        programs.run("docker", "network", "create", "shopping")
        self.shop = programs.container("shop", "--network", "shopping")
        programs.container("shopper", "--network", "shopping")
        self.find()
        # Published, with and without Mesos knowing whose container that is; and by addresses of their own.
        room.place(proxied={"agent": NODE_IP, "port": 31000, "vips": [PROXIED]},
                   published={"agent": NODE_IP, "address": self.web, "port": 8080, "published": 31000, "vips": [PUBLISHED]},
                   web={"agent": NODE_IP, "address": self.web, "port": 8080, "vips": [ON_DOCKER0]},
                   shop={"agent": NODE_IP, "address": self.shop, "port": 8080, "vips": [ON_SHOP]})

    def find(self):
        self.places = {name: self.programs.inside(name) for name in ("web", "client", "shop", "shopper")}

    def its_own_works(self, what):
        """What Docker gives is there, and what it denies is not."""
        room, at = self.room, self.places
        room.expect(f"{what}: the published port answers from outside", REMOTE, {ITS_PORT: "web"})
        room.expect(f"{what}: containers reach the outside", at["client"], {DIRECT: "remote", f"tcp/{self.web}:8080": "web", f"tcp/{self.shop}:8080": None})
        room.expect(f"{what}: and not another bridge of Docker's", at["shopper"], {DIRECT: "remote", f"tcp/{self.shop}:8080": "shop", f"tcp/{self.web}:8080": None})
        room.expect(f"{what}: what it knows nothing of stays dropped", PLAIN, {DIRECT: None, f"tcp/{self.client}:8080": None, f"tcp/{self.shop}:8080": None})
        room.expect(f"{what}: both ways", REMOTE, {"tcp/10.3.0.2:8080": None})

    def clients(self):
        """For Room.load()."""
        return {"docker0": (self.places["client"], WITHOUT_DOCKER), "a user's bridge": (self.places["shopper"], WITHOUT_DOCKER),
                "a container that is not Docker's": (PLAIN, WITHOUT_DOCKER), "the node": (NODE, WITHOUT_DOCKER)}

    def all_reached(self, what):
        for name, where in {**self.places, "a container that is not Docker's": PLAIN, "the node": NODE}.items():
            self.room.expect(f"{what}: {name} reaches every VIP", where, EVERYTHING)


def walk(room, programs):
    room.place(**base_tasks())
    room.start_muster(accept=True)
    programs.start_docker()
    containers = Containers(room, programs)
    containers.all_reached("muster first, then Docker")
    containers.its_own_works("muster first, then Docker")
    restarts(room, programs, containers)
    bridged(room, containers)
    after_muster(room, programs, containers)


def restarts(room, programs, containers):
    clients = containers.clients()
    with room.load("Docker stopped and started", clients):
        programs.stop_docker()
        programs.start_docker()
    with room.load("Docker killed and started", clients):
        programs.stop_docker("KILL")
        programs.start_docker()
    with room.load("networks and containers made and removed", clients):
        programs.run("docker", "network", "create", "passing")
        programs.container("passing", "--network", "passing", "-p", "31009:8080")
        programs.run("docker", "rm", "-f", "passing")
        programs.run("docker", "network", "rm", "passing")
    with room.load("muster stopped and started", clients):
        room.stop_muster()
        room.start_muster(accept=True)
    containers.all_reached("after all that")
    containers.its_own_works("after all that")
    # Docker without its containers: it then makes its networks anew.
    programs.run("docker", "stop", "-t", "0", *containers.places)
    programs.stop_docker()
    programs.start_docker()
    programs.run("docker", "start", *containers.places)
    containers.find()
    containers.all_reached("Docker and its containers started again")


def bridged(room, containers):
    """br_netfilter has bridged packets meet the rules, where somebody has turned it on."""
    setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    if "1" not in sh(f"nsenter {namespace(NODE)} sh -c 'echo 1 >{setting}; cat {setting}' 2>/dev/null", good=False):
        print("        no br_netfilter on this kernel")
        return
    room.stop_muster()
    room.start_muster(accept=True)
    for name, where in containers.places.items():
        room.expect(f"br_netfilter on: {name} reaches every VIP but itself", where,
                    {at: None if answer == name and at != PROXIED else answer for at, answer in EVERYTHING.items()})
    sh(f"nsenter {namespace(NODE)} sh -c 'for port in $(ip -br link | grep -o ^veth[^@]*); do bridge link set dev $port hairpin on; done'")
    containers.all_reached("br_netfilter on, and ports that send back")
    sh(f"nsenter {namespace(NODE)} sh -c 'echo 0 >{setting}'")


def after_muster(room, programs, containers):
    room.clean_up()
    before = room.rules()
    room.check("cleaned up, nothing of muster's is left", "muster" not in before and "muster" not in programs.run("iptables-save"), before)
    containers.its_own_works("without muster")
    room.expect("without muster there are no VIPs", containers.places["client"], {at: None for at in EVERYTHING})

    room.start_muster(accept=False)
    room.until("started after Docker and not told to accept, muster names the chain that drops", lambda: "ip filter FORWARD" in room.status() + room.log())
    for name in ("client", "web"):
        room.expect(f"not told to accept: {name} reaches all but Docker's other bridge", containers.places[name], {**EVERYTHING, ON_SHOP: None})
    for name in ("shopper", "shop"):
        room.expect(f"not told to accept: {name} reaches all but Docker's other bridge", containers.places[name],
                    {**EVERYTHING, PUBLISHED: None, ON_DOCKER0: None})
    room.expect("not told to accept: a container that is not Docker's reaches what is on the node, and what Docker has published", PLAIN,
                {at: answer if answer in ("node", "web") else None for at, answer in EVERYTHING.items()})
    room.stop_muster()
    room.start_muster(accept=True)
    containers.all_reached("Docker first, then muster")
    containers.its_own_works("Docker first, then muster")
    listed = programs.run("iptables", "-S")
    room.check("iptables lists the table", listed.count("muster: VIPs 11.0.0.0/8") == 2 and "DOCKER-USER -m conntrack" in listed, listed)
    room.clean_up()
    room.check("cleaned up, the rules are those of before to the letter", room.rules() == before, f"{before}\n---\n{room.rules()}")
    containers.its_own_works("without muster again")


def run(muster, folder):
    unpacked(folder, "dockerd", "docker", "containerd", "runc")
    with Room(muster) as room, Programs(room, folder) as programs:
        try:
            walk(room, programs)
        finally:
            if room.failures:
                print(programs.log_of("dockerd"), programs.run("iptables-save", good=False), room.log(), sep="\n")
        return room.failures


def run_legacy(muster, folder):
    """iptables-legacy, which muster cannot reach: what it says of it is what helps."""
    unpacked(folder, "dockerd", "docker", "containerd", "runc")
    with Room(muster) as room, Programs(room, folder, iptables="legacy") as programs:
        room.place(**base_tasks())
        room.start_muster(accept=True)
        programs.start_docker()
        containers = Containers(room, programs)
        containers.its_own_works("iptables-legacy")
        for name in ("client", "web"):
            room.expect(f"iptables-legacy: {name} reaches all but Docker's other bridge", containers.places[name], {**EVERYTHING, ON_SHOP: None})
        room.expect("iptables-legacy: a container that is not Docker's reaches what is on the node, and what Docker has published", PLAIN,
                    {at: answer if answer in ("node", "web") else None for at, answer in EVERYTHING.items()})
        said = sh(f"nsenter {namespace(NODE)} {muster} check --config {room.folder}/muster.toml 2>&1", good=False)
        advice = next((line[line.index("iptables-legacy -I"):].strip().rstrip("`.") for line in said.splitlines() if "iptables-legacy -I" in line), "")
        room.check("muster check says which rule helps", advice, said)
        programs.run("sh", "-c", advice)
        room.expect("with that rule it reaches all in the range", PLAIN, {**EVERYTHING, OUTSIDE: None})
        return room.failures
