import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { parse, type TomlValue } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { addTarget, readValue, removeTarget, setKeys, unsetKeys } from '../../src/config/edit.ts';
import { parseConfig } from '../../src/config/load.ts';

const EXAMPLE = readFileSync(join(import.meta.dirname, '../../config.example.toml'), 'utf8');

const TEXT = `# The disks of rack 1.
[server]
interface = "eth0" # the uplink

# The disk of web.
[[target]]
shelf = 1   # rack
slot = 0
backend = "file"
# quite large
  [target.file]
  path = "/srv/web.img"
  size = "10G"   # since May
# direct = true

# The disk of mail.
[[target]]
shelf = 1
slot = 1
backend = "memory"
memory.size = "64KiB"

[[target]]
shelf = 1
slot = 2
backend = "file"
file = { path = "/srv/x.img", size = 512 }
allow = [
  "02:00:00:00:00:0a", # the first
]
# The end.
`;

const FILE_TARGET = [
  { key: ['shelf'], value: 2 },
  { key: ['slot'], value: 5 },
  { key: ['backend'], value: 'cas' },
  { key: ['cas', 'size'], value: '10G' },
  { key: ['cas', 'blob_store', 'type'], value: 'file' },
  { key: ['cas', 'blob_store', 'path'], value: '/srv/"a" store' },
];

/** The lines that an edit takes away, and those that it adds, in order. */
function difference(before: string, after: string): string[] {
  const [old, now] = [before.split('\n'), after.split('\n')];
  let start = 0;
  while (start < old.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < Math.min(old.length, now.length) - start && old.at(-1 - end) === now.at(-1 - end)) {
    end++;
  }
  return [
    ...old.slice(start, old.length - end).map((line) => `-${line}`),
    ...now.slice(start, now.length - end).map((line) => `+${line}`),
  ];
}

