import { describe, expect, it } from 'vitest';
import { ConfigError, formatProblem } from '../../src/config/problem.ts';
import { problemsOf, SERVER, TARGET } from './samples.ts';

interface Case {
  readonly mistake: string;
  readonly text: string;
  /** Line, key, message and remedy of each problem; the texts in part. */
  readonly problems: readonly (readonly [number, string, string, string])[];
}

/** A mistake in one key of [server], on line 3. */
function inServer(line: string, key: string, message: string, remedy: string): Case {
  const text = `${SERVER}${line}\n${TARGET}`;
  return { mistake: line, text, problems: [[3, `server.${key}`, message, remedy]] };
}

/** A mistake in one key of a target, on line 8. */
function inTarget(line: string, key: string, message: string, remedy: string): Case {
  const text = `${SERVER}${TARGET}${line}\n`;
  return { mistake: line, text, problems: [[8, `target[0].${key}`, message, remedy]] };
}

/** A mistake in the storage of a target, on line 7. */
function inBackend(type: string, line: string, ...problem: [string, string, string]): Case {
  const [key, message, remedy] = problem;
  const text = `${SERVER}[[target]]\nshelf = 1\nslot = 0\nbackend = "${type}"\n${line}\n`;
  return { mistake: line, text, problems: [[7, `target[0].${key}`, message, remedy]] };
}

const NAME = 'must be the name of a network interface';
const SIZE = 'must be a multiple of 512 bytes above 0';
const MAC = 'must be the MAC address of one station';

