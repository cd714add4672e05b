// What the page knows, worked out of the daemon's answers. No DOM here; tests/page runs it in Node.

export const kStep = 10;    // seconds; the daemon refreshes its counters at most so often
export const kWindow = 25;  // seconds a rate is taken over, two steps and a bit
export const kPoints = 90;  // of a sparkline: three minutes at one poll in two seconds

/** 1234567 -> "1,234,567" */
export function count(n) {
  return Number.isFinite(n) ? Math.round(n).toLocaleString('en') : '–';
}

/** 0.04 -> "0.04", 12.3 -> "12", 8200 -> "8,200": as precise as it is of use. */
export function rate(n) {
  if (!Number.isFinite(n)) return '–';
  if (n === 0 || n >= 10) return count(n);
  return n.toFixed(n < 1 ? 2 : 1);
}

/** Seconds as people say them: "3 s", "4 min", "2 h", "5 d". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** What a backend is to new connections, in a word or two; out: it gets none. */
export function backendState(backend) {
  const out = backend.weight === 0;
  if (backend.ejected) return {out, text: 'does not answer'};
  if (backend.pending) return {out, text: out ? 'not in the kernel yet' : 'about to change'};
  if (out) return {out, text: 'draining'};
  if (backend.starting) return {out, text: 'starting slowly'};
  return {out, text: backend.weight === 1 ? 'serving' : `weight ${backend.weight}`};
}

/** good: takes connections; warn: some of its backends get none; bad: refuses every connection. */
export function vipState(vip) {
  const backends = vip.backend ?? [];
  const serving = backends.filter((b) => b.weight > 0).length;
  if (vip.quarantined) return {state: 'bad', serving, text: 'the kernel refuses this VIP'};
  if (backends.length === 0) return {state: 'bad', serving, text: 'no backend'};
  if (serving === 0) return {state: 'bad', serving, text: backends.some((b) => b.pending) ? 'not in the kernel yet' : 'all draining'};
  if (serving < backends.length) return {state: 'warn', serving, text: `${serving} of ${backends.length}`};
  return {state: 'good', serving, text: String(backends.length)};
}

const kNodeStates = {
  alive: ['good', 'alive'],
  left: ['quiet', 'left'],
  daemon_down: ['warn', 'daemon down'],
  host_down: ['bad', 'host down'],
};

/** Status, roles and where to find it, in words. */
export function nodeState(node) {
  const [state, text] = kNodeStates[node.status] ?? ['quiet', String(node.status)];
  const roles = [];
  if (node.self) roles.push('this node');
  if (node.publisher) roles.push('publisher');
  else if (node.observer) roles.push('observer');
  if (state !== 'good') roles.unshift(text);
  const address = String((node.endpoints ?? [])[0] ?? node.id).replace(/:61420$/, '');
  return {state, text: roles.join(', ') || text, address};
}

function mesosTrouble(from) {
  const age = from.last_event_seconds;
  if (Number.isFinite(age) && age > 90) {
    return `No news from Mesos for ${duration(age)}: the last good state is served.`;
  }
  return from.last_error ? `Mesos: ${from.last_error}` : null;
}

function troubles({status, vips, nodes}) {
  const found = [];
  const mesos = mesosTrouble(status.observation ?? {});
  if (mesos) found.push(mesos);
  if (status.agent?.last_error) found.push(`This node's Mesos agent does not answer; what it said last is served: ${status.agent.last_error}`);
  const held = status.cluster?.held_tasks ?? 0;
  if (held > 0) found.push(`${plural(held, 'task')} held: Mesos no longer lists them, but too many went at once to believe it yet.`);
  const dead = vips.filter((vip) => vipState(vip).state === 'bad');
  if (dead.length > 0) {
    const names = dead.slice(0, 3).map((vip) => vip.vip).join(', ');
    found.push(`${plural(dead.length, 'VIP refuses', 'VIPs refuse')} connections: ${names}${dead.length > 3 ? ', …' : ''}`);
  }
  for (const [name, what] of [['host_down', 'host is down'], ['daemon_down', 'daemon is down']]) {
    const down = (nodes ?? []).filter((node) => node.status === name);
    if (down.length === 0) continue;
    const where = down.slice(0, 3).map((node) => nodeState(node).address).join(', ');
    const many = what.replace(' is', 's are');
    found.push(`${plural(down.length, what, many)}: ${where}${down.length > 3 ? ', …' : ''}`);
  }
  return found;
}

