import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { bootFromNetwork } from '../clients/ipxe.ts';
import { GUEST_TOOLS, LinuxGuest } from '../linux/guest.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { type Block, missingLines, parseBlocks } from './blocks.ts';
import { Machine } from './machine.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 180_000 });

const GUIDES = join(import.meta.dirname, '../../docs/guides');
const CLIENT_TAP = 'tap0';
const FIRMWARE_TAP = 'tap1';
const MTU = 9000;

/** Lets the client have no devices, and the driver's own settings. */
const FORGET = '! grep -q /mnt /proc/mounts && rmmod aoe && modprobe aoe';

const guides = readdirSync(GUIDES).map((name) => ({
  name,
  blocks: parseBlocks(readFileSync(join(GUIDES, name), 'utf8')),
}));

describe('missingLines', () => {
  it('finds what is not there', () => {
    expect(missingLines('a  b N c\nd\n', 'x\na b 17.5 \t c\n')).toEqual(['d']);
  });
});

describeWith(GUEST_TOOLS, 'the guide', () => {
  let directory: TempDirectory;
  let segment: NetworkNamespace;
  let guest: LinuxGuest | undefined;
  const machines = new Map<string, Machine>();

  beforeAll(async () => {
    directory = await TempDirectory.create();
    segment = await NetworkNamespace.create();
    await segment.run('ip', ['link', 'add', 'switch', 'mtu', `${MTU}`, 'type', 'bridge']);
    await segment.run('ip', ['link', 'set', 'switch', 'up']);
    for (const tap of [CLIENT_TAP, FIRMWARE_TAP]) {
      await segment.addTap(tap, MTU);
      await segment.run('ip', ['link', 'set', tap, 'master', 'switch']);
    }
  });
  afterEach(async () => {
    await disposeAll(...machines.values());
    machines.clear();
    if ((await guest?.tryRun(FORGET))?.status === 0) return;
    // Booting takes long, so that is for a client that a failed guide has left in disorder.
    await disposeAll(guest);
    guest = undefined;
  });
  afterAll(() => disposeAll(guest, segment, directory));

  async function machine(name: string): Promise<Machine> {
    const known = machines.get(name);
    if (known !== undefined) return known;
    const booted = await Machine.boot();
    machines.set(name, booted);
    await booted.network.addVeth('eth0', segment, name, MTU);
    await segment.run('ip', ['link', 'set', name, 'master', 'switch']);
    return booted;
  }

  async function client(): Promise<LinuxGuest> {
    const consolePath = directory.join('console');
    const options = { namespace: segment, tap: CLIENT_TAP, mtu: MTU, consolePath };
    guest ??= await LinuxGuest.boot(options);
    return guest;
  }

  async function execute({ language, place, text }: Block): Promise<string> {
    if (language === 'toml') {
      await (await machine(place)).writeConfig(text);
      return '';
    }
    if (language === 'ipxe') {
      const path = directory.join('script.ipxe');
      await writeFile(path, text);
      return bootFromNetwork(segment, FIRMWARE_TAP, path);
    }
    if (place !== 'client') return (await machine(place)).run(text);
    return (await client()).run(text, 90_000);
  }

  it.each(guides)('$name is right', async ({ blocks }) => {
    let output = '';
    for (const block of blocks) {
      if (block.place.startsWith('not run: ')) continue;
      if (block.language === 'text') {
        expect(missingLines(block.text, output), `line ${block.line}\n${output}`).toEqual([]);
        continue;
      }
      output = await execute(block).catch((cause: Error) => {
        throw new Error(`line ${block.line}: ${cause.message}`, { cause });
      });
    }
  });
});
