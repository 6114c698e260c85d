/** What initiators may rely on about a target's state: a server is asked, and started again. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ata, AtaCommand, AtaFlag } from '../../src/aoe/codec/ata.ts';
import { ConfigCommand, decodeConfigReply } from '../../src/aoe/codec/config-query.ts';
import {
  Aoe,
  AoeCommand,
  AoeError,
  aoeErrorOf,
  writeRequestHeader,
} from '../../src/aoe/codec/header.ts';
import {
  decodeMacMaskReply,
  MacMaskCommand,
  MacMaskDirective,
} from '../../src/aoe/codec/mac-mask.ts';
import { ReserveCommand, readReserveList } from '../../src/aoe/codec/reserve-release.ts';
import {
  ADDRESS,
  bytes,
  configRequest,
  INITIATOR,
  macMaskRequest,
  OTHER,
  reserveRequest,
  TARGET,
} from './codec/control.ts';
import { ServedTarget } from './served-target.ts';

function ataRequest(command: number, source: number): Uint8Array {
  const writes = command === AtaCommand.writeSectorsExt;
  const frame = new Uint8Array(writes ? Ata.headerSize + 512 : 60);
  const view = new DataView(frame.buffer);
  const fields = { destination: TARGET, address: ADDRESS, command: AoeCommand.ata, tag: 7 };
  writeRequestHeader(view, 0, { ...fields, source });
  view.setUint8(Ata.aflags, AtaFlag.extended | (writes ? AtaFlag.write : 0));
  view.setUint8(Ata.sectorCount, 1);
  view.setUint8(Ata.commandStatus, command);
  return frame;
}

const readConfig = (source: number) => configRequest(ConfigCommand.read, '', { source });
const setConfig = (text: string, source = INITIATOR) =>
  configRequest(ConfigCommand.set, text, { source });
const editMask = (command: number, mac: number) =>
  macMaskRequest(MacMaskCommand.edit, [{ command, mac }]);
const reserve = (list: readonly number[]) => reserveRequest(ReserveCommand.set, list);

const configIn = (view: DataView | undefined) =>
  view && decodeConfigReply(view, 0, view.byteLength)?.configString;

let directory: string;
let server: ServedTarget;

async function restart(): Promise<void> {
  await server.stop();
  server = await ServedTarget.start(directory);
}

/** What is on disk now, as a server that is started after a power cut would find it. */
async function onDisk(): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(directory, `${ServedTarget.targetName}.json`), 'utf8'));
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aoe-target-'));
  server = await ServedTarget.start(directory);
});

afterEach(async () => {
  await server.stop();
  await rm(directory, { recursive: true });
});