/** The one line, and why. `seen`: seconds since the last answer, or null while there was none. */
export function health({status, vips = [], nodes = null, answering, seen}) {
  if (!answering) {
    const since = seen === null ? 'It has not answered yet.' : `Last answer ${duration(seen)} ago.`;
    return {level: 'bad', mark: '!', title: 'The daemon does not answer',
      details: [`${since} Connections go on: the kernel keeps balancing what it was told.`]};
  }
  if (!status.ready) {
    return {level: 'bad', mark: '!', title: 'Not ready', details: status.not_ready ?? []};
  }
  const found = troubles({status, vips, nodes});
  if (found.length > 0) return {level: 'warn', mark: '!', title: 'Serving, with trouble', details: found};
  const parts = [];
  const from = status.observation ?? {};
  const publisher = (nodes ?? []).find((node) => node.publisher && !node.self);
  if (publisher) parts.push(`State from node ${nodeState(publisher).address}, which follows Mesos for all`);
  else parts.push(from.master ? `State from Mesos master ${from.master}` : 'State is complete');
  if (status.agent?.source === 'agent') parts.push(`what runs here from this node's own Mesos agent ${status.agent.agent}`);
  if (status.lb?.driver && status.lb.driver !== 'off') parts.push(`kernel programmed by ${status.lb.driver}`);
  if (status.dns?.listen && status.dns.listen !== 'off') parts.push(`DNS on ${[].concat(status.dns.listen).join(', ')}`);
  return {level: 'good', mark: '✓', title: 'All is served', details: [`${parts.join('; ')}.`]};
}

/**
 * Connections a second of each VIP and backend. The daemon reads the kernel's counters at most every
 * kStep seconds, so totals stand still and then jump: what counts is the time between two jumps.
 */
export class Rates {
  #series = new Map();  // key -> {last: total, jumps: [[time, total]…], points: [rate…]}

  /** `time` in seconds. Keys that are not given again are forgotten. */
  take(time, totals) {
    const next = new Map();
    for (const [key, total] of totals) {
      let series = this.#series.get(key);
      if (!series || total < series.last) {  // new, or the daemon began anew
        series = {last: total, jumps: [[time - kStep, total]], points: series?.points ?? []};
      }
      const {jumps, points} = series;
      if (total !== series.last) jumps.push([time, total]);
      series.last = total;
      while (jumps.length > 1 && time - jumps[1][0] >= kWindow) jumps.shift();
      const [began, base] = jumps[0];
      const [ended] = jumps.at(-1);
      const until = time - ended > kStep + 2 ? time : ended;  // a jump is overdue: it slows down
      points.push(until > began ? (total - base) / (until - began) : 0);
      if (points.length > kPoints) points.shift();
      next.set(key, series);
    }
    this.#series = next;
  }

  of(key) { return this.#series.get(key)?.points.at(-1) ?? 0; }
  points(key) { return this.#series.get(key)?.points ?? []; }
}

export const vipKey = (vip) => `${vip.address}/${vip.protocol}`;
export const total = (vip) => (vip.backend ?? []).reduce((sum, b) => sum + (b.connections ?? 0), 0);

/** What Rates.take() wants: a row for each VIP, and one for each of its backends. */
export function* totals(vips) {
  for (const vip of vips) {
    yield [vipKey(vip), total(vip)];
    for (const b of vip.backend ?? []) yield [`${vipKey(vip)} ${b.endpoint}`, b.connections ?? 0];
  }
}

const kOrder = {bad: 0, warn: 1, good: 2, quiet: 3};
const byText = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Those with trouble first, then by name, or the busiest first. */
export function pickVips(vips, {filter, sort, rates}) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (vip) => {
    const text = [vip.vip, vip.address, vip.protocol, ...(vip.backend ?? []).map((b) => b.endpoint)].join(' ').toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const rows = vips.filter(matches).map((vip) => ({vip, state: vipState(vip), rate: rates.of(vipKey(vip))}));
  return rows.sort((a, b) => (sort === 'rate' ? b.rate - a.rate : 0) ||
    kOrder[a.state.state] - kOrder[b.state.state] || byText(a.vip.vip, b.vip.vip) || byText(a.vip.protocol, b.vip.protocol));
}

/** Those with trouble first, this node before the rest, then by address as numbers. */
export function pickNodes(nodes) {
  const number = (text) => text.replace(/\d+/g, (digits) => digits.padStart(5, '0'));
  return nodes.map((node) => ({node, state: nodeState(node)})).sort((a, b) =>
    kNodeOrder(a) - kNodeOrder(b) || Number(!!b.node.self) - Number(!!a.node.self) ||
    byText(number(a.state.address), number(b.state.address)));
}
const kNodeOrder = (row) => kOrder[row.state.state];

/** A path for an SVG of 100 x 24. */
export function sparkline(points) {
  if (points.length < 2) return '';
  const top = Math.max(...points, 1e-9);
  const step = 100 / (kPoints - 1);
  const start = 100 - (points.length - 1) * step;
  return points.map((value, i) => `${i ? 'L' : 'M'}${(start + i * step).toFixed(1)} ${(22.5 - 21 * value / top).toFixed(1)}`).join('');
}
