import {
  chmod,
  chown,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { stringify, type TomlTable } from 'smol-toml';
import { afterEach, expect, it } from 'vitest';
import type { TargetStatus } from '../../src/status.ts';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll, run, TempDirectory, waitUntil } from '../support/tools.ts';
import { MIB, Setup, type StartOptions, TOOLS, UNHARMED } from './setup.ts';
import { createFile, LoopDevice } from './storage.ts';

const NOBODY = 65_534;
const NET_RAW = 1n << 13n;
const TARGETS = [0, 1].map((slot) => ({
  ...{ shelf: 1, slot, backend: 'file' },
  file: { path: `disk${slot}.img`, size: 4 * MIB },
}));

let setup: Setup;

async function start(options: StartOptions): Promise<void> {
  setup = await Setup.create();
  // Those of a service lie where its user can go.
  await chmod(setup.directory.path, 0o711);
  await setup.start(TARGETS, options);
}

/** What /proc tells of each thread of the server: names and values. */
async function threads(): Promise<Map<string, string>[]> {
  const pid = await setup.serverPid();
  const tasks = await readdir(`/proc/${pid}/task`);
  // One that had nothing to do for a while may end meanwhile.
  const texts = tasks.map((task) =>
    readFile(`/proc/${pid}/task/${task}/status`, 'utf8').catch(() => []),
  );
  return (await Promise.all(texts))
    .flat()
    .map(
      (text) =>
        new Map(
          [...text.matchAll(/^(\w+):[\t ]*(.*?) *$/gm)].map(
            ([, name, value]) => [name, value] as [string, string],
          ),
        ),
    );
}

async function expectUnprivileged(): Promise<void> {
  const all = await threads();
  expect(all.length).toBeGreaterThan(1);
  for (const status of all) {
    for (const ids of ['Uid', 'Gid'])
      expect(status.get(ids)).toBe(Array(4).fill(NOBODY).join('\t'));
    expect(status.get('Groups')).toBe('');
    // Right to open raw sockets, in the threads that do; no right at all in the others.
    for (const set of ['CapPrm', 'CapEff', 'CapInh']) {
      expect(BigInt(`0x${status.get(set)}`) & ~NET_RAW, `${status.get('Name')} ${set}`).toBe(0n);
    }
  }
}

/** Data and config string of each target can be written. */
async function expectServing(): Promise<void> {
  await Promise.all(TARGETS.map(({ slot }) => expectServingOne(`1.${slot}`)));
}

async function expectServingOne(target: string): Promise<void> {
  const load = ['-t', 1, '-j', setup.join(target)];
  expect(await setup.verify(target, ...load)).toMatchObject(UNHARMED);
  expect(await setup.verify(target, '-k', '-t', 1)).toMatchObject({ refused: 0, unanswered: 0 });
  const { uid, mode } = await stat(setup.join('state', `e${target}.json`));
  expect([uid, mode & 0o777]).toEqual([NOBODY, 0o600]);
}

function openings(): number {
  return setup.server.log.filter(({ msg }) => msg === 'interface is open').length;
}

