import { describe, expect, it } from 'vitest';
import { compareConfigs, findMovedStorage, findShrunk } from '../../src/config/compare.ts';
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

function disk(backend: string, keys: string): Config {
  const text =
    '[server]\ninterface = "eth0"\n[[target]]\nshelf = 1\nslot = 1\n' +
    `backend = "${backend}"\n[target.${backend}]\n${keys}\n`;
  return parseConfig(text, '/etc/aoe.toml', {});
}

function compare(now: Config, next: Config) {
  const { added, changed, removed, fixed } = compareConfigs(now, next);
  return [...[added, changed, removed].map((list) => list.map(({ name }) => name)), fixed];
}

describe('compareConfigs', () => {
  it('finds nothing where only order and log level differ', () => {
    const next = config([2, 1], 'log_level = "debug"');
    expect(compare(config([1, 2]), next)).toEqual([[], [], [], []]);
  });

  it('finds targets that come and go', () => {
    expect(compare(config([1, 2]), config([2, 3, 4]))).toEqual([
      ['e1.3', 'e1.4'],
      [],
      ['e1.1'],
      [],
    ]);
  });

  it('names what only a restart can change', () => {
    expect(compare(config([1]), config([1], 'workers = 2'))).toEqual([[], [], [], ['[server]']]);
    expect(compare(config([1]), config([1], '', 'read_only = true'))).toEqual([
      [],
      [],
      [],
      ['e1.1'],
    ]);
  });

  it('finds targets that change, unless they are in memory before or after', () => {
    const device = disk('device', 'path = "/dev/a"');
    expect(compare(device, disk('device', 'path = "/dev/b"'))).toEqual([[], ['e1.1'], [], []]);
    expect(compare(device, disk('memory', 'size = 512'))).toEqual([[], [], [], ['e1.1']]);
  });
});

describe('findShrunk', () => {
  const size = 'path = "a"\nsize = "10M"';
  it.each<[string, string, string | undefined]>([
    [size, 'path = "b"\nsize = "9M"', 'e1.1 would shrink from 10MiB to 9MiB'],
    [size, `${size}\nlength = "1M"`, 'e1.1 would shrink from 10MiB to 1MiB'],
    [size, `${size}\noffset = "1M"`, 'e1.1 would shrink from 10MiB to 9MiB'],
    [size, 'path = "a"\nsize = "11M"', undefined],
    [size, 'path = "a"', undefined],
    ['path = "a"', size, undefined],
  ])('looks at what %j and then %j say', (before, after, expected) => {
    expect(findShrunk(disk('file', before).targets, disk('file', after).targets)).toBe(expected);
  });

  it('knows nothing of devices, and of targets that are not there', () => {
    const device = disk('device', 'path = "/dev/a"').targets;
    expect(findShrunk(disk('file', size).targets, device)).toBeUndefined();
    expect(findShrunk([], disk('file', size).targets)).toBeUndefined();
  });
});

describe('findMovedStorage', () => {
  const targets = (slot: number, backend: string, table: string) =>
    parseConfig(
      '[server]\ninterface = "eth0"\n' +
        `[[target]]\nshelf = 1\nslot = ${slot}\nbackend = "${backend}"\n${table}`,
      '/etc/aoe.toml',
      {},
    ).targets;
  const image = (slot: number, path: string) =>
    targets(slot, 'file', `[target.file]\npath = "${path}"\nsize = "1MiB"\n`);
  const store = (slot: number, keys: string) =>
    targets(slot, 'cas', `[target.cas]\nsize = "1MiB"\n[target.cas.blob_store]\n${keys}\n`);

  it('finds an image that goes from one target to another', () => {
    const moved = findMovedStorage(image(1, '/srv/a.img'), image(2, '/srv/a.img'));
    expect(moved).toBe('the storage of e1.2 holds data of target e1.1 too');
    expect(findMovedStorage(image(1, '/srv/a.img'), image(2, '/srv/b.img'))).toBeUndefined();
  });

  it('finds a store that is to be kept in another way', () => {
    const local = store(1, 'type = "file"\npath = "/srv/blobs"');
    const remote = store(2, 'type = "s3"\npath = "/srv/blobs"\nbucket = "b"');
    expect(findMovedStorage(local, remote)).toMatch(
      /e1\.2 is not the same as that of target e1\.1/,
    );
    expect(findMovedStorage(local, store(2, 'type = "file"\npath = "/srv/blobs"'))).toBeUndefined();
  });
});