describe('the state of a target', () => {
  it('36. a config string survives a restart', async () => {
    expect(configIn(await server.ask(setConfig('mine')))).toEqual(bytes('mine'));
    await restart();
    expect(configIn(await server.ask(readConfig(OTHER)))).toEqual(bytes('mine'));
    const view = await server.ask(setConfig('theirs', OTHER));
    expect(aoeErrorOf(view as DataView, 0)).toBe(AoeError.configStringPresent);
  });

  it('36. a config string is on disk before the response leaves', async () => {
    await server.deliver(setConfig('mine'));
    while (server.inFlight === 0) await turn();
    expect(server.takeSent()).toEqual([]);
    while (server.inFlight > 0) await turn();
    expect(server.takeSent().length).toBe(1);
    expect((await onDisk())['configString']).toBe(Buffer.from('mine').toString('base64'));
  });

  it('36. two that claim at once: the one that is told of success is the one that is stored', async () => {
    await server.deliver(setConfig('first', INITIATOR));
    while (server.inFlight === 0) await turn();
    await server.deliver(setConfig('second', OTHER));
    while (server.inFlight > 0) await turn();
    const [response, ...others] = server.takeSent();
    expect(others).toEqual([]);
    const view = new DataView(Uint8Array.from(response as Uint8Array).buffer);
    expect(configIn(view)).toEqual(bytes('first'));
    const resent = (await server.ask(setConfig('second', OTHER))) as DataView;
    expect(aoeErrorOf(resent, 0)).toBe(AoeError.configStringPresent);
  });

  it('36. a change that cannot be saved is refused and does not take effect', async () => {
    await mkdir(join(directory, `${ServedTarget.targetName}.json.aoe-server.tmp`));
    const view = (await server.ask(setConfig('mine'))) as DataView;
    expect(aoeErrorOf(view, 0)).toBe(AoeError.deviceUnavailable);
    expect(new Uint8Array(view.buffer).subarray(Aoe.headerSize)).toEqual(new Uint8Array(60 - 24));
    expect(configIn(await server.ask(readConfig(OTHER)))).toEqual(new Uint8Array());
    await rm(join(directory, `${ServedTarget.targetName}.json.aoe-server.tmp`), {
      recursive: true,
    });
    expect(configIn(await server.ask(setConfig('mine')))).toEqual(bytes('mine'));
  });

  it('41. who is not in the MAC mask list meets silence, whatever the command', async () => {
    await server.ask(editMask(MacMaskDirective.add, INITIATOR));
    for (const frame of [
      readConfig(OTHER),
      setConfig('x', OTHER),
      macMaskRequest(MacMaskCommand.read, [], { source: OTHER }),
      reserveRequest(ReserveCommand.read, [], { source: OTHER }),
      ataRequest(AtaCommand.identifyDevice, OTHER),
      ataRequest(AtaCommand.readSectorsExt, OTHER),
    ]) {
      expect(await server.ask(frame)).toBeUndefined();
    }
    expect(await server.ask(readConfig(INITIATOR))).toBeDefined();
  });

  it('41. who masks itself out is told so, and then no more', async () => {
    await server.ask(editMask(MacMaskDirective.add, OTHER));
    expect(server.target.state.maskList).toEqual([OTHER]);
    expect(await server.ask(readConfig(INITIATOR))).toBeUndefined();
    expect(await server.ask(readConfig(OTHER))).toBeDefined();
  });

  it('44. a reserved target refuses every ATA command but IDENTIFY to others', async () => {
    await server.ask(reserve([INITIATOR]));
    for (const command of Object.values(AtaCommand)) {
      if (command === AtaCommand.identifyDevice) continue;
      const view = (await server.ask(ataRequest(command, OTHER))) as DataView;
      expect(aoeErrorOf(view, 0)).toBe(AoeError.targetReserved);
    }
    expect(server.target.reservationConflicts).toBe(Object.values(AtaCommand).length - 1);
    const identify = await server.ask(ataRequest(AtaCommand.identifyDevice, OTHER));
    expect(identify?.byteLength).toBe(Ata.headerSize + 512);
    expect(identify?.getUint8(Aoe.versionFlags)).toBe(0x18);
  });

  it('44. a reserved target serves its holders, and everybody once it is released', async () => {
    await server.ask(reserve([INITIATOR]));
    const read = AtaCommand.readSectorsExt;
    expect((await server.ask(ataRequest(read, INITIATOR)))?.byteLength).toBe(Ata.headerSize + 512);
    await server.ask(reserve([]));
    expect((await server.ask(ataRequest(read, OTHER)))?.byteLength).toBe(Ata.headerSize + 512);
  });

  it('44. a refused write does not reach the disk', async () => {
    await server.ask(reserve([INITIATOR]));
    const write = ataRequest(AtaCommand.writeSectorsExt, OTHER).fill(0xff, Ata.headerSize);
    await server.ask(write);
    const view = (await server.ask(ataRequest(AtaCommand.readSectorsExt, INITIATOR))) as DataView;
    expect(new Uint8Array(view.buffer).subarray(Ata.headerSize)).toEqual(new Uint8Array(512));
  });

  it('45. the MAC mask list survives a restart', async () => {
    await server.ask(editMask(MacMaskDirective.add, INITIATOR));
    await restart();
    expect(await server.ask(readConfig(OTHER))).toBeUndefined();
    const view = (await server.ask(macMaskRequest(MacMaskCommand.read, []))) as DataView;
    expect(decodeMacMaskReply(view, 0, view.byteLength)?.maskList).toEqual([INITIATOR]);
  });

  it('45. the reserve list survives a restart', async () => {
    await server.ask(reserve([INITIATOR, OTHER]));
    await restart();
    const view = (await server.ask(reserveRequest(ReserveCommand.read, []))) as DataView;
    expect(readReserveList(view, 0, view.byteLength)).toEqual([INITIATOR, OTHER]);
  });

  it('45. a fence is on disk before it is confirmed', async () => {
    await server.ask(reserve([INITIATOR]));
    expect((await onDisk())['reserveList']).toEqual(['02:00:00:00:00:01']);
    await server.ask(editMask(MacMaskDirective.add, INITIATOR));
    expect((await onDisk())['maskList']).toEqual(['02:00:00:00:00:01']);
  });
});
