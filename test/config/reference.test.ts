import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import { CONFIG_KEYS } from '../../src/config/reference.ts';

const EXAMPLE_PATH = fileURLToPath(new URL('../../config.example.toml', import.meta.url));
const EXAMPLE = readFileSync(EXAMPLE_PATH, 'utf8');
const KEYS = [...CONFIG_KEYS.values()];

describe('CONFIG_KEYS', () => {
  it('holds tables, lists and their elements by pattern', () => {
    expect(CONFIG_KEYS.get('target[].cas.blob_store')).toMatchObject({
      parent: 'target[].cas',
      kind: 'table',
      example: '[target.cas.blob_store]',
      required: true,
    });
    expect(CONFIG_KEYS.get('target')).toMatchObject({ kind: 'tables', example: '[[target]]' });
    expect(CONFIG_KEYS.get('server.allow[]')).toMatchObject({ kind: 'element' });
  });

  it('knows what happens without a key', () => {
    expect(CONFIG_KEYS.get('server.log_level')).toMatchObject({
      required: false,
      default: '"info"',
    });
    expect(CONFIG_KEYS.get('server.max_sectors')?.default).toBe('chosen from the MTU');
    expect(CONFIG_KEYS.get('target[].shelf')).toMatchObject({ required: true, default: undefined });
  });

  it.each(KEYS)('describes $pattern in sentences', ({ description, form }) => {
    expect(description).toMatch(/^[A-Z].*\.$/);
    expect(form).toMatch(/\w/);
  });

  it.each(KEYS.filter(({ kind, required }) => kind === 'value' && !required))(
    'says what $pattern is when it is left out',
    (key) => {
      expect(key.default).toBeDefined();
    },
  );
});

describe('config.example.toml', () => {
  it('is a configuration without warnings', () => {
    expect(loadConfig(EXAMPLE_PATH, {})).toMatchObject({
      server: { interfaces: ['lo'] },
      warnings: [],
    });
  });

  it.each(KEYS.filter(({ kind }) => kind !== 'element'))('mentions $pattern', (key) => {
    const text = key.kind === 'value' ? `${key.name} =` : key.example;
    expect(EXAMPLE.split('\n').some((line) => line.replace(/^# /, '').startsWith(text))).toBe(true);
  });

  it('comments out only what would be right', () => {
    const alternatives = /^(interface = "lo"|size = "8GiB" .*|root = .*)$/gm;
    const complete = EXAMPLE.replace(/^# (?=\[|\w+ = )/gm, '').replace(alternatives, '');
    expect(complete).not.toBe(EXAMPLE);
    const { targets, server } = parseConfig(complete, EXAMPLE_PATH, {});
    expect(server.interfaces).toEqual(['eth0', 'eth1']);
    expect(targets.map(({ backend }) => backend.type)).toEqual([
      'file',
      'file',
      'file',
      'memory',
      'device',
      'cas',
      'cas',
    ]);
  });

  it('shows the defaults that the schema has', () => {
    for (const { name, kind, default: value } of KEYS) {
      if (kind !== 'value' || !/^(\d+|true|false|"\w+")$/.test(value ?? '')) continue;
      expect(EXAMPLE).toContain(`\n# ${name} = ${value}`);
    }
  });
});