const CASES: Case[] = [
  inServer('log_level = "inof"', 'log_level', 'must be one of "trace"', 'Did you mean "info"?'),
  inServer('log_level = 3', 'log_level', 'must be one of "trace"', 'log_level = "debug"'),
  inServer('state_dir = ""', 'state_dir', 'must be a path', 'state_dir = "/var/lib/aoe-server"'),
  inServer('buffer_count = 1', 'buffer_count', 'from 2 to 256', 'buffer_count = 64'),
  inServer('buffer_count = 257', 'buffer_count', 'from 2 to 256', 'buffer_count = 64'),
  inServer('buffer_count = 2.5', 'buffer_count', 'a whole number', 'buffer_count = 64'),
  inServer('max_sectors = 0', 'max_sectors', 'from 1 to 255', 'max_sectors = 16'),
  inServer('max_sectors = 256', 'max_sectors', 'from 1 to 255', 'max_sectors = 16'),
  inServer('spin_us = -1', 'spin_us', 'from 0 to 1000', 'spin_us = 50'),
  inServer('spin_us = nan', 'spin_us', 'from 0 to 1000', 'spin_us = 50'),
  inServer('allow = "02:00:00:00:00:01"', 'allow', 'must be a list', 'allow = ["02:'),
  inServer('allow = ["x"]', 'allow[0]', MAC, '"02:00:00:00:00:0a"'),
  inServer('allow = ["ff:ff:ff:ff:ff:ff"]', 'allow[0]', MAC, '"02:00:00:00:00:0a"'),
  inServer('bufer_count = 3', 'bufer_count', 'is not a known key', 'Did you mean buffer_count?'),
  inServer('shelf = 3', 'shelf', 'is not a known key', 'It belongs in [[target]].'),
  inServer('colour = 1', 'colour', 'is not a known key', 'Remove it. Known here: interface, '),
  inServer('"" = 1', '""', 'is not a known key', 'Remove it.'),
  inServer('__proto__ = 1', '__proto__', 'is not a known key', 'Remove it.'),
  inServer('target = 1', 'target', 'is not a known key', 'It belongs in the root of the file.'),
  inServer('interfaces = ["a"]', 'interfaces', 'is given besides interface', 'Keep one'),

  inTarget(`config_string = "${'ä'.repeat(513)}"`, 'config_string', 'at most 1024 bytes', '"aoe-'),
  inTarget('config_string = 1', 'config_string', 'must be text', 'config_string = "aoe-disk-1"'),
  inTarget('read_only = "yes"', 'read_only', 'must be true or false', 'read_only = true'),
  inTarget('write_cache = 1', 'write_cache', 'must be true or false', 'write_cache = true'),
  inTarget('allow = ["02"]', 'allow[0]', MAC, '"02:00:00:00:00:0a"'),
  inTarget('file.path = "a"', 'file', 'not used, because backend = "memory"', 'backend = "file"'),
  inTarget('size = 512', 'size', 'is not a known key', 'It belongs in [target.file] or [target.m'),
  inTarget('"a.b" = 1', '"a.b"', 'is not a known key', 'Remove it.'),
  inTarget('solt = 1', 'solt', 'is not a known key', 'Did you mean slot?'),

  inBackend('memory', 'memory.size = 100', 'memory.size', SIZE, 'size = "64MiB"'),
  inBackend('memory', 'memory.size = 0', 'memory.size', SIZE, 'size = "64MiB"'),
  inBackend('memory', 'memory.size = "1GB"', 'memory.size', 'powers of 1024', 'size = "64MiB"'),
  inBackend('memory', 'memory = {}', 'memory.size', 'is missing', 'example: size = "64MiB"'),
  inBackend('memory', 'memory = 5', 'memory', 'must be a table', '[target.memory]'),
  inBackend('file', 'file.size = 512', 'file.path', 'is missing', 'path = "/srv/aoe/disk1.img"'),
  inBackend('file', 'file.path = "a\\u0000b"', 'file.path', 'must be a path', 'path = "/srv'),
  inBackend('file', 'file = { path = "a", direct = 1 }', 'file.direct', 'true or false', 'true'),
  inBackend('file', 'file = { path = "a", offset = 1 }', 'file.offset', '512', 'offset = "1MiB"'),
  inBackend('file', 'file = { path = "a", length = 0 }', 'file.length', SIZE, 'length = "512MiB"'),
  inBackend(
    'file',
    'file = { path = "a", size = 1024, offset = 1024 }',
    'file.offset',
    'is not inside the image',
    'smaller than size',
  ),
  inBackend(
    'file',
    'file = { path = "a", size = 1024, offset = 512, length = 1024 }',
    'file.length',
    'reaches beyond the end',
    'at most size',
  ),
  inBackend('device', 'device = {}', 'device.path', 'is missing', '/dev/disk/by-id/'),
  inBackend('cas', 'cas = { size = 4096 }', 'cas.blob_store', 'missing', '[target.cas.blob_store]'),
  inBackend(
    'cas',
    'cas = { size = 4096, blob_store = { type = "ftp", path = "b" } }',
    'cas.blob_store.type',
    'must be one of "file", "s3", "azure"',
    'type = "file"',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, blob_store = { type = "s3", path = "b" } }',
    'cas.blob_store.bucket',
    'is missing',
    'Name the bucket',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, blob_store = { type = "file", path = "b", prefix = "p" } }',
    'cas.blob_store.prefix',
    'is not used',
    'another type',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, blob_store = { type = "azure", path = "b", bucket = "c", region = "r" } }',
    'cas.blob_store.region',
    'is not used',
    'Remove it',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, blob_store = { type = "s3", path = "b", bucket = "c", lag_max = "1M" } }',
    'cas.blob_store.lag_max',
    'must be a multiple of 1048576 bytes, at least 64MiB',
    'lag_max = "10GiB"',
  ),
  inBackend(
    'cas',
    'cas = { size = 6144, blob_store = { type = "file", path = "b" } }',
    'cas.size',
    'must be a multiple of 4096 bytes',
    'size = "8GiB"',
  ),
  inBackend(
    'cas',
    'cas = { block_size = 512, size = 4096, blob_store = { type = "file", path = "b" } }',
    'cas.block_size',
    'must be 4096',
    'block_size = 4096',
  ),
  inBackend(
    'cas',
    'cas = { total_sectors = 0, blob_store = { type = "file", path = "b" } }',
    'cas.total_sectors',
    'must be a whole number from 1',
    'total_sectors = 2097152',
  ),
  inBackend(
    'cas',
    'cas = { blob_store = { type = "file", path = "b" } }',
    'cas.size',
    'is missing',
    'total_sectors',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, total_sectors = 1, blob_store = { type = "file", path = "b" } }',
    'cas.size',
    'is given besides total_sectors',
    'Keep one',
  ),
  inBackend(
    'cas',
    'cas = { size = 4096, root = "monday", blob_store = { type = "file", path = "b" } }',
    'cas.size',
    'is given besides root',
    'Remove it',
  ),
  inBackend(
    'cas',
    'cas = { root = "last monday", blob_store = { type = "file", path = "b" } }',
    'cas.root',
    'must be the name of a snapshot',
    'root = "monday"',
  ),

  {
    mistake: 'no interface',
    text: `[server]\n${TARGET}`,
    problems: [[1, 'server.interface', 'is missing', 'interfaces = ["eth0", "eth1"]']],
  },
  ...['', 'a/b', 'a b', 'sixteen-letters-', '..'].map((name) => ({
    mistake: `an interface "${name}"`,
    text: `[server]\n\ninterface = "${name}"\n${TARGET}`,
    problems: [[3, 'server.interface', NAME, 'interface = "eth0"']] as const,
  })),
  ...['[]', '["a", "a"]'].map((list) => ({
    mistake: `interfaces = ${list}`,
    text: `[server]\ninterfaces = ${list}\n${TARGET}`,
    problems: [[2, 'server.interfaces', 'list of different', '["eth0", "eth1"]']] as const,
  })),
  {
    mistake: 'an empty file',
    text: '',
    problems: [
      [1, 'server', 'is missing', '[server]'],
      [1, 'target', 'is missing', '[[target]]'],
    ],
  },
  {
    mistake: 'tables with the wrong number of brackets',
    text: '[[server]]\n[target]\n',
    problems: [
      [1, 'server', 'must be a table', '[server]'],
      [2, 'target', 'must be one to 1024 tables, each headed [[target]]', '[[target]]'],
    ],
  },
  {
    mistake: 'a single target that has a key "length", like a list',
    text: `${SERVER}[target]\nlength = [{}]\n`,
    problems: [[3, 'target', 'must be one to 1024 tables, each headed', '[[target]]']],
  },
  {
    mistake: 'no target',
    text: `target = []\n${SERVER}`,
    problems: [[1, 'target', 'must be one to 1024 tables, each headed', '[[target]]']],
  },
  {
    mistake: 'a key outside of its table',
    text: `interface = "eth0"\n${SERVER}${TARGET}`,
    problems: [[1, 'interface', 'is not a known key', 'It belongs in [server].']],
  },
  {
    mistake: 'an empty target',
    text: `${SERVER}[[target]]\n`,
    problems: [
      [3, 'target[0].shelf', 'is missing', 'shelf = 1'],
      [3, 'target[0].slot', 'is missing', 'slot = 0'],
      [3, 'target[0].backend', 'is missing', 'backend = "file"'],
    ],
  },
  {
    mistake: 'an address outside of its range and an unknown backend',
    text: `${SERVER}[[target]]\nshelf = 65535\nslot = 255\nbackend = "flie"\n`,
    problems: [
      [4, 'target[0].shelf', 'from 0 to 65534', 'shelf = 1'],
      [5, 'target[0].slot', 'from 0 to 254', 'slot = 0'],
      [6, 'target[0].backend', 'must be one of "file", "device"', 'Did you mean "file"?'],
    ],
  },
  {
    mistake: 'a backend without its table',
    text: `${SERVER}[[target]]\nshelf = 1\nslot = 0\nbackend = "file"\n`,
    problems: [[3, 'target[0].file', 'is missing', 'Add a table [target.file]']],
  },
  {
    mistake: 'an address twice, though the second target has other errors',
    text: `${SERVER}${TARGET}${TARGET.replace('64KiB', '64KB')}`,
    problems: [
      [10, 'target[1].slot', 'gives the address e1.0 a second time', 'target[0] has it'],
      [12, 'target[1].memory.size', SIZE, 'size = "64MiB"'],
    ],
  },
  {
    mistake: 'a syntax error',
    text: '[server]\ninterface = eth0\n',
    problems: [[2, '', 'is not TOML: invalid value', 'See column 13.']],
  },
  {
    mistake: 'a key given twice',
    text: `${SERVER}interface = "eth1"\n`,
    problems: [[3, '', 'is not TOML: trying to redefine', 'See column 1.']],
  },
];

