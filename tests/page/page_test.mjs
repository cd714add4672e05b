// The status page in a real browser: over a stand-in whose answers each test sets, and, with
// MUSTER_PAGE_URL, over a daemon. Run by tests/page/run.

import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import {after, before, test} from 'node:test';

import {Rates} from '../../metrics/page/model.js';
import {cluster, node, status, vip} from './samples.mjs';
import {kPolicy, standIn} from './stand_in.mjs';

const kArguments = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];
const {chromium} = createRequire(`${process.env.MUSTER_PAGE_MODULES}/`)('playwright-core');
let browser;
before(async () => { browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: kArguments}); });
after(() => browser?.close());

/** A page over `answers`; `check` gets it. Anything the page asks elsewhere, or logs, fails the test. */
async function onPage(answers, options, check) {
  const server = await standIn(answers);
  try {
    await visit(server.url, options, (page) => check(page, answers, server));
  } finally {
    server.close();
  }
}

async function visit(url, options, check) {
  const page = await browser.newPage({viewport: {width: 1100, height: 900}, ...options});
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error}`));
  page.on('console', (message) => { if (message.type() === 'error' && !/404|ERR_FAILED/.test(message.text())) wrong.push(message.text()); });
  page.on('request', (request) => { if (!request.url().startsWith(url)) wrong.push(`asked ${request.url()}`); });
  page.on('dialog', (dialog) => { wrong.push('a dialog'); dialog.dismiss(); });
  try {
    await page.goto(url);
    await check(page);
    assert.deepEqual(wrong, []);
  } finally {
    await page.close();
  }
}

const title = (page, text) => page.locator('#health-title', {hasText: text}).waitFor();
const details = (page) => page.locator('#health-details li').allTextContents();
const names = (page) => page.locator('#vips-list details').evaluateAll((all) => all.map((d) => d.dataset.name.split('.')[0]));

const plain = (vips = [vip('web.marathon')], more = {}) => ({'/v1/status': status(), '/v1/vips': vips, ...more});

test('a cluster without trouble is said to be served in one line', () => onPage(plain(), {}, async (page) => {
  await title(page, 'All is served');
  assert.equal(await page.getAttribute('#health', 'data-level'), 'good');
  assert.match((await details(page))[0], /10\.66\.0\.250:5050/);
  assert.equal(await page.textContent('.vip b'), 'web.marathon:80');
  assert.equal(await page.textContent('.backs span:last-child'), '3');
}));

test('without a list of nodes the page is whole and says so', () => onPage(plain(), {}, async (page) => {
  await page.getByText('This daemon works alone').waitFor();
  assert.equal(await page.locator('#nodes-list li').count(), 0);
  assert.equal(await page.locator('#figures dt', {hasText: 'Nodes'}).count(), 0);
  assert.equal(await page.isVisible('#changes-section'), false);
}));

test('a daemon without gossip has an empty list of nodes, and is alone all the same', () => {
  const answers = plain([], {'/v1/nodes': {nodes: []}, '/v1/status': {...status(), gossip: {enabled: false}}});
  return onPage(answers, {}, (page) => page.getByText('This daemon works alone').waitFor());
});

test('a node that does not ask Mesos says who does', () => {
  const answers = plain([], {'/v1/nodes': {nodes: [node(1, {self: true}), node(2, {publisher: true, observer: true})]}});
  answers['/v1/status'].observation = {source: 'node x', state: '', master: '', last_event_seconds: null, last_error: ''};
  return onPage(answers, {}, async (page) => {
    await title(page, 'All is served');
    assert.match((await details(page))[0], /State from node 10\.66\.0\.2/);
    await page.getByText('come by another node').waitFor();
  });
});

test('what is not ready is said with its reasons', () => {
  const answers = plain([], {'/v1/status': {...status(), ready: false, not_ready: ['no complete state from a master yet: connection refused']}});
  return onPage(answers, {}, async (page) => {
    await title(page, 'Not ready');
    assert.deepEqual(await details(page), ['no complete state from a master yet: connection refused']);
    await page.getByText('No app declares a VIP yet').waitFor();
  });
});

test('each kind of trouble has its line', () => {
  const bad = status();
  bad.observation.last_event_seconds = 600;
  bad.cluster.held_tasks = 40;
  const nodes = {nodes: [node(1, {self: true}), node(2, {status: 'host_down'}), node(3, {status: 'daemon_down'}), node(4, {status: 'left'})]};
  return onPage(plain([vip('web.marathon'), vip('mail.marathon', [])], {'/v1/status': bad, '/v1/nodes': nodes}), {}, async (page) => {
    await title(page, 'Serving, with trouble');
    const lines = (await details(page)).join('\n');
    for (const part of ['No news from Mesos for 10 min', '40 tasks held', '1 VIP refuses connections: mail.marathon', '1 host is down: 10.66.0.2', '1 daemon is down: 10.66.0.3']) {
      assert.ok(lines.includes(part), `${part} in ${lines}`);
    }
    assert.deepEqual(await names(page), ['mail', 'web']);
    assert.deepEqual(await page.locator('#nodes-list small').allTextContents(), ['host down', 'daemon down', 'this node', 'left']);
  });
});

test('a daemon that stops answering is noticed, and so is its return', () => {
  const answers = plain();
  return onPage(answers, {}, async (page) => {
    await title(page, 'All is served');
    await page.route('**/v1/*', (route) => route.abort());
    await title(page, 'The daemon does not answer');
    assert.match((await details(page))[0], /Last answer \d+ s ago/);
    await page.unroute('**/v1/*');
    await title(page, 'All is served');
  });
});

test('names that are markup are shown as the text they are', () => {
  const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>';
  const answers = plain([{...vip('x'), vip: evil, address: '"><svg onload=alert(3)>'}], {
    '/v1/status': {...status(), observation: {...status().observation, master: evil}, node: {addresses: [evil]}},
    '/v1/nodes': {nodes: [node(1, {id: evil, endpoints: [evil], status: evil, version: evil})]},
    '/v1/changes': {changes: [{id: 1, at: Date.now() / 1000, what: evil, text: evil}]},
    '/v1/records': {records: [{name: evil, type: evil, data: evil}], more: false},
  });
  return onPage(answers, {}, async (page) => {
    await page.fill('#lookup-name', 'x');
    await page.locator('#lookup-rows tr').waitFor();
    for (const place of ['.vip b', '#changes-list li', '#lookup-rows td', '#nodes-list .mono', '#health-details']) {
      assert.ok((await page.textContent(place)).includes('<img src=x onerror=alert(1)>'), place);
    }
    assert.equal(await page.locator('main img, main script, main .vip svg').count(), 0);
  });
});

test('a backend that drains is shown inside its VIP, by keyboard', () => onPage(plain([vip('web.marathon', [1, 0, 1])]), {}, async (page) => {
  await page.locator('summary').focus();
  await page.keyboard.press('Enter');
  const rows = page.locator('.inside tbody tr');
  await rows.first().waitFor();
  assert.deepEqual(await rows.locator('td:nth-child(2)').allTextContents(), ['serving', 'draining', 'serving']);
  assert.equal(await page.textContent('.backs span:last-child'), '2 of 3');
}));

test('why a backend gets no new connections is said, and that one starts slowly', () => {
  const odd = vip('web.marathon', [0, 0, 0, 1, 1, 3]);
  Object.assign(odd.backend[0], {ejected: true, pending: true});
  odd.backend[1].pending = true;
  odd.backend[3].pending = true;
  odd.backend[4].starting = true;
  const refused = vip('api.marathon', [0, 0], {id: 2});
  refused.backend[0].pending = true;
  return onPage(plain([odd, refused]), {}, async (page) => {
    await page.locator('details[data-name^="web"] summary').click();
    const rows = page.locator('.inside tbody tr');
    await rows.first().waitFor();
    assert.deepEqual(await rows.locator('td:nth-child(2)').allTextContents(),
      ['does not answer', 'not in the kernel yet', 'draining', 'about to change', 'starting slowly', 'weight 3']);
    assert.equal(await page.textContent('details[data-name^="api"] .backs span:last-child'), 'not in the kernel yet');
  });
});

test('an open VIP stays open, and keeps the focus, while its backends change', () => {
  const answers = plain();
  return onPage(answers, {}, async (page) => {
    await page.locator('summary').click();
    answers['/v1/vips'] = [vip('api.marathon', [1], {id: 2}), vip('web.marathon', [1, 1, 1, 1])];
    await page.locator('.inside tbody tr').nth(3).waitFor();
    assert.deepEqual(await names(page), ['api', 'web']);
    assert.equal(await page.evaluate(() => document.activeElement.closest('details').dataset.name.split('.')[0]), 'web');
  });
});

test('rates are those of the kernel, though the daemon reads its counters only now and then', () => {
  const rates = new Rates();
  let shown = 1_000_000;
  for (let time = 0; time < 60; time += 2) {  // 30 a second, read every 10 s and asked for every 2
    if (time % 10 === 4) shown = 1_000_000 + 30 * time;
    rates.take(time, [['web', shown]]);
    if (time >= 30) assert.equal(rates.of('web'), 30, `at ${time} s`);
  }
  rates.take(60, [['web', 12]]);  // the daemon began anew
  assert.equal(rates.of('web'), 0);
  for (let time = 62; time < 120; time += 2) rates.take(time, [['web', 12]]);
  assert.equal(rates.of('web'), 0);
  rates.take(120, []);
  assert.deepEqual(rates.points('web'), []);
});

test('the filter finds by name, address and backend, and "/" leads to it', () => {
  const vips = [vip('web.marathon', [1, 1]), vip('api.marathon', [1], {id: 7}), vip('dns.data', [1], {protocol: 'udp', port: 53, id: 9})];
  return onPage(plain(vips), {}, async (page) => {
    await page.locator('summary').nth(2).waitFor();
    await page.keyboard.press('/');
    for (const [typed, expected] of [['DNS', ['dns']], ['udp data', ['dns']], ['31007', ['api']], ['11.1.', ['web']], ['nothing', []], ['', ['api', 'dns', 'web']]]) {
      await page.keyboard.press('ControlOrMeta+a');
      await page.keyboard.press('Delete');
      await page.keyboard.type(typed);
      assert.deepEqual(await names(page), expected, typed);
    }
  });
});

test('ten thousand VIPs are shown in pieces, and the page stays quick', () => {
  const vips = Array.from({length: 10_000}, (_, i) => vip(`app${String(i).padStart(5, '0')}.marathon`, [1, 1, 1, 1], {port: 1 + i, id: i}));
  return onPage(plain(vips), {}, async (page) => {
    await page.locator('summary').nth(99).waitFor();
    assert.equal(await page.locator('summary').count(), 100);
    await page.click('#vips-more');
    assert.equal(await page.locator('summary').count(), 200);
    await page.fill('#vips-filter', 'app09999');
    assert.deepEqual(await names(page), ['app09999']);
  });
});

test('a lookup says what there is, exact names first, and what there is not', () => {
  const records = [{name: 'a-web.mesos.', type: 'A', data: '10.0.0.9'}, {name: 'web.mesos.', type: 'A', data: '10.0.0.1'}];
  const answers = plain([], {'/v1/records': (query) => ({records: records.filter((r) => r.name.includes(query.get('contains'))), more: false})});
  return onPage(answers, {}, async (page) => {
    await page.fill('#lookup-name', 'web.mesos');
    await page.keyboard.press('Enter');
    await page.getByText('2 records.').waitFor();
    assert.equal(await page.locator('#lookup-rows td').first().textContent(), 'web.mesos.');
    await page.fill('#lookup-name', 'example.com');
    await page.getByText('No such name in the zones of the cluster').waitFor();
    assert.equal(await page.isVisible('#lookup-scroll'), false);
  });
});

for (const colorScheme of ['light', 'dark']) {
  test(`text can be read against its ground: ${colorScheme}`, () => onPage(cluster(), {colorScheme}, async (page) => {
    await page.locator('#nodes-list li').nth(5).waitFor();
    const poor = await page.evaluate(() => {
      const parse = (color) => color.match(/[\d.]+/g).map(Number);
      const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
      const out = [];
      for (const e of document.querySelectorAll('h1, h2, li, dt, dd, small, b, p, summary span, a')) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.getClientRects().length === 0) continue;
        const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) out.push(`${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
      }
      return out;
    });
    assert.deepEqual(poor, []);
  }));
}

test('a narrow screen scrolls one way only', () => onPage(cluster(), {viewport: {width: 360, height: 740}}, async (page) => {
  await page.locator('#nodes-list li').nth(5).waitFor();
  await page.locator('summary').nth(1).click();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 360);
}));

test('over a daemon: the page comes with its policy, and shows what the daemon says', {skip: !process.env.MUSTER_PAGE_URL && 'MUSTER_PAGE_URL names no daemon'}, async () => {
  const url = process.env.MUSTER_PAGE_URL;
  const reply = await fetch(url);
  assert.equal(reply.headers.get('content-security-policy'), kPolicy);
  assert.equal(reply.headers.get('x-content-type-options'), 'nosniff');
  const vips = await (await fetch(`${url}v1/vips`)).json();
  await visit(url, {}, async (page) => {
    await title(page, 'All is served');
    assert.equal(await page.locator('#vips-list details').count(), vips.length);
    assert.ok(await page.locator('#changes-list li').count() > 0);
    await page.fill('#lookup-name', 'marathon.mesos');
    await page.locator('#lookup-rows tr').first().waitFor();
  });
});
