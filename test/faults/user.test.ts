import { chmod, chown, copyFile, readdir, readFile, rename, stat, symlink } from 'node:fs/promises';
import { afterEach, expect, it } from 'vitest';
import { describeWith, disposeAll, run, TempDirectory, waitUntil } from '../support/tools.ts';
import { MIB, Setup, type StartOptions, TOOLS, UNHARMED } from './setup.ts';

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
  const texts = tasks.map((task) => readFile(`/proc/${pid}/task/${task}/status`, 'utf8'));
  return (await Promise.all(texts)).map(
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

  it('does not start as a user that does not exist', async () => {
    const starting = start({ settings: { user: 'no-such-user' } });
    await expect(starting).rejects.toThrow(/there is no user no-such-user/);
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