describe('a wrong configuration', () => {
  it.each(CASES)('is refused for $mistake', ({ text, problems }) => {
    const found = problemsOf(text);
    expect(found.map(({ line, key }) => [line, key])).toEqual(
      problems.map(([line, key]) => [line, key]),
    );
    found.forEach((problem, index) => {
      const [, , message, remedy] = problems[index] as Case['problems'][number];
      expect(problem.message).toContain(message);
      expect(problem.remedy).toContain(remedy);
    });
  });

  it('is reported with everything that is wrong at once, in the order of the file', () => {
    const text = [
      '[server]',
      'interface = "eth0"',
      'interfaces = ["eth1", "eth1"]',
      'bufer_count = 1',
      'spin_us = 1.5',
      '[[target]]',
      'shelf = -1',
      'backend = "file"',
      '[target.memory]',
      'size = 1',
    ].join('\n');
    expect(problemsOf(text).map(({ line, key }) => `${line} ${key}`)).toEqual([
      '3 server.interfaces',
      '3 server.interfaces',
      '4 server.bufer_count',
      '5 server.spin_us',
      '6 target[0].slot',
      '6 target[0].file',
      '7 target[0].shelf',
      '9 target[0].memory',
      '10 target[0].memory.size',
    ]);
  });

  it('becomes one error with a code and a message that holds all problems', () => {
    const problems = problemsOf('[server]\ninterface = 5\n');
    const error = new ConfigError('aoe.toml', problems);
    expect(error.code).toBe('AOE_CONFIG');
    expect(error.message).toBe(
      [
        'aoe.toml:1: target is missing',
        '    Add it, for example: [[target]]',
        'aoe.toml:2: server.interface = 5 must be the name of a network interface',
        '    Write, for example: interface = "eth0"',
      ].join('\n'),
    );
  });
});

describe('formatProblem', () => {
  const problem = { line: 7, key: 'a', value: undefined, message: 'is wrong', remedy: 'Fix it.' };

  it('leaves out what is not known', () => {
    const nowhere = { ...problem, line: undefined, key: '' };
    expect(formatProblem('f', nowhere)).toBe('f: is wrong\n    Fix it.');
  });

  it.each([
    ['a\n"b"', 'a = "a\\n\\"b\\"" is wrong'],
    [Number.NaN, 'a = NaN is wrong'],
    [false, 'a = false is wrong'],
    [['list'], 'a is wrong'],
    ['x'.repeat(100), `a = "${'x'.repeat(59)}... is wrong`],
  ])('shows the value %j', (value, text) => {
    expect(formatProblem('f', { ...problem, value })).toBe(`f:7: ${text}\n    Fix it.`);
  });
});
