import { describe, expect, it } from 'vitest';
import { compareConfigs } from '../../src/config/compare.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';

function config(slots: readonly number[], keys = '', targetKeys = ''): Config {
  const targets = slots.map(
    (slot) =>
      `[[target]]\nshelf = 1\nslot = ${slot}\nbackend = "memory"\n${targetKeys}\n` +
      '[target.memory]\nsize = "1MiB"\n',
  );
  const text = `[server]\ninterface = "eth0"\n${keys}\n${targets.join('')}`;
  return parseConfig(text, '/etc/aoe.toml', {});
}

function compare(now: Config, next: Config) {
  const { added, removed, fixed } = compareConfigs(now, next);
  return [added.map(({ name }) => name), removed.map(({ name }) => name), fixed];
}

describe('compareConfigs', () => {
  it('finds nothing where only order and log level differ', () => {
    const next = config([2, 1], 'log_level = "debug"');
    expect(compare(config([1, 2]), next)).toEqual([[], [], []]);
  });

  it('finds targets that come and go', () => {
    expect(compare(config([1, 2]), config([2, 3, 4]))).toEqual([['e1.3', 'e1.4'], ['e1.1'], []]);
  });

  it('names what only a restart can change', () => {
    expect(compare(config([1]), config([1], 'workers = 2'))).toEqual([[], [], ['[server]']]);
    expect(compare(config([1]), config([1], '', 'read_only = true'))).toEqual([[], [], ['e1.1']]);
  });
});
