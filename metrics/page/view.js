// Puts what the model says on the page. Text from the cluster goes in as text, never as markup.

import {backendState, count, duration, pickNodes, pickVips, rate, sparkline, vipKey} from './model.js';

const kPage = 100;      // rows shown at first, and added by each press of "more"
const kMaxBlocks = 12;  // backends drawn one by one
const kSvg = 'http://www.w3.org/2000/svg';

export const by = (id) => document.getElementById(id);

/** make('td', {class: 'num'}, 'text', child…) */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Keeps one child per key, in the order given, and touches only what moved. */
class List {
  #rows = new Map();
  constructor(parent, create) { this.parent = parent; this.create = create; }

  show(items, keyOf) {
    const next = new Map();
    let at = this.parent.firstChild;
    for (const item of items) {
      const key = keyOf(item);
      const row = this.#rows.get(key) ?? this.create(item);
      this.#rows.delete(key);
      next.set(key, row);
      row.update(item);
      if (row.element === at) at = at.nextSibling;
      else this.parent.insertBefore(row.element, at);
    }
    for (const gone of this.#rows.values()) gone.element.remove();
    this.#rows = next;
  }
}

export function showHealth({level, mark, title, details}) {
  set(by('health'), 'data-level', level);
  say(by('health-mark'), mark);
  say(by('health-title'), title);
  const list = by('health-details');
  if ([...list.children].map((li) => li.textContent).join('\n') !== details.join('\n')) {
    list.replaceChildren(...details.map((text) => make('li', {}, text)));
  }
  document.title = level === 'good' ? 'muster' : `${title} · muster`;
}

export function showTop(status) {
  const where = (status.node?.addresses ?? []).join(', ');
  say(by('node'), [where && `node ${where}`, `version ${status.version}`, `up ${duration(status.uptime_seconds)}`].filter(Boolean).join(' · '));
}

const figures = new List(by('figures'), () => {
  const name = make('dt'), value = make('span'), unit = make('small');
  return {
    element: make('div', {}, name, make('dd', {}, value, ' ', unit)),
    update(figure) { say(name, figure.name); say(value, figure.value); say(unit, figure.unit ?? ''); },
  };
});

export function showFigures({status, vips, nodes, perSecond}) {
  const backends = vips.reduce((sum, vip) => sum + (vip.backend ?? []).length, 0);
  const age = status.observation?.last_event_seconds;
  const rows = [
    {name: 'Connections', value: rate(perSecond), unit: 'a second'},
    {name: 'VIPs', value: count(vips.length), unit: `${count(backends)} backends`},
    {name: 'Tasks', value: count(status.cluster?.tasks), unit: `on ${count(status.cluster?.agents)} agents`},
    {name: 'Names', value: count(status.dns?.names), unit: 'in DNS'},
    {name: 'Last news from Mesos', value: duration(age), unit: Number.isFinite(age) ? 'ago' : 'come by another node'},
  ];
  if (nodes) rows.splice(3, 0, {name: 'Nodes', value: count(nodes.filter((n) => n.status === 'alive').length), unit: `of ${count(nodes.length)} alive`});
  figures.show(rows, (row) => row.name);
}

function backendRow() {
  const cells = ['mono', '', 'num', 'num'].map((name) => make('td', {class: name}));
  return {
    element: make('tr', {}, ...cells),
    update({backend, perSecond}) {
      const state = backendState(backend);
      say(cells[0], String(backend.endpoint ?? `${backend.ip}:${backend.port}`));
      set(cells[1], 'class', state.out ? 'state-drain' : '');
      say(cells[1], state.text);
      say(cells[2], rate(perSecond));
      say(cells[3], count(backend.connections));
    },
  };
}

function vipRow(_, rates) {
  const dot = make('span', {class: 'dot', role: 'img'});
  const name = make('b'), tail = make('span', {class: 'tail'}), address = make('span', {class: 'mono'});
  const blocks = make('span', {class: 'blocks', 'aria-hidden': 'true'}), said = make('span');
  const svg = document.createElementNS(kSvg, 'svg'), line = document.createElementNS(kSvg, 'path');
  for (const [key, value] of [['class', 'spark'], ['viewBox', '0 0 100 24'], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true']]) svg.setAttribute(key, value);
  svg.append(line);
  const number = make('span');
  const body = make('tbody'), note = make('p', {class: 'empty', hidden: ''});
  const table = make('table', {}, make('thead', {}, make('tr', {}, make('th', {}, 'Backend'), make('th', {}, 'State'),
    make('th', {class: 'num'}, 'Connections/s'), make('th', {class: 'num'}, 'since known'))), body);
  const details = make('details', {},
    make('summary', {}, dot, make('span', {class: 'vip'}, name, tail, address),
      make('span', {class: 'backs'}, blocks, said), svg, make('span', {class: 'rate'}, number, make('small', {}, ' /s')),
      make('span', {class: 'turn', 'aria-hidden': 'true'})),
    make('div', {class: 'inside'}, table, note));
  const backends = new List(body, backendRow);
  let current = null;
  const fill = () => {
    const {vip, state} = current;
    backends.show((vip.backend ?? []).map((backend) => ({backend, perSecond: rates.of(`${vipKey(vip)} ${backend.endpoint}`)})),
      (row) => row.backend.endpoint);
    table.hidden = (vip.backend ?? []).length === 0;
    note.hidden = state.state !== 'bad';
    say(note, state.state === 'bad' ? `Connections are refused at once: ${state.text}.` : '');
  };
  details.addEventListener('toggle', () => { if (details.open) fill(); });
  return {
    element: make('li', {}, details),
    update(row) {
      current = row;
      const {vip, state} = row;
      set(dot, 'data-state', state.state);
      set(dot, 'aria-label', {good: 'serving', warn: 'serving in part', bad: 'refusing'}[state.state]);
      const text = String(vip.vip), cut = text.indexOf('.l4lb.');
      const port = text.slice(text.lastIndexOf(':'));
      say(name, cut < 0 ? text : text.slice(0, cut) + port);
      say(tail, ` ${vip.protocol}`);
      say(address, vip.address === vip.vip ? '' : String(vip.address));
      set(details, 'data-name', text);
      drawBlocks(blocks, vip.backend ?? []);
      say(said, state.text);
      set(line, 'd', sparkline(rates.points(vipKey(vip))));
      say(number, rate(row.rate));
      if (details.open) fill();
    },
  };
}

function drawBlocks(parent, backends) {
  const drained = (backend) => Number(backend.weight === 0);  // first, so that none is cut off unseen
  const shown = [...backends].sort((a, b) => drained(b) - drained(a)).slice(0, kMaxBlocks);
  while (parent.children.length > shown.length) parent.lastChild.remove();
  while (parent.children.length < shown.length) parent.append(make('i'));
  shown.forEach((backend, i) => set(parent.children[i], 'data-state', backend.weight > 0 ? 'serve' : 'drain'));
}

export class Vips {
  #limit = kPage;
  constructor(rates) {
    this.rates = rates;
    this.list = new List(by('vips-list'), (item) => vipRow(item, rates));
    this.vips = [];
    for (const input of [by('vips-filter'), ...document.querySelectorAll('input[name=sort]')]) {
      input.addEventListener('input', () => { this.#limit = kPage; this.show(this.vips); });
    }
    by('vips-more').addEventListener('click', () => { this.#limit += kPage; this.show(this.vips); });
  }

  show(vips) {
    this.vips = vips;
    const filter = by('vips-filter').value;
    const sort = document.querySelector('input[name=sort]:checked').value;
    const rows = pickVips(vips, {filter, sort, rates: this.rates});
    this.list.show(rows.slice(0, this.#limit), (row) => vipKey(row.vip));
    say(by('vips-count'), rows.length === vips.length ? count(vips.length) : `${count(rows.length)} of ${count(vips.length)}`);
    const empty = by('vips-empty');
    empty.hidden = rows.length > 0;
    say(empty, vips.length > 0 ? 'No VIP matches.' : 'No app declares a VIP yet. A port label such as VIP_0: /web:80 makes one.');
    more(by('vips-more'), rows.length - this.#limit);
  }
}

function more(button, hidden) {
  button.hidden = hidden <= 0;
  say(button, `Show ${count(Math.min(kPage, hidden))} more of ${count(hidden)}`);
}

function nodeRow() {
  const dot = make('span', {class: 'dot', 'aria-hidden': 'true'}), address = make('span', {class: 'mono'}), said = make('small');
  const element = make('li', {}, dot, make('div', {}, address, said));
  return {
    element,
    update({node, state}) {
      set(dot, 'data-state', state.state);
      say(address, state.address);
      say(said, state.text);
      set(element, 'title', [`id ${node.id}`, node.agent && `agent ${node.agent}`, node.version && `version ${node.version}`,
        (node.endpoints ?? []).join(', ')].filter(Boolean).join('\n'));
    },
  };
}

export class Nodes {
  #limit = kPage;
  constructor() {
    this.list = new List(by('nodes-list'), nodeRow);
    by('nodes-more').addEventListener('click', () => { this.#limit += kPage; this.show(this.nodes); });
  }

  /** null: the daemon has no such list. */
  show(nodes) {
    this.nodes = nodes;
    const rows = pickNodes(nodes ?? []);
    this.list.show(rows.slice(0, this.#limit), (row) => row.node.id);
    const alive = rows.filter((row) => row.node.status === 'alive').length;
    say(by('nodes-count'), nodes ? (alive === rows.length ? count(alive) : `${count(alive)} of ${count(rows.length)} alive`) : '');
    const empty = by('nodes-empty');
    empty.hidden = rows.length > 0;
    say(empty, nodes ? 'No other node is known.' : 'This daemon works alone: it asks Mesos itself and keeps no list of other nodes.');
    more(by('nodes-more'), rows.length - this.#limit);
  }
}

const kChangeStates = {joined: 'good', back: 'good', left: 'bad', draining: 'warn'};
const changes = new List(by('changes-list'), (change) => {
  const when = make('time', {datetime: new Date(change.at * 1000).toISOString()});
  return {
    element: make('li', {}, when, make('span', {class: 'dot', 'data-state': kChangeStates[change.what] ?? 'quiet', 'aria-hidden': 'true'}),
      make('span', {}, String(change.text))),
    update({at, now}) { say(when, `${duration(now - at)} ago`); },
  };
});

/** Newest first; null: the daemon keeps none. */
export function showChanges(list) {
  by('changes-section').hidden = list === null;
  if (list === null) return;
  const now = Date.now() / 1000;
  changes.show(list.map((change) => ({...change, now})), (change) => change.id);
  by('changes-empty').hidden = list.length > 0;
}

/** Long names break after their dots. */
function dotted(text) {
  const parts = String(text).split(/(?<=\.)/);
  return make('td', {class: 'mono'}, ...parts.flatMap((part) => [part, make('wbr')]));
}

export function showLookup(records, note) {
  by('lookup-scroll').hidden = records.length === 0;
  by('lookup-rows').replaceChildren(...records.map((record) => make('tr', {}, dotted(record.name),
    make('td', {}, String(record.type)), dotted(record.data))));
  say(by('lookup-note'), note);
}
