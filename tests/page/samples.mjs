// Answers as a daemon gives them, to start from.

export const status = () => ({
  version: '0.1.0', uptime_seconds: 93_400, ready: true, not_ready: [], node: {addresses: ['10.66.0.1', 'fd66::1']},
  observation: {source: 'this node', state: 'subscribed', master: '10.66.0.250:5050', last_event_seconds: 3, last_snapshot_seconds: 9000, last_error: ''},
  cluster: {complete: true, recovering: false, held_tasks: 0, held_seconds: null, tasks: 214, agents: 24, frameworks: 3, masters: 3, vips: 12},
  lb: {driver: 'nft', healthy: true, vips: 12, backends: 61, last_reconcile_seconds: 8, last_error: ''},
  dns: {listen: ['127.0.0.1:53', '10.66.0.1:53'], ready: true, names: 1893, records: 2210, serial: 1795315869, last_error: ''},
});

/** A VIP with one backend for each of `weights`. */
export const vip = (name, weights = [1, 1, 1], {protocol = 'tcp', port = 80, connections = 0, id = 1} = {}) => ({
  vip: `${name}.l4lb.thisdcos.directory:${port}`, protocol, address: `11.${id % 200}.81.62:${port}`, quarantined: false,
  backend: weights.map((weight, i) => ({ip: `10.66.0.${i + 1}`, port: 31_000 + id, endpoint: `10.66.0.${i + 1}:${31_000 + id}`, weight, connections})),
});

export const node = (i, more = {}) => ({
  id: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`, status: 'alive', endpoints: [`10.66.0.${i}:61420`], agent: `S${i}`,
  self: false, observer: false, publisher: false, version: '0.1.0', ...more,
});

/** A middling cluster: a little of everything, for looking at. */
export function cluster() {
  const names = ['web.marathon', 'api.marathon', 'checkout.marathon', 'search.marathon', 'redis.marathon', 'auth.marathon',
    'metrics-ingest.monitoring', 'kafka.data', 'orders.marathon', 'images.marathon', 'mail.marathon', 'sessions.marathon'];
  const sizes = [[1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1, 1], [1], [1, 1], Array(30).fill(1), [1, 1, 1], [1, 1], [1, 1, 1, 1], [], [1, 1]];
  const rates = [42, 210, 7, 88, 640, 31, 1200, 15, 4, 60, 0, 0.3];
  const began = Date.now();
  const wave = (i) => 1 + 0.35 * Math.sin((Date.now() / 1000) / (4 + i) + i);
  let totals = rates.map(() => 100_000), last = began;
  return {
    '/v1/status': () => status(),
    '/v1/vips': () => {
      const now = Date.now();
      totals = totals.map((n, i) => n + rates[i] * wave(i) * (now - last) / 1000);
      last = now;
      return names.map((name, i) => vip(name, sizes[i], {id: i + 1, port: i === 4 ? 6379 : 80, connections: Math.round(totals[i] / (sizes[i].length || 1))}));
    },
    '/v1/nodes': () => ({nodes: Array.from({length: 24}, (_, i) => node(i + 1, {self: i === 0, publisher: i === 2, observer: i === 2 || i === 7,
      status: i === 10 ? 'daemon_down' : i === 17 ? 'left' : 'alive'}))}),
    '/v1/changes': () => ({changes: [
      {id: 9, at: began / 1000 - 4, what: 'joined', text: 'web.marathon:80/tcp: 10.66.0.3:31001 joined'},
      {id: 8, at: began / 1000 - 6, what: 'left', text: 'web.marathon:80/tcp: 10.66.0.9:31001 left'},
      {id: 7, at: began / 1000 - 95, what: 'draining', text: 'checkout.marathon:80/tcp: 10.66.0.3:31003 drains: unhealthy'},
      {id: 6, at: began / 1000 - 700, what: 'other', text: '128 tasks changed at once'},
      {id: 5, at: began / 1000 - 9000, what: 'other', text: 'the leading master is now 10.66.0.250:5050'}]}),
    '/v1/records': (query) => ({records: [
      {name: 'web.marathon.mesos', type: 'A', data: '10.66.0.1'}, {name: 'web.marathon.mesos', type: 'A', data: '10.66.0.2'},
      {name: '_web._tcp.marathon.mesos', type: 'SRV', data: '0 1 31001 web-k3u8x-s1.marathon.mesos'}].filter((r) => r.name.includes(query.get('contains'))), more: false}),
  };
}