describeWith(TOOLS, 'a server that becomes another user', () => {
  afterEach(() => disposeAll(setup));

  for (const workers of [1, 2]) {
    it(`keeps the right to open raw sockets and no other (${workers} thread(s))`, async () => {
      await start({ settings: { user: 'nobody', workers } });
      await expectUnprivileged();
      await expectServing();
      expect((await stat(setup.join('state', 'lock'))).uid).toBe(NOBODY);
    });

    it(`takes up an interface that is made again (${workers} thread(s))`, async () => {
      await start({ settings: { user: 'nobody', workers } });
      await setup.serverNetwork.run('ip', ['link', 'del', 's0']);
      const before = openings();
      await setup.addLink(0, 9000);
      await waitUntil('the link is open again', () => openings() === before + workers);
      await expectServing();
      await expectUnprivileged();
      expect(await setup.server.stop()).toBe(0);
    });
  }

  it('starts again where it left off', async () => {
    await start({ settings: { user: 'nobody' } });
    await expectServing();
    await setup.server.stop();
    await setup.start(TARGETS, { settings: { user: 'nobody' } });
    for (const target of ['1.0', '1.1']) {
      expect(await setup.verify(target, '-c', '-j', setup.join(target))).toMatchObject(UNHARMED);
    }
  });

  it('gives nothing away through a link in the state directory', async () => {
    setup = await Setup.create();
    await setup.start(TARGETS);
    await setup.server.stop();
    await run('touch', [setup.join('secret')]);
    await symlink(setup.join('secret'), setup.join('state/e7.7.json'));
    await setup.start(TARGETS, { settings: { user: 'nobody' } });
    expect((await stat(setup.join('secret'))).uid).toBe(0);
  });

  it('does not start on a link in the place of an image', async () => {
    await start({ settings: { user: 'nobody' } });
    await setup.server.stop();
    await rename(setup.join('disk0.img'), setup.join('elsewhere.img'));
    await symlink('elsewhere.img', setup.join('disk0.img'));
    await expect(setup.start(TARGETS, { settings: { user: 'nobody' } })).rejects.toThrow(
      /symbolic link: name the file/,
    );
  });

  it('does not start on a link in the place of a file of a store, and leaves alone what it names', async () => {
    setup = await Setup.create();
    await mkdir(setup.join('store'));
    await writeFile(setup.join('secret'), 'precious');
    await symlink(setup.join('secret'), setup.join('store/lock'));
    const cas = { size: 4 * MIB, blob_store: { type: 'file', path: 'store' } };
    const starting = setup.start([{ shelf: 1, slot: 0, backend: 'cas', cas }]);
    await expect(starting).rejects.toThrow(/cannot open the store .*ELOOP/);
    expect(await readFile(setup.join('secret'), 'utf8')).toBe('precious');
  });

  it('does not start as a user that does not exist', async () => {
    const starting = start({ settings: { user: 'no-such-user' } });
    await expect(starting).rejects.toThrow(/there is no user no-such-user/);
  });
});