describe('setKeys', () => {
  const set = (index: number, key: string, value: TomlValue) =>
    difference(TEXT, setKeys(TEXT, index, [{ key: key.split('.'), value }]));

  it.each<[string, number, string, TomlValue, string[]]>([
    [
      'replaces a value, and keeps its comment',
      0,
      'shelf',
      7,
      ['-shelf = 1   # rack', '+shelf = 7   # rack'],
    ],
    [
      'replaces a value in a table of its own',
      0,
      'file.size',
      '20G',
      ['-  size = "10G"   # since May', '+  size = "20G"   # since May'],
    ],
    ['adds a key behind the others of its table', 0, 'file.direct', true, ['+  direct = true']],
    ['adds a key before the tables of a target', 0, 'read_only', true, ['+read_only = true']],
    [
      'replaces a dotted key',
      1,
      'memory.size',
      '1M',
      ['-memory.size = "64KiB"', '+memory.size = "1M"'],
    ],
    [
      'replaces a value in an inline table',
      2,
      'file.size',
      1024,
      [
        '-file = { path = "/srv/x.img", size = 512 }',
        '+file = { path = "/srv/x.img", size = 1024 }',
      ],
    ],
    [
      'adds a value to an inline table',
      2,
      'file.direct',
      true,
      [
        '-file = { path = "/srv/x.img", size = 512 }',
        '+file = { path = "/srv/x.img", size = 512, direct = true }',
      ],
    ],
    [
      'replaces a value of several lines',
      2,
      'allow',
      [],
      ['-allow = [', '-  "02:00:00:00:00:0a", # the first', '-]', '+allow = []'],
    ],
    ['adds a table', 1, 'cas.size', '1G', ['+[target.cas]', '+size = "1G"', '+']],
  ])('%s', (_, index, key, value, expected) => {
    expect(set(index, key, value)).toEqual(expected);
  });

  it('adds a key beside dotted keys', () => {
    const text = TEXT.replace('memory.size', 'cas.blob_store.type');
    const key = ['cas', 'blob_store', 'path'];
    expect(difference(text, setKeys(text, 1, [{ key, value: 'x' }]))).toEqual([
      '+cas.blob_store.path = "x"',
    ]);
  });

  it('keeps line ends as they are, and ends the last line', () => {
    const text = TEXT.replaceAll('\n', '\r\n').replace(/\r\n# The end\.\r\n$/, '');
    const edited = setKeys(text, 2, [{ key: ['read_only'], value: true }]);
    expect(edited).toBe(`${text}\r\nread_only = true\r\n`);
  });

  it.each<[string, string]>([
    ['targets in one array', 'target = [{ shelf = 1 }]\n'],
    ['no TOML', 'target = ['],
  ])('refuses a text with %s', (_, text) => {
    expect(() => setKeys(text, 0, [{ key: ['slot'], value: 1 }])).toThrow();
  });
});

describe('unsetKeys', () => {
  const unset = (index: number, ...keys: string[]) =>
    difference(
      TEXT,
      unsetKeys(
        TEXT,
        index,
        keys.map((key) => key.split('.')),
      ),
    );

  it.each<[string, number, string, string[]]>([
    ['takes out a line', 0, 'slot', ['-slot = 0']],
    ['takes out a line of a table', 0, 'file.size', ['-  size = "10G"   # since May']],
    [
      'takes out a value of several lines',
      2,
      'allow',
      ['-allow = [', '-  "02:00:00:00:00:0a", # the first', '-]'],
    ],
    [
      'takes a value out of an inline table',
      2,
      'file.size',
      ['-file = { path = "/srv/x.img", size = 512 }', '+file = { path = "/srv/x.img" }'],
    ],
  ])('%s', (_, index, key, expected) => {
    expect(unset(index, key)).toEqual(expected);
  });

  it('takes out several keys', () => {
    expect(unset(0, 'shelf', 'slot')).toEqual(['-shelf = 1   # rack', '-slot = 0']);
  });

  it('refuses what is not set, and tables', () => {
    expect(() => unset(0, 'file.direct')).toThrow('file.direct is not set');
    expect(() => unset(0, 'file')).toThrow('file is a table');
  });
});

describe('removeTarget', () => {
  it.each<[string, number, RegExp]>([
    ['the comments above and below', 0, /^# The disk of web[\s\S]*# direct = true\n\n/m],
    ['a target between others', 1, /^# The disk of mail[\s\S]*64KiB"\n\n/m],
    ['the last target', 2, /\n\[\[target\]\]\nshelf = 1\nslot = 2[\s\S]*$/],
  ])('takes out %s', (_, index, gone) => {
    const cut = TEXT.replace(gone, '');
    expect(cut).not.toBe(TEXT);
    expect(removeTarget(TEXT, index)).toBe(cut);
  });

  it('leaves comments that touch another table', () => {
    const text =
      '[server]\n# a\n[[target]]\nshelf = 1\n# b\n[other]\nx = 1\n[target.file]\nsize = 1\n';
    expect(removeTarget(text, 0)).toBe('[server]\n# a\n# b\n[other]\nx = 1\n');
  });
});

describe('addTarget', () => {
  it('appends tables, and keeps what is there', () => {
    const edited = addTarget(TEXT, FILE_TARGET);
    expect(edited).toBe(
      `${TEXT}\n[[target]]\nshelf = 2\nslot = 5\nbackend = "cas"\n\n[target.cas]\nsize = "10G"\n\n` +
        '[target.cas.blob_store]\ntype = "file"\npath = "/srv/\\"a\\" store"\n',
    );
  });

  it('refuses a file whose targets are one array', () => {
    expect(() => addTarget('target = [{ shelf = 1 }]\n', FILE_TARGET)).toThrow(/cannot edit/);
  });
});

describe('edits', () => {
  const count = parseConfig(EXAMPLE, '/etc/aoe.toml', {}).targets.length;
  const text = fc.string({ unit: 'grapheme', maxLength: 20 });
  const edit = fc.oneof(
    fc.record({ kind: fc.constant('add'), text }),
    fc.record({ kind: fc.constant('remove'), index: fc.nat(count - 1) }),
    fc.record({ kind: fc.constant('set'), index: fc.nat(count - 1), text }),
  );

  it('leave the example what it is, in any order', () => {
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 8 }), (edits) => {
        let edited = EXAMPLE;
        for (const { kind, ...fields } of edits) {
          const targets = parse(edited)['target'];
          const length = Array.isArray(targets) ? targets.length : 0;
          const { index = 0, text: value = '' } = fields as { index?: number; text?: string };
          if (kind === 'add') edited = addTarget(edited, [{ key: ['config_string'], value }]);
          else if (index >= length) continue;
          else if (kind === 'remove' && length > 1) edited = removeTarget(edited, index);
          else edited = setKeys(edited, index, [{ key: ['file', 'path'], value }]);
        }
        expect(edited).toContain('# The network interface to serve on, or several:');
        expect(edited).toContain('# initiators that reach more than one use them side by side.');
      }),
      { numRuns: 60 },
    );
  });
});

describe('readValue', () => {
  it.each<[string, string, TomlValue]>([
    ['read_only', 'true', true],
    ['config_string', 'true', 'true'],
    ['config_string', '12', '12'],
    ['config_string', '"a b"', 'a b'],
    ['file.size', '20G', '20G'],
    ['file.size', '1024', 1024],
    ['allow', '02:00:00:00:00:0a,02:00:00:00:00:0b', ['02:00:00:00:00:0a', '02:00:00:00:00:0b']],
    ['allow', '["02:00:00:00:00:0a"]', ['02:00:00:00:00:0a']],
    ['read_only', 'maybe', 'maybe'],
    ['config_string', '1\nread_only = true', '1\nread_only = true'],
  ])('takes %s=%s for %j', (key, text, expected) => {
    const target = { shelf: 1, slot: 0, backend: 'file', file: { path: 'x' } };
    expect(readValue(target, key.split('.'), text)).toEqual(expected);
  });
});
