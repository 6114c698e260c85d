import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import axe from 'axe-core';
import type { Page } from 'puppeteer-core';
import type { TomlTable } from 'smol-toml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { formatSize } from '../../src/dashboard/format.ts';
import type { ServerStatus } from '../../src/status.ts';
import { PROGRAM } from '../cli/run.ts';
import { MIB, Setup, TOOLS } from '../faults/setup.ts';
import { createFile, ExportedFile, STORAGE_TOOLS } from '../faults/storage.ts';
import { BROWSER, TestBrowser } from '../support/browser.ts';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll, eventually, waitUntil } from '../support/tools.ts';
import { countPixels, expectScreenshot } from './screenshot.ts';

const URL = 'http://127.0.0.1:8088/';
const ELSEWHERE = 'http://192.0.2.1:8088/';
const READ_COLOUR = 0x1f5fc0;
const WRITE_COLOUR = 0xb2530b;
const SCRATCH = { shelf: 1, slot: 0, backend: 'memory', config_string: 'scratch' };
const EIO = 5;
/** What does not disturb yet: a tenth, say those who measure it. */
const LAYOUT_SHIFT_MAX = 0.1;
/** What changes on the page of a busy server. */
const FIGURES = [
  ...['#figures dd', 'figcaption', 'svg', '#targets td.number', '#initiators tbody th'],
  ...['#initiators td.number', '#drops', 'article .heading', '.space dd', '.roots td:nth-child(3)'],
  ...['.jobs li > span', '.jobs progress'],
];
/** The same, once nothing goes on: what was counted, and when. */
const COUNTED = ['svg', '#initiators tbody th', '#initiators td.number', '#drops'];

let setup: Setup;
let browser: TestBrowser;
let page: Page;
const requested: string[] = [];
const complaints: string[] = [];

function memoryTarget(fields: TomlTable = {}): TomlTable {
  return { ...SCRATCH, memory: { size: 64 * MIB }, ...fields };
}

/** Starts a server, and opens its page. */
async function open(...targets: TomlTable[]): Promise<void> {
  await setup.start(targets, { settings: { dashboard: '127.0.0.1:8088' } });
  await openPage(URL);
  await shows('#connection', 'Connected');
}

async function openPage(url: string): Promise<void> {
  page = await browser.open(url, (opened) => {
    opened.on('request', (request) => requested.push(request.url()));
    opened.on('pageerror', (error) => complaints.push(`${error}`));
    opened.on('console', (message) => complaints.push(message.text()));
  });
}

async function close(): Promise<void> {
  await page.close();
  await setup.server.stop();
}

function status(): Promise<ServerStatus> {
  return askStatus(setup.join('state/control.sock'));
}

async function textOf(selector: string): Promise<string> {
  const text = (await page.$$eval(selector, (found) =>
    found.map((one) => one.innerText),
  )) as string[];
  return text.join('\n');
}

/** Waits until the page says so. */
async function shows(selector: string, text: string | RegExp): Promise<void> {
  await eventually(async () => expect(await textOf(selector)).toMatch(text));
}

/** The texts of a row, by the text that it begins with. */
async function rowOf(table: string, head: string): Promise<string[]> {
  const rows = (await page.$$eval(`${table} tbody tr`, (found) =>
    found.map((row) => [...row.children].map((cell) => cell.innerText)),
  )) as string[][];
  return rows.find(([first]) => first?.startsWith(head)) ?? [];
}

async function press(label: string): Promise<void> {
  const button = await page.waitForSelector(`button[aria-label="${label}"]`);
  await button?.focus();
  await page.keyboard.press('Enter');
}

/** Types into the first field of the dialog, and confirms. */
async function answer(title: string, ...typed: string[]): Promise<void> {
  await shows('#dialog-title', title);
  for (const text of typed) await page.keyboard.type(text);
  await page.keyboard.press('Enter');
}

async function expectAccessible(): Promise<void> {
  await page.evaluate(axe.source);
  const { violations, passes } = (await page.evaluate('axe.run()')) as axe.AxeResults;
  expect(passes.length).toBeGreaterThan(10);
  expect(
    violations.map(({ id, nodes }) => [
      id,
      nodes.map(({ html, failureSummary }) => [html, failureSummary]),
    ]),
  ).toEqual([]);
}