describeWith([...TOOLS, 'losetup'], 'a server that has become another user', () => {
  const settings = { user: 'nobody' };
  let targets: TomlTable[];
  afterEach(() => disposeAll(setup));

  function storeTarget(slot: number, path: string): TomlTable {
    const cas = { size: 4 * MIB, blob_store: { type: 'file', path } };
    return { shelf: 1, slot, backend: 'cas', cas };
  }

  /** An image, a device, and a store in a folder of the user's. */
  async function prepare(): Promise<void> {
    setup = await Setup.create();
    await chmod(setup.directory.path, 0o711);
    await mkdir(setup.join('own'));
    await chown(setup.join('own'), NOBODY, NOBODY);
    await createFile(setup.join('below'), 4 * MIB);
    const { path } = setup.own(await LoopDevice.attach(setup.join('below')));
    targets = [
      { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: 4 * MIB } },
      { shelf: 1, slot: 1, backend: 'device', device: { path } },
      storeTarget(2, 'own/store'),
    ];
  }

  async function ask(operation: string): Promise<string> {
    const socket = setup.join('state/control.sock');
    return (await askControl(socket, 'POST', `/v1/${operation}`)).text;
  }

  async function reload(next: TomlTable[]): Promise<string> {
    const server = { interfaces: setup.serverInterfaces, state_dir: 'state', ...settings };
    await writeFile(setup.join('aoe-server.toml'), stringify({ server, target: next }));
    return ask('reload');
  }

  async function served(): Promise<string[]> {
    const status = await askStatus(setup.join('state/control.sock'));
    const isServed = ({ drained, failed }: TargetStatus) => !drained && !failed;
    return status.targets.filter(isServed).map(({ name }) => name);
  }

  it('serves images, devices and stores, whose files that user owns', async () => {
    await prepare();
    await setup.start(targets, { settings });
    await expectUnprivileged();
    for (const target of ['1.0', '1.1', '1.2']) await expectServingOne(target);
    expect(await setup.server.stop()).toBe(0);
    const store = setup.join('own/store');
    for (const name of await readdir(store, { recursive: true })) {
      const { uid, mode } = await stat(join(store, name));
      expect([uid, mode & 0o077], name).toEqual([NOBODY, 0]);
    }
    expect((await stat(setup.join('disk.img'))).mode & 0o777).toBe(0o600);
    await setup.start(targets, { settings });
    for (const target of ['1.0', '1.1', '1.2']) {
      expect(await setup.verify(target, '-c', '-j', setup.join(target))).toMatchObject(UNHARMED);
    }
  });

  it('opens anew what that user may open, and serves all else as before', async () => {
    await prepare();
    await setup.start(targets, { settings });
    expect(await ask('targets/e1.0/readd')).toMatch(/cannot open .*disk.img: .*EACCES/);
    expect(await ask('targets/e1.1/readd')).toMatch(/cannot open .*loop\d+: .*EACCES/);
    expect(JSON.parse(await ask('targets/e1.2/readd'))).toMatchObject({ drained: false });
    await chown(setup.join('disk.img'), NOBODY, NOBODY);
    expect(JSON.parse(await ask('targets/e1.0/readd'))).toMatchObject({ drained: false });

    const file = { path: 'own/new.img', size: MIB };
    const added = [{ shelf: 1, slot: 3, backend: 'file', file }, storeTarget(4, 'own/store')];
    expect(JSON.parse(await reload([...targets, ...added]))).toMatchObject({
      added: ['e1.3', 'e1.4'],
    });
    expect((await stat(setup.join('own/new.img'))).uid).toBe(NOBODY);
    const foreign = storeTarget(5, 'store');
    expect(await reload([...targets, ...added, foreign])).toMatch(
      /cannot open the store .*EACCES.*nothing has changed/,
    );
    const names = ['e1.0', 'e1.1', 'e1.2', 'e1.3', 'e1.4'];
    expect(await served()).toEqual(names);
    for (const name of names) await expectServingOne(name.slice(1));
  });

  it('does not start on a store that it could not write to later', async () => {
    await prepare();
    await setup.start(targets);
    await setup.server.stop();
    await expect(setup.start(targets, { settings })).rejects.toThrow(
      /cannot open the store .*own\/store.*EACCES/,
    );
  });
});

describeWith([...TOOLS, 'setcap'], 'a server that is started as another user', () => {
  afterEach(() => disposeAll(setup));

  /** All that it uses belongs to that user. */
  async function startAs(runner: readonly string[]): Promise<void> {
    setup = await Setup.create();
    await chown(setup.directory.path, NOBODY, NOBODY);
    await run('mkdir', [setup.join('state')]);
    await chown(setup.join('state'), NOBODY, NOBODY);
    await setup.start(TARGETS, { runner });
  }

  const asNobody = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups'];

  it('serves with the ambient capability that systemd gives it', async () => {
    const rights = ['--inh-caps', '-all,+net_raw', '--ambient-caps', '-all,+net_raw'];
    await startAs([...asNobody, ...rights, process.execPath]);
    await expectServing();
    await expectUnprivileged();
  });

  it('serves with a capability of the file that it runs', async () => {
    await using directory = await TempDirectory.create();
    await chmod(directory.path, 0o711);
    const node = directory.join('node');
    await copyFile(process.execPath, node);
    await run('setcap', ['cap_net_raw=ep', node]);
    await startAs([...asNobody, node]);
    await expectServing();
    await expectUnprivileged();
    await setup.server.stop();
  });

  it('says what is missing without either', async () => {
    const starting = startAs([...asNobody, process.execPath]);
    await expect(starting).rejects.toThrow(/raw Ethernet access is not permitted/);
  });
});
