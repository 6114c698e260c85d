import { writeFile } from 'node:fs/promises';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ServerStatus } from '../../src/status.ts';
import { PROGRAM } from '../cli/run.ts';
import { ataRequest, sectors } from '../protocol/frames.ts';
import { MIB, memoryTarget, Served, TOOLS } from '../protocol/served.ts';
import { askStatus } from '../support/control.ts';
import {
  type CommandResult,
  describeWith,
  disposeAll,
  eventually,
  tryRun,
} from '../support/tools.ts';

const READ = { opcode: 0x24, aflags: 0x40, sectorCount: 1 };
const WRITE = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
const SWITCH_CACHE_OFF = { opcode: 0xef, feature: 0x82, aflags: 0, sectorCount: 0 };
const CONFIG_ERROR = 3;
const DATA_AT = 36;

let served: Served;

function fileTarget(slot: number, path: string): TomlTable {
  return { shelf: 1, slot, backend: 'file', file: { path, size: MIB } };
}

async function configure(targets: TomlTable[], keys: TomlTable): Promise<void> {
  const fence = memoryTarget(9, 9, { memory: { size: MIB } });
  const server = { interfaces: ['aoe0'], state_dir: 'state', ...keys };
  await writeFile(
    served.join('aoe-server.toml'),
    stringify({ server, target: [...targets, fence] }),
  );
}

function reload(): Promise<CommandResult> {
  return tryRun(process.execPath, [PROGRAM, 'reload', served.join('aoe-server.toml')]);
}

function status(): Promise<ServerStatus> {
  return askStatus(served.join('state/control.sock'));
}

async function targetNames(): Promise<string[]> {
  return (await status()).targets.map(({ name }) => name);
}

async function ask(slot: number, fields: typeof READ, data?: Buffer): Promise<Buffer> {
  const request = ataRequest({ slot, ...fields, ...(data && { data }) });
  const [reply] = await served.client.exchange(request, 1);
  return reply as Buffer;
}

describeWith(TOOLS, 'a reload', () => {
  for (const workers of [1, 2]) {
    describe(`with workers = ${workers}`, () => {
      const keys = { workers };
      const first = [memoryTarget(1, 0), fileTarget(1, 'one.img')];

      beforeAll(async () => {
        served = await Served.start(first, 1500, keys);
      });
      afterAll(() => disposeAll(served));

      it('adds and removes targets, and leaves the others alone', async () => {
        const data = sectors(1, 5);
        await ask(0, WRITE, data);
        await ask(1, WRITE, data);
        await configure([memoryTarget(1, 0), fileTarget(2, 'two.img'), memoryTarget(1, 3)], keys);
        expect((await reload()).output).toBe('added e1.2, e1.3, changed none, removed e1.1\n');
        expect(await targetNames()).toEqual(['e1.0', 'e1.2', 'e1.3', 'e9.9']);
        await served.client.settle();

        // A disk in memory that had been opened anew would be empty.
        expect((await ask(0, READ)).subarray(DATA_AT).equals(data)).toBe(true);
        expect((await status()).targets[0]?.counters).toMatchObject({ reads: 1, writes: 1 });
        await ask(2, WRITE, data);
        await ask(3, WRITE, data);
        const before = (await status()).frames.notOurs;
        served.client.send(ataRequest({ slot: 1, ...READ }));
        await eventually(async () => expect((await status()).frames.notOurs).toBe(before + 1));

        // Its image is free again, with all that was written.
        await configure([memoryTarget(1, 0), fileTarget(4, 'one.img')], keys);
        process.kill((await status()).pid, 'SIGHUP');
        await eventually(async () => {
          expect(await targetNames()).toEqual(['e1.0', 'e1.4', 'e9.9']);
        });
        await served.client.settle();
        expect((await ask(4, READ)).subarray(DATA_AT).equals(data)).toBe(true);
      });

      it('changes nothing when a target cannot be opened, and says why', async () => {
        const before = await targetNames();
        const bad = { ...fileTarget(7, 'absent/x.img') };
        await configure([memoryTarget(1, 0), memoryTarget(1, 6), bad], keys);
        const { status: exit, output } = await reload();
        expect([exit, output]).toEqual([
          1,
          expect.stringMatching(/absent[\s\S]*nothing has changed/),
        ]);
        expect(await targetNames()).toEqual(before);
        // What was opened before it is closed again: it can be added now.
        await configure([memoryTarget(1, 0), fileTarget(4, 'one.img'), memoryTarget(1, 6)], keys);
        expect((await reload()).output).toBe('added e1.6, changed none, removed none\n');
      });

      it('leaves a write cache off that an initiator has switched off', async () => {
        const serve = async (fields: TomlTable) => {
          const changed = { ...fileTarget(4, 'one.img'), ...fields };
          await configure([memoryTarget(1, 0), changed, memoryTarget(1, 6)], keys);
          expect((await reload()).output).toBe('added none, changed e1.4, removed none\n');
          await served.client.settle();
          return (await status()).targets.find(({ name }) => name === 'e1.4')?.writeCache;
        };
        expect(await serve({ write_cache: true })).toBe(true);
        await ask(4, SWITCH_CACHE_OFF);
        expect(await serve({ write_cache: true, file: { path: 'one.img' } })).toBe(false);
        expect(await serve({})).toBe(false);
      });

      it('refuses an image that goes from one target to another at once', async () => {
        const before = await targetNames();
        const targets = [memoryTarget(1, 0), memoryTarget(1, 6)];
        await configure([...targets, fileTarget(5, 'one.img')], keys);
        const { status: exit, output } = await reload();
        expect([exit, output]).toEqual([1, expect.stringMatching(/one\.img|e1\.4[\s\S]*twice/)]);
        expect(await targetNames()).toEqual(before);
      });

      it('refuses what only a restart can change', async () => {
        const readOnly = memoryTarget(1, 0, { read_only: true });
        await configure([readOnly], { ...keys, buffer_count: 9 });
        const { status: exit, output } = await reload();
        expect([exit, output]).toEqual([1, expect.stringMatching(/\[server\], e1\.0/)]);
        expect(await targetNames()).toEqual(['e1.0', 'e1.4', 'e1.6', 'e9.9']);
      });

      it('changes nothing for a wrong file, and says why', async () => {
        await writeFile(served.join('aoe-server.toml'), '[server]\nnonsense = 1\n');
        expect(await reload()).toMatchObject({
          status: CONFIG_ERROR,
          output: expect.stringMatching(/nonsense/),
        });
        process.kill((await status()).pid, 'SIGHUP');
        await eventually(() => expect(served.server.logText()).toMatch(/nothing has changed/));
        expect(served.server.logText()).toMatch(/nothing has changed: .*nonsense/);
        expect(await targetNames()).toEqual(['e1.0', 'e1.4', 'e1.6', 'e9.9']);
      });
    });
  }
});