/** How far what one looks at has moved by itself since a time, as browsers count it. */
async function layoutShift(sinceMs: number): Promise<number> {
  return (await page.evaluate(`new Promise((resolve) => {
    const sum = (list) => list.getEntries()
      .filter(({ startTime }) => startTime > ${sinceMs})
      .reduce((total, { value }) => total + value, 0);
    new PerformanceObserver((list) => resolve(sum(list))).observe({ type: 'layout-shift', buffered: true });
    setTimeout(() => resolve(0), 500);
  })`)) as number;
}

/** Keeps what the page shows after each status, with the time of it by the page's own clock. */
const KEEP_SHOWN = `
  window.shown = [];
  window.fetchAny = window.fetch;
  window.fetch = async (path, options) => {
    const response = await fetchAny(path, options);
    if (path !== '/v1/status') return response;
    const answer = await response.json();
    const atMs = performance.now();
    const rate = (id) => parseFloat(document.getElementById(id).innerText.replaceAll(',', ''));
    setTimeout(() => shown.push({ atMs, readMb: rate('reading'), writtenMb: rate('writing') }));
    return Object.assign(response, { json: async () => answer });
  };
`;

/** What the page shows to be read and written meanwhile, added up. */
async function totalShown(work: () => Promise<unknown>) {
  await page.evaluate(KEEP_SHOWN);
  const passes = async (more: number) => {
    const count = ((await page.evaluate('shown.length')) as number) + more;
    await waitUntil(
      'shown',
      async () => (await page.evaluate(`shown.length >= ${count}`)) === true,
    );
  };
  await passes(1);
  await work();
  // The server may have told the next one before the end.
  await passes(2);
  return (await page.evaluate(`shown.slice(1).reduce(
    (total, { atMs, readMb, writtenMb }, index) => {
      const seconds = (atMs - shown[index].atMs) / 1000;
      return {
        readMb: total.readMb + readMb * seconds,
        writtenMb: total.writtenMb + writtenMb * seconds,
      };
    },
    { readMb: 0, writtenMb: 0 },
  )`)) as { readMb: number; writtenMb: number };
}

function bench(target: string): Promise<string> {
  const args = [PROGRAM, 'bench', target, 'c0', '--seconds', '0.3', '--overwrite'];
  return setup.initiatorNetwork.run(process.execPath, args);
}

function store(path: string): string {
  return `/v1/stores/${encodeURIComponent(setup.join('blobs'))}${path}`;
}

