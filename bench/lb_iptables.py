"""The rules kube-proxy writes for iptables, for `bench/run lb`: a chain a service, a chain an endpoint,
and one rule a service in the chain that every new connection walks. What is dialled comes last."""


def service(number, vip, port, endpoints):
    svc = f"KUBE-SVC-{number:016d}"
    seps = [f"KUBE-SEP-{number:013d}{i:03d}" for i in range(len(endpoints))]
    chains = [f":{svc} - [0:0]"] + [f":{sep} - [0:0]" for sep in seps]
    name = f'-m comment --comment "bench/app{number}"'
    entry = f"-A KUBE-SERVICES -d {vip}/32 -p tcp {name} -m tcp --dport {port} -j {svc}"
    rules = []
    for i, (sep, endpoint) in enumerate(zip(seps, endpoints)):
        left = len(seps) - i
        choice = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        rules.append(f"-A {svc} {name} {choice}-j {sep}")
        rules.append(f"-A {sep} -s {endpoint.split(':')[0]}/32 {name} -j KUBE-MARK-MASQ")
        rules.append(f"-A {sep} -p tcp {name} -m tcp -j DNAT --to-destination {endpoint}")
    return chains, entry, rules


def rules(count, dialled, network, port):
    """The nat table with `count` services of four endpoints; `dialled` is `address:port`."""
    chains = [":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]",
              ":POSTROUTING ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]",
              ":KUBE-POSTROUTING - [0:0]"]
    entries, body = [], []
    for i in range(count):
        last = i == count - 1
        low = f"{i // 250}.{1 + i % 250}"
        vip, vip_port = dialled.split(":") if last else (f"11.0.{low}", "80")
        endpoints = [f"{network}{b + 1}:{port}" if last else f"10.{100 + b}.{low}:{port}"
                     for b in range(4)]
        more, entry, rest = service(i, vip, vip_port, endpoints)
        chains += more
        entries.append(entry)
        body += rest
    jump = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    fixed = [f"-A PREROUTING {jump}", f"-A OUTPUT {jump}",
             '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
             "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
             "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
             "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
             "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"]
    return "\n".join(["*nat", *chains, *fixed, *entries, *body, "COMMIT", ""])
