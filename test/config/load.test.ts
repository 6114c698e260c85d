import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  listTargets,
  loadConfig,
  loadControlPath,
  parseConfig,
  readConfig,
} from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problem.ts';
import { SERVER, TARGET } from './samples.ts';

const parse = (text: string, environment = {}) => parseConfig(text, '/etc/aoe.toml', environment);

describe('parseConfig', () => {
  it('fills in the defaults', () => {
    expect(parse(`${SERVER}${TARGET}`)).toEqual({
      path: '/etc/aoe.toml',
      server: {
        interfaces: ['eth0'],
        logLevel: 'info',
        stateDir: '/var/lib/aoe-server',
        controlPath: '/var/lib/aoe-server/control.sock',
        metrics: undefined,
        dashboard: undefined,
        bufferCount: 64,
        maxSectors: undefined,
        allow: [],
        spinUs: 50,
        workers: 1,
        user: undefined,
      },
      targets: [
        {
          name: 'e1.0',
          shelf: 1,
          slot: 0,
          configString: '',
          readOnly: false,
          writeCache: false,
          allow: [],
          backend: { type: 'memory', sizeBytes: 65536 },
        },
      ],
      warnings: [],
    });
  });

  it('reads a file and a cas target as earlier versions wrote them', () => {
    const { server, targets, warnings } = parse(`
      [server]
      interface = "eth0"
      log_level = "info"

      [[target]]
      shelf = 1
      slot = 0
      backend = "file"
      config_string = "aoe-disk-1"
      [target.file]
      path = "/data/aoe/disk1.img"
      size = 1073741824

      [[target]]
      shelf = 2
      slot = 0
      backend = "cas"
      [target.cas]
      block_size = 4096
      total_sectors = 2097152
      [target.cas.blob_store]
      type = "file"
      path = "/data/blobs"
    `);
    expect(server.interfaces).toEqual(['eth0']);
    expect(targets.map(({ name, configString }) => [name, configString])).toEqual([
      ['e1.0', 'aoe-disk-1'],
      ['e2.0', ''],
    ]);
    expect(targets.map(({ backend }) => backend)).toEqual([
      {
        type: 'file',
        path: '/data/aoe/disk1.img',
        sizeBytes: 2 ** 30,
        offsetBytes: 0,
        lengthBytes: undefined,
        direct: false,
      },
      {
        type: 'cas',
        sizeBytes: 8 * 2 ** 30,
        blobStore: { type: 'file', path: '/data/blobs' },
      },
    ]);
    expect(warnings).toEqual([]);
  });

  it('makes a target on a snapshot read-only and leaves its size to the store', () => {
    const { targets } = parse(`
      [server]
      interface = "eth0"
      [[target]]
      shelf = 2
      slot = 0
      backend = "cas"
      cas = { root = "monday", blob_store = { type = "file", path = "/blobs" } }
    `);
    expect(targets).toMatchObject([
      { readOnly: true, backend: { type: 'cas', root: 'monday', sizeBytes: undefined } },
    ]);
  });

  it('reads every key', () => {
    const { server, targets } = parse(`
      [server]
      interfaces = ["eth0", "eth1"]
      log_level = "debug"
      state_dir = "/state"
      buffer_count = 2
      max_sectors = 16
      allow = ["02:00:00:00:00:0A"]
      spin_us = 0
      workers = 4
      user = "nobody"
      [[target]]
      shelf = 65534
      slot = 254
      backend = "device"
      config_string = "ä"
      read_only = true
      write_cache = true
      allow = ["02-00-00-00-00-0a"]
      device = { path = "/dev/sdx", direct = true }
      [[target]]
      shelf = 0
      slot = 0
      backend = "file"
      file = { path = "/a", size = "3M", offset = "1M", length = "2M", direct = true }
    `);
    expect(server).toEqual({
      interfaces: ['eth0', 'eth1'],
      logLevel: 'debug',
      stateDir: '/state',
      controlPath: '/state/control.sock',
      metrics: undefined,
      dashboard: undefined,
      bufferCount: 2,
      maxSectors: 16,
      allow: [0x0200_0000_000a],
      spinUs: 0,
      workers: 4,
      user: 'nobody',
    });
    expect(targets[0]).toEqual({
      name: 'e65534.254',
      shelf: 65534,
      slot: 254,
      configString: 'ä',
      readOnly: true,
      writeCache: true,
      allow: [0x0200_0000_000a],
      backend: { type: 'device', path: '/dev/sdx', direct: true },
    });
    expect(targets[1]?.backend).toEqual({
      type: 'file',
      path: '/a',
      sizeBytes: 3 * 2 ** 20,
      offsetBytes: 2 ** 20,
      lengthBytes: 2 ** 21,
      direct: true,
    });
  });

  it('knows blob stores in the cloud', () => {
    const { targets } = parse(`
      ${SERVER}
      [[target]]
      shelf = 1
      slot = 0
      backend = "cas"
      cas = { size = "4K", blob_store = { type = "s3", path = "/b", bucket = "disks" } }
      [[target]]
      shelf = 1
      slot = 1
      backend = "cas"
      [target.cas]
      size = 4096
      [target.cas.blob_store]
      type = "azure"
      path = "/c"
      bucket = "disks"
      prefix = "p/"
      endpoint = "https://blobs.example.net"
      durability = "remote"
      take_over = "0f1e"
    `);
    const [first, second] = targets.map(({ backend }) => backend);
    expect(first).toMatchObject({
      sizeBytes: 4096,
      blobStore: { type: 's3', path: '/b', bucket: 'disks', prefix: '', durability: 'local' },
    });
    expect(second).toMatchObject({
      blobStore: {
        type: 'azure',
        path: '/c',
        bucket: 'disks',
        prefix: 'p/',
        endpoint: 'https://blobs.example.net',
        durability: 'remote',
        takeOver: '0f1e',
      },
    });
  });

  it('takes relative paths from the directory of the file', () => {
    const { server, targets } = parse(`
      [server]
      interface = "lo"
      state_dir = "state"
      [[target]]
      shelf = 1
      slot = 0
      backend = "file"
      file.path = "../srv/a.img"
      [[target]]
      shelf = 1
      slot = 1
      backend = "cas"
      cas = { size = 4096, blob_store = { type = "file", path = "blobs" } }
    `);
    expect(server.stateDir).toBe('/etc/state');
    expect(targets.map(({ backend }) => backend)).toMatchObject([
      { path: '/srv/a.img' },
      { blobStore: { path: '/etc/blobs' } },
    ]);
  });

  it.each([
    ['/var/lib/private/aoe', '/var/lib/private/aoe'],
    ['/first:/second', '/first'],
    ['', '/var/lib/aoe-server'],
  ])('keeps state where $STATE_DIRECTORY = %j says', (STATE_DIRECTORY, stateDir) => {
    expect(parse(`${SERVER}${TARGET}`, { STATE_DIRECTORY }).server.stateDir).toBe(stateDir);
  });

  it('prefers state_dir to $STATE_DIRECTORY', () => {
    const text = `${SERVER}state_dir = "/mine"\n${TARGET}`;
    expect(parse(text, { STATE_DIRECTORY: '/systemd' }).server.stateDir).toBe('/mine');
  });

  it.each([
    ['', '/var/lib/aoe-server/control.sock'],
    ['state_dir = "state"', '/etc/state/control.sock'],
    ['control = "own.sock"', '/etc/own.sock'],
  ])('puts the control socket for %j at %s', (keys, path) => {
    expect(parse(`${SERVER}${keys}\n${TARGET}`).server.controlPath).toBe(path);
  });

  it.each([
    ['127.0.0.1:9465', { host: '127.0.0.1', port: 9465 }],
    ['127.8.0.1:1', { host: '127.8.0.1', port: 1 }],
    ['[::1]:65535', { host: '::1', port: 65_535 }],
    ['/run/metrics.sock', { path: '/run/metrics.sock' }],
    ['./metrics.sock', { path: '/etc/metrics.sock' }],
  ])('takes metrics = %j', (text, address) => {
    const { server } = parse(`${SERVER}metrics = "${text}"\n${TARGET}`);
    expect(server.metrics).toEqual(address);
  });

  it.each([
    ...['9465', ':9465', 'localhost:9465', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:65536'],
    ...['::1:9465', '[127.0.0.1]:9465', '[::1]', 'metrics.sock'],
  ])('refuses metrics = %j', (text) => {
    expect(() => parse(`${SERVER}metrics = "${text}"\n${TARGET}`)).toThrow(
      /server\.metrics.* must be a loopback address/,
    );
  });

  it.each(['0.0.0.0:9465', '192.0.2.1:9465', '[::]:9465', '[2001:db8::1]:9465'])(
    'refuses metrics = %j, which others can reach, and names the remedy',
    (text) => {
      expect(() => parse(`${SERVER}metrics = "${text}"\n${TARGET}`)).toThrow(
        /could be reached from other machines[\s\S]*metrics = "127\.0\.0\.1:9465"/,
      );
    },
  );

  it.each([
    ['127.0.0.1:8088', { host: '127.0.0.1', port: 8088 }],
    ['dashboard/socket', { path: '/etc/dashboard/socket' }],
  ])('takes dashboard = %j', (text, address) => {
    const { server, warnings } = parse(`${SERVER}dashboard = "${text}"\n${TARGET}`);
    expect([server.dashboard, warnings]).toEqual([address, []]);
  });

  it('takes an address of the dashboard that others can reach, and warns of it', () => {
    const { server, warnings } = parse(`${SERVER}dashboard = "[::]:8088"\n${TARGET}`);
    expect(server.dashboard).toEqual({ host: '::', port: 8088 });
    expect(warnings).toMatchObject([
      { key: 'server.dashboard', remedy: expect.stringContaining('TLS') },
    ]);
  });

  it.each(['8088', 'localhost:8088', 'dashboard'])('refuses dashboard = %j', (text) => {
    expect(() => parse(`${SERVER}dashboard = "${text}"\n${TARGET}`)).toThrow(
      /server\.dashboard.* must be an IP address and a port/,
    );
  });
});

describe('loadConfig', () => {
  const directory = mkdtempSync(join(tmpdir(), 'aoe-config-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  it('reads a file, with or without a byte order mark', () => {
    const path = join(directory, 'bom.toml');
    writeFileSync(path, `\ufeff${SERVER}${TARGET}`);
    expect(loadConfig(path, {})).toMatchObject({ path, targets: [{ name: 'e1.0' }] });
  });

  it.each([
    ['missing', undefined, 'cannot be read: ENOENT'],
    ['latin-1', Buffer.from([0x23, 0xe4]), 'is not UTF-8 text'],
    ['too long', `${'#'.repeat(2 ** 20)}\n`, 'is longer than 1 MiB'],
  ])('refuses a file that is %s', (name, content, message) => {
    const path = join(directory, `${name}.toml`);
    if (content !== undefined) writeFileSync(path, content);
    const error = catchError(() => loadConfig(path, {}));
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toContain(`${path}: ${message}`);
  });
});

function catchError(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('loadControlPath', () => {
  const directory = mkdtempSync(join(tmpdir(), 'aoe-control-'));
  const path = join(directory, 'aoe.toml');
  afterAll(() => rmSync(directory, { recursive: true }));

  it('is what the server uses, whether the targets can be served together or not', () => {
    writeFileSync(
      path,
      `${SERVER}state_dir = "state"
${TARGET}${TARGET}`,
    );
    expect(loadControlPath(path, {})).toBe(join(directory, 'state', 'control.sock'));
    writeFileSync(
      path,
      `${SERVER}control = "here.sock"
${TARGET}`,
    );
    expect(loadControlPath(path, {})).toBe(loadConfig(path, {}).server.controlPath);
    expect(loadControlPath(path)).toBe(join(directory, 'here.sock'));
  });

  it('is that of no file that is wrong', () => {
    writeFileSync(
      path,
      `${SERVER}${TARGET}interfaces = 7
`,
    );
    expect(() => loadControlPath(path, {})).toThrow(ConfigError);
  });
});

describe('listTargets', () => {
  const directory = mkdtempSync(join(tmpdir(), 'aoe-list-'));
  const path = join(directory, 'aoe.toml');
  afterAll(() => rmSync(directory, { recursive: true }));

  it('has the targets that are right in themselves, whatever is wrong besides', () => {
    const wrong = TARGET.replace('shelf = 1', 'shelf = "one"');
    writeFileSync(path, `[server]\ninterfaces = 7\n${TARGET}${wrong}`);
    expect(listTargets(readConfig(path), path).map(({ name }) => name)).toEqual(['e1.0']);
    writeFileSync(path, 'target = "none"');
    expect(listTargets(readConfig(path), path)).toEqual([]);
  });

  it('has none of a file that is not TOML', () => {
    writeFileSync(path, '[server');
    expect(() => listTargets(readConfig(path), path)).toThrow(ConfigError);
  });
});