describeWith([...TOOLS, ...STORAGE_TOOLS, BROWSER], 'the page of the dashboard', () => {
  beforeAll(async () => {
    setup = await Setup.create();
    browser = await TestBrowser.start(setup.serverNetwork);
  });
  afterAll(() => disposeAll(browser, setup));

  it('shows a server that nobody uses yet', async () => {
    await open(memoryTarget(), memoryTarget({ slot: 1, read_only: true, config_string: '' }));
    await shows('#reading', /^0 MB\/s$/);
    expect(await rowOf('#targets', 'e1.0')).toEqual([
      ...['e1.0\nscratch', '64 MiB\nmemory', 'ok\ndurable'],
      ...['0', '0', '0', '0', '–', '–', '0', 'any initiator\nnot reserved'],
    ]);
    expect((await rowOf('#targets', 'e1.1'))[2]).toBe('ok\nread-only');
    expect(await textOf('#no-initiators')).toMatch(/^No initiator/);
    expect(await textOf('#no-stores')).toMatch(/^No content-addressed store/);
    expect(await textOf('#facts')).toContain(`version ${(await status()).version}`);
    expect(await countPixels(page, '#latency svg', READ_COLOUR)).toBe(0);
    await expectScreenshot(page, 'empty', ['#throughput path']);
    await expectAccessible();
  });

  it('asks for nothing while nobody sees it', async () => {
    const other = await browser.open('about:blank');
    await other.bringToFront();
    await waitUntil('hidden', async () => (await page.evaluate('document.hidden')) === true);
    await sleep(500);
    const before = requested.length;
    await sleep(1500);
    expect(requested.length).toBe(before);
    await page.bringToFront();
    await eventually(() => expect(requested.length).toBeGreaterThan(before + 1));
    await other.close();
    await close();
  });

  it('shows what a busy server does, in true figures', async () => {
    const blobs = { type: 'file', path: 'blobs' };
    await open(memoryTarget(), {
      ...SCRATCH,
      slot: 1,
      backend: 'cas',
      cas: { size: 64 * MIB, blob_store: blobs },
    });
    await eventually(async () => expect(await rowOf('#targets', 'e1.1')).not.toEqual([]));
    const filledMs = (await page.evaluate('performance.now()')) as number;
    const shown = await totalShown(() => bench('e1.1'));
    await shows('#requests', /^0 /);
    const { targets, links } = await status();
    const total = (name: 'readBytes' | 'writtenBytes') =>
      targets.reduce((sum, { counters }) => sum + counters[name], 0) / 1e6;
    expect(shown.readMb / total('readBytes')).toBeCloseTo(1, 1);
    expect(shown.writtenMb / total('writtenBytes')).toBeCloseTo(1, 1);
    const [client] = targets[0]?.clients ?? [];
    const requests = targets.reduce((sum, { clients }) => sum + (clients[0]?.requests ?? 0), 0);
    expect((await rowOf('#initiators', client?.mac ?? '')).slice(1, 3)).toEqual([
      'e1.0, e1.1',
      requests.toLocaleString('en'),
    ]);
    const counted = [9000, links[0]?.counters?.received, links[0]?.counters?.sent, 0];
    expect((await rowOf('#interfaces', 's0')).slice(1)).toEqual(
      counted.map((figure) => figure?.toLocaleString('en')),
    );
    for (const chart of ['#throughput svg', '#latency svg']) {
      expect(await countPixels(page, chart, READ_COLOUR)).toBeGreaterThan(0);
      expect(await countPixels(page, chart, WRITE_COLOUR)).toBeGreaterThan(0);
    }
    expect(await layoutShift(filledMs)).toBeLessThan(LAYOUT_SHIFT_MAX);
    await page.select('#chart-target', 'e1.1');
    const label = () => page.$eval('#throughput svg', (svg) => svg.getAttribute('aria-label'));
    await eventually(async () => {
      expect(await label()).toBe('Throughput, MB/s of e1.1: read 0, write 0 now');
    });
    await page.select('#chart-target', '');
  });

  it('takes the token before it changes anything, and no other', async () => {
    await press('Snapshot… e1.1');
    await answer('Token', 'x'.repeat(43));
    await shows('#dialog-problem', /this is not the token/);
    expect((await status()).stores[0]?.snapshots).toBe(0);
    const token = await readFile(setup.join('state/dashboard-token'), 'utf8');
    await page.$eval('#dialog input', (input) => input.select());
    await answer('Token', token.trim());
    await answer('Take a snapshot of e1.1', 'monday');
    await shows('#message', 'A snapshot of e1.1 has been taken.');
    await shows('.roots', /monday\s+snapshot of e1\.1/);
    expect((await status()).stores[0]?.snapshots).toBe(1);
    expect(await page.evaluate('document.activeElement.ariaLabel')).toBe('Snapshot… e1.1');
  });

  it('shows a store, and how far work on it is', async () => {
    const control = setup.join('state/control.sock');
    await press(`Measure ${setup.join('blobs')}`);
    await shows('.jobs', /Measurement\s+done/);
    await askControl(control, 'POST', store('/jobs'), {
      kind: 'scrub',
      bytesPerSecondMax: 1 << 16,
    });
    await shows('.jobs', /Scrub\s+scrubbing, .* MiB/);
    const progress = () =>
      page.$eval('.jobs .running progress', (bar) => bar.value) as Promise<number>;
    await eventually(async () => expect(await progress()).toBeGreaterThan(0));
    expect(await progress()).toBeLessThan(1);
    const { measured, physicalBytes } = (await status())
      .stores[0] as ServerStatus['stores'][number];
    const figures = await textOf('.space');
    expect(figures).toContain(`Physical\n${physicalBytes / MIB} MiB`);
    const uniqueBytes = measured?.figures.uniqueBytes ?? 0;
    expect(uniqueBytes).toBeGreaterThan(MIB);
    expect(figures).toContain(`Unique\n${formatSize(uniqueBytes)}`);

    await page.evaluate(`document.getElementById('message').textContent = ''`);
    await expectScreenshot(page, 'busy', FIGURES);
    await expectAccessible();
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
    await expectScreenshot(page, 'busy-dark', FIGURES);
    await expectAccessible();
    await page.emulateMediaFeatures([]);

    await press(`Cancel Scrub of ${setup.join('blobs')}`);
    await shows('.jobs', /Scrub\s+cancelled/);
    await press(`Collect garbage ${setup.join('blobs')}`);
    await shows('.jobs', /Collection\s+done/);
  });

  it('makes clones, goes back to snapshots, and deletes, when that is confirmed', async () => {
    await press('Clone… monday');
    await answer('Clone monday', 'e1.2');
    await shows('.roots', /e1\.2\s+volume\s/);

    await press('Roll back… monday');
    await shows('#dialog-title', 'Roll e1.1 back to monday');
    await page.click('#dialog-act');
    await shows('#dialog-problem', /initiators have e1\.1 in use/);
    await expectAccessible();
    await page.click('#dialog input[type=checkbox]');
    await page.click('#dialog-act');
    await shows('#message', 'e1.1 is as monday was.');

    await press('Delete… e1.2');
    await shows('#dialog-title', 'Delete e1.2');
    await page.keyboard.press('Escape');
    await press('Delete… monday');
    await shows('#dialog-title', 'Delete monday');
    await page.click('#dialog-act');
    await shows('#message', 'monday has been deleted.');
    await eventually(async () => expect(await rowOf('.roots', 'monday')).toEqual([]));
    expect((await status()).stores[0]).toMatchObject({ volumes: 2, snapshots: 0 });

    await page.click('#token');
    await press('Delete… e1.2');
    await shows('#dialog-title', 'Token');
    await page.keyboard.press('Escape');
    await close();
  });

  it('shows a target that has failed, and why', async () => {
    await createFile(setup.join('below'), 4 * MIB);
    const image = { driver: 'file', filename: setup.join('below') };
    const errors = [{ event: 'none', iotype: 'flush', errno: EIO }];
    const node = { driver: 'blkdebug', 'node-name': 'top', image, 'inject-error': errors };
    const disk = setup.own(await ExportedFile.create(setup.join('failing'), [node]));
    const file = { ...SCRATCH, slot: 3, backend: 'file', file: { path: disk.path } };
    await open(memoryTarget(), file);
    await setup.verify('1.3', '-j', setup.join('journal'), '-t', 1, '-e', '-w', 100);
    await shows('#notices', /^e1\.3 has failed: a flush failed, so no write succeeds/);
    expect((await rowOf('#targets', 'e1.3'))[2]).toBe('failed\na flush failed');
    expect((await rowOf('#targets', 'e1.0'))[2]).toBe('ok\ndurable');
    await shows('#latency figcaption', /p50 –/);
    await expectScreenshot(page, 'failed', COUNTED);
    await expectAccessible();

    const operate = (operation: string) =>
      askControl(setup.join('state/control.sock'), 'POST', `/v1/targets/e1.0/${operation}`);
    await operate('drain');
    await shows('#notices', 'e1.0 is drained: it is silent for initiators until it is resumed.');
    expect((await rowOf('#targets', 'e1.0'))[2]).toBe('drained\ndurable');
    await expectAccessible();
    await operate('resume');
    await eventually(async () => expect(await textOf('#notices')).not.toMatch('drained'));
  });

  it('says when the server does not answer, and when it does again', async () => {
    await setup.server.kill();
    await shows('#connection', 'No answer');
    await shows('#notices', /^The server does not answer since \d\d:\d\d:\d\d\. What is shown/);
    expect(await rowOf('#targets', 'e1.0')).toHaveLength(11);
    await expectScreenshot(page, 'silent', ['#notices span', ...COUNTED]);
    await expectAccessible();
    await setup.start([memoryTarget()], { settings: { dashboard: '127.0.0.1:8088' } });
    await shows('#connection', 'Connected');
    await shows('#notices', /^$/);
    expect(await rowOf('#targets', 'e1.3')).toEqual([]);
    await close();
  });

  it('shows nothing without the token where other machines reach it', async () => {
    await setup.serverNetwork.run('ip', ['addr', 'add', '192.0.2.1/24', 'dev', 's0']);
    await setup.start([memoryTarget()], { settings: { dashboard: '192.0.2.1:8088' } });
    await openPage(ELSEWHERE);
    await shows('#dialog-title', 'Token');
    await shows('#connection', 'Locked');
    await expectAccessible();
    await page.keyboard.press('Escape');
    expect(await rowOf('#targets', 'e1.0')).toEqual([]);
    await page.click('#token');
    await answer('Token', (await readFile(setup.join('state/dashboard-token'), 'utf8')).trim());
    await shows('#connection', 'Connected');
    expect(await rowOf('#targets', 'e1.0')).toHaveLength(11);
    await close();
  });

  it('has taken nothing from anywhere else, and done nothing that is forbidden', () => {
    const isOurs = (url: string) => url.startsWith(URL) || url.startsWith(ELSEWHERE);
    expect(requested.filter((url) => !isOurs(url))).toEqual([]);
    expect(new Set(requested)).toContain(`${URL}v1/status`);
    const refusals = /^Failed to load resource: (the server responded|net::ERR_CONNECTION_REFUSED)/;
    expect(complaints.filter((complaint) => !refusals.test(complaint))).toEqual([]);
  });
});
