#!/usr/bin/env python3
"""A Mesos master that refuses to stream and has one task with a VIP: enough for a daemon to serve."""

import http.server
import json

IP = "10.0.0.11"
CLUSTER = "5c1b4e7e-0000-4000-8000-000000000001"
TASK = {
    "id": "web.1", "name": "web", "framework_id": f"{CLUSTER}-0000", "executor_id": "", "slave_id": f"{CLUSTER}-S0",
    "state": "TASK_RUNNING", "role": "*", "resources": {"cpus": 0.1, "mem": 32.0, "disk": 0.0, "ports": "[31000-31000]"},
    "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {"network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": IP}]}]}}],
    "discovery": {"visibility": "FRAMEWORK", "name": "web", "ports": {"ports": [
        {"number": 31000, "name": "http", "protocol": "tcp", "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]}}]}},
}
STATE = {
    "version": "1.11.0", "id": CLUSTER, "pid": "master@127.0.0.1:5050", "hostname": "127.0.0.1", "leader": "master@127.0.0.1:5050",
    "leader_info": {"id": CLUSTER, "pid": "master@127.0.0.1:5050", "port": 5050, "hostname": "127.0.0.1"},
    "slaves": [{"id": f"{CLUSTER}-S0", "hostname": IP, "port": 5051, "pid": f"slave(1)@{IP}:5051", "active": True, "attributes": {}, "resources": {}}],
    "recovered_slaves": [], "orphan_tasks": [], "unregistered_frameworks": [], "completed_frameworks": [],
    "frameworks": [{"id": f"{CLUSTER}-0000", "name": "marathon", "hostname": IP, "active": True, "connected": True, "recovered": False,
                    "tasks": [TASK], "unreachable_tasks": [], "completed_tasks": []}],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(STATE).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(403, b"")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 5050), Handler).serve_forever()
