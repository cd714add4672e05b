"""A Mesos master for benches: streams one state of so many tasks, then heartbeats, to who subscribes."""
import http.server
import json
import socketserver
import threading
import time

CLUSTER = "5c1b4e7e-0000-4000-8000-000000000001"
HEARTBEAT_SECONDS = 15


def value(text):
    return {"value": text}


def task(number, vips):
    """Task `number` of app `number mod vips`, each app with one VIP; 100 agents hold them all."""
    app = number % vips
    agent = number % 100
    port = 31000 + number // 100 % 1000
    address = f"10.77.{number // 100_000}.{agent + 1}"
    return {
        "name": f"app{app}", "task_id": value(f"app{app}.{number}"), "framework_id": value(f"{CLUSTER}-0000"),
        "agent_id": value(f"{CLUSTER}-S{agent}"), "state": "TASK_RUNNING",
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": port, "end": port}]}}],
        "statuses": [{
            "task_id": value(f"app{app}.{number}"), "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR",
            "agent_id": value(f"{CLUSTER}-S{agent}"), "timestamp": 1.0 + number,
            "container_status": {"network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": address}]}]}}],
        "discovery": {"visibility": "FRAMEWORK", "name": f"app{app}", "ports": {"ports": [{
            "number": port, "name": "http", "protocol": "tcp",
            "labels": {"labels": [{"key": "VIP_0", "value": f"/app{app}:80"}]}}]}},
    }


def subscribed(tasks, vips):
    agents = [{
        "agent_info": {"hostname": f"10.77.0.{number + 1}", "port": 5051, "id": value(f"{CLUSTER}-S{number}"), "resources": []},
        "active": True, "deactivated": False, "version": "1.11.0", "pid": f"slave(1)@10.77.0.{number + 1}:5051",
        "registered_time": {"nanoseconds": 1}} for number in range(100)]
    framework = {
        "framework_info": {"user": "root", "name": "marathon", "id": value(f"{CLUSTER}-0000"), "hostname": "marathon.mesos"},
        "active": True, "connected": True, "recovered": False, "registered_time": {"nanoseconds": 1}}
    state = {
        "get_tasks": {"tasks": [task(n, vips) for n in range(tasks)], "unreachable_tasks": [], "completed_tasks": []},
        "get_executors": {"executors": []},
        "get_frameworks": {"frameworks": [framework], "completed_frameworks": []},
        "get_agents": {"agents": agents, "recovered_agents": []}}
    event = {"type": "SUBSCRIBED", "subscribed": {"get_state": state, "heartbeat_interval_seconds": HEARTBEAT_SECONDS}}
    return json.dumps(event).encode()


class StreamingMaster:
    """Serves on `address` (host, port) in a thread of its own until close()."""

    def __init__(self, address, tasks, vips):
        first = subscribed(tasks, vips)
        self.state_octets = len(first)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if call["type"] != "SUBSCRIBE":
                    self.send_error(501)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.send(first)
                while True:
                    time.sleep(HEARTBEAT_SECONDS)
                    self.send(b'{"type":"HEARTBEAT"}')

            def do_GET(self):
                self.send_error(404)

            def send(self, event):
                record = str(len(event)).encode() + b"\n" + event
                self.wfile.write(b"%x\r\n" % len(record) + record + b"\r\n")

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass  # a daemon that is killed

        self.server = Server(address, Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
