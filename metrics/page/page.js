// Asks the daemon every two seconds while the page is in sight, and shows what it says.

import {health, Rates, total, totals, vipKey} from './model.js';
import {by, Nodes, showChanges, showFigures, showHealth, showLookup, showTop, Vips} from './view.js';

const kPoll = 2000;       // ms; a large cluster's answers are fetched less often: see next()
const kLimit = 15_000;    // ms for one answer
const kTypingPause = 250; // ms
const kMaxRecords = 100;

const rates = new Rates();
const vipsView = new Vips(rates);
const nodesView = new Nodes();
let lastAnswer = null;  // ms
let latest = null;

const absent = new Set();  // what this daemon does not have; asked again when the page is looked at anew

/** The JSON at `path`; null if there is nothing at it. */
async function get(path) {
  if (absent.has(path)) return null;
  const reply = await fetch(path, {signal: AbortSignal.timeout(kLimit), cache: 'no-store'});
  if (reply.status === 404) {
    absent.add(path);
    return null;
  }
  if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
  return reply.json();
}

async function ask() {
  const [status, vips, nodes, changes] = await Promise.all(['/v1/status', '/v1/vips', '/v1/nodes', '/v1/changes'].map(get));
  lastAnswer = Date.now();
  const alone = !Array.isArray(nodes?.nodes) || (nodes.nodes.length === 0 && status.gossip?.enabled === false);
  latest = {status, vips: vips ?? [], nodes: alone ? null : nodes.nodes, changes: changes?.changes ?? null};
  rates.take(lastAnswer / 1000, totals(latest.vips));
}

function show(answering) {
  document.body.classList.toggle('stale', !answering);
  const seen = lastAnswer === null ? null : (Date.now() - lastAnswer) / 1000;
  showHealth(health({...latest, answering, seen}));
  by('fresh').textContent = answering ? 'live' : 'no answer';
  if (!answering) return;
  showTop(latest.status);
  const perSecond = latest.vips.reduce((sum, vip) => sum + rates.of(vipKey(vip)), 0);
  showFigures({...latest, perSecond});
  vipsView.show(latest.vips);
  nodesView.show(latest.nodes);
  showChanges(latest.changes);
}

let timer = null;
async function poll() {
  clearTimeout(timer);
  const began = Date.now();
  let answering = true;
  try {
    await ask();
  } catch {
    answering = false;
    absent.clear();
  }
  show(answering);
  // Never more than a tenth of the time is spent on fetching.
  timer = document.hidden ? null : setTimeout(poll, Math.max(kPoll, 9 * (Date.now() - began)));
}
document.addEventListener('visibilitychange', () => {
  if (document.hidden || timer !== null) return;
  absent.clear();
  poll();
});

let asked = 0;
async function lookup() {
  const name = by('lookup-name').value.trim();
  const mine = ++asked;
  if (name === '') return showLookup([], 'A whole name, or part of one.');
  let answer;
  try {
    answer = await get(`/v1/records?contains=${encodeURIComponent(name)}&limit=${kMaxRecords}`);
  } catch {
    answer = null;
  }
  if (mine !== asked) return;  // somebody typed on
  if (answer === null) return showLookup([], 'The daemon did not answer this.');
  const exact = name.toLowerCase().replace(/\.$/, '');
  const isExact = (record) => record.name.replace(/\.$/, '') === exact;
  const found = [...answer.records].sort((a, b) => Number(isExact(b)) - Number(isExact(a)));
  const more = answer.more ? ` The first ${kMaxRecords} of more: type on.` : '';
  showLookup(found, found.length > 0 ? `${found.length} ${found.length === 1 ? 'record' : 'records'}.${more}`
    : 'No such name in the zones of the cluster. Names outside of them are forwarded to the upstream servers.');
}
let typing = null;
by('lookup-name').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(lookup, kTypingPause);
});
by('lookup-form').addEventListener('submit', (event) => {
  event.preventDefault();
  clearTimeout(typing);
  lookup();
});

document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input')) return;
  event.preventDefault();
  by('vips-filter').focus();
});

poll();
