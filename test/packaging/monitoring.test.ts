import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { renderMetrics } from '../../src/admin/metrics.ts';
import { PROGRAM } from '../cli/run.ts';
import { MIB, Served, TOOLS } from '../protocol/served.ts';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll, run, TempDirectory, tryRun } from '../support/tools.ts';

vi.setConfig({ hookTimeout: 120_000 });

const HERE = import.meta.dirname;
const CACHE = join(HERE, '../../.cache/prometheus');
const ALERTS_PATH = join(HERE, '../../packaging/alerts.yml');
const ALERTS = readFileSync(ALERTS_PATH, 'utf8');
const DOCUMENTED = readFileSync(join(HERE, '../../docs/CONTROL.md'), 'utf8');
const DASHBOARD = JSON.parse(
  readFileSync(join(HERE, '../../packaging/grafana.json'), 'utf8'),
) as Dashboard;

/** What every series gets from the Prometheus that scrapes it, and buckets have. */
const COMMON_LABELS = ['instance', 'job', 'le'];

const STORE = { type: 'file', path: 'store' };

interface Dashboard {
  panels: { title: string; targets: { expr: string; legendFormat: string }[] }[];
  templating: { list: { type: string; query: string }[] };
}

const queries = DASHBOARD.panels.flatMap(({ title, targets }) =>
  targets.map((target) => ({ title, ...target })),
);
const variables = DASHBOARD.templating.list.filter(({ type }) => type === 'query');

/** The values of each label, by metric and label. */
type Series = Map<string, Map<string, Set<string>>>;

let series: Series;
let served: Served;
let directory: TempDirectory;
let promtool: string;

function parseMetrics(text: string): Series {
  const found: Series = new Map();
  for (const [, name = '', labels = ''] of text.matchAll(/^(aoe_\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = found.get(name) ?? new Map<string, Set<string>>();
    found.set(name, known);
    for (const [, label = '', value = ''] of labels.matchAll(/(\w+)="([^"]*)"/g)) {
      known.set(label, (known.get(label) ?? new Set()).add(value));
    }
  }
  return found;
}

/** What of `text`, which uses metrics, the server does not export. */
function unknownIn(text: string): string[] {
  const names = [...text.matchAll(/\baoe_\w+/g)].map(([name]) => name);
  const unknown = names.filter((name) => !series.has(name));
  const labelsOf = (name: string) => [...(series.get(name)?.keys() ?? []), ...COMMON_LABELS];
  const usable = new Set(names.flatMap(labelsOf));
  for (const [, name = '', matchers = ''] of text.matchAll(/(\w+)\{([^{}]*)\}/g)) {
    for (const [, label = '', regex, value = ''] of matchers.matchAll(/(\w+)=(~?)"([^"]*)"/g)) {
      if (!name.startsWith('aoe_')) continue;
      if (!labelsOf(name).includes(label)) unknown.push(`${name}{${label}}`);
      const values = series.get(name)?.get(label);
      if (values === undefined || value.startsWith('$')) continue;
      for (const one of regex === '' ? [value] : value.split('|')) {
        if (!values.has(one)) unknown.push(`${name}{${label}="${one}"}`);
      }
    }
  }
  const grouped = [...text.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) =>
    list.split(', '),
  );
  const shown = [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(([, label]) => label);
  const used = [...grouped, ...shown].filter((label) => label !== undefined);
  return [...unknown, ...used.filter((label) => !usable.has(label) && label !== 'instance')];
}

/** What there would be if the store were kept in a blob store as well. */
async function remoteSeries(socket: string): Promise<Series> {
  const status = await askStatus(socket);
  const blobStore = { lagBytes: 1, lagSeconds: 1, unreachable: null, localDamage: null };
  const stores = status.stores.map((store) => ({ ...store, blobStore }));
  return parseMetrics(await text(renderMetrics({ ...status, stores })));
}

function plain(query: string): string {
  return query.replaceAll('$__rate_interval', '5m').replace(/\$\w+/g, '.*');
}

describeWith([...TOOLS, 'apt-get', 'dpkg-deb'], 'monitoring', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    served = await Served.start([
      { shelf: 1, slot: 0, backend: 'memory', memory: { size: MIB } },
      { shelf: 1, slot: 1, backend: 'cas', cas: { size: MIB, blob_store: STORE } },
    ]);
    await run(process.execPath, [PROGRAM, 'cas', 'stats', served.join(STORE.path)]);
    const socket = served.join('state/control.sock');
    const told = parseMetrics((await askControl(socket, 'GET', '/metrics')).text);
    series = new Map([...(await remoteSeries(socket)), ...told]);
    promtool = (await run(join(HERE, 'promtool'), [CACHE], { timeoutMs: 100_000 })).trim();
  });
  afterAll(() => disposeAll(served, directory));

  it('has no series that is of nothing', () => {
    for (const [name, labels] of series) {
      if (/^aoe_(store|target|link)_/.test(name)) expect(labels.size, name).toBeGreaterThan(0);
    }
  });

  it('is tested with what would be noticed', () => {
    expect(unknownIn('rate(aoe_nothing_total[5m])')).toEqual(['aoe_nothing_total']);
    expect(unknownIn('aoe_link_up{target="x"}')).toEqual(['aoe_link_up{target}']);
    expect(unknownIn('aoe_link_lost_frames_total{reason="bad_luck"}')).toHaveLength(1);
    expect(unknownIn('sum by (operation) (aoe_link_up)')).toEqual(['operation']);
    expect(unknownIn('aoe_link_up {{ $labels.target }}')).toEqual(['target']);
  });

  describe('the alerts', () => {
    const rules = ALERTS.split(/^ {6}- /m).slice(1);

    it.each(rules.map((rule) => [/alert: (\w+)/.exec(rule)?.[1] ?? '', rule]))(
      '%s uses what the server exports',
      (name, rule) => {
        expect(name).not.toBe('');
        expect(unknownIn(rule)).toEqual([]);
      },
    );

    it('are rules that Prometheus accepts', async () => {
      const { status, output } = await tryRun(promtool, ['check', 'rules', ALERTS_PATH]);
      expect({ status, output }).toMatchObject({ status: 0 });
      expect(output).toContain(`${rules.length} rules found`);
    });

    it('fire when there is a reason, and not before', async () => {
      const { status, output } = await tryRun(promtool, [
        'test',
        'rules',
        join(HERE, 'alerts-tests.yml'),
      ]);
      expect({ status, output }).toMatchObject({ status: 0 });
    });
  });

  describe('the dashboard', () => {
    it.each(queries)('$title uses what the server exports', ({ expr, legendFormat }) => {
      expect(unknownIn(`${expr} ${legendFormat}`)).toEqual([]);
    });

    it.each(variables)('takes a variable from what the server exports: $query', ({ query }) => {
      const [, selector = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(query) ?? [];
      expect(unknownIn(`sum by (${label}) (${selector})`)).toEqual([]);
    });

    it('has queries that Prometheus accepts', async () => {
      const rules = queries.map(({ expr }, index) => ({
        record: `query_${index}`,
        expr: plain(expr),
      }));
      // JSON is YAML.
      const path = directory.join('queries.yml');
      await writeFile(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
      const { status, output } = await tryRun(promtool, ['check', 'rules', path]);
      expect({ status, output }).toMatchObject({ status: 0 });
    });
  });

  it('is documented, metric by metric', () => {
    const families = new Set(
      [...series.keys()].map((name) => name.replace(/_(bucket|sum|count)$/, '')),
    );
    for (const name of families) expect(DOCUMENTED).toContain(`\`${name}\``);
  });
});
