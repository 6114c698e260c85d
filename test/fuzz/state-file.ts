/** Any bytes in the place of a target's state file, and what a server makes of them at its start. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type SavedTarget, StateStore } from '../../src/aoe/state-store.ts';
import { CONFIG_STRING_BYTES_MAX, LIST_LENGTH_MAX } from '../../src/aoe/target-state.ts';
import { StartupError } from '../../src/core/startup-error.ts';
import type { Target } from './loop.ts';

/** In memory: it is written for each input. */
const directory = mkdtempSync('/dev/shm/aoe-fuzz-');
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
const path = join(directory, 'e1.0.json');
const store = StateStore.attach(directory);

const VALID = {
  version: 1,
  sizeBytes: 1048576,
  configString: 'YW9lLWRpc2stMQ==',
  maskList: ['02:00:00:00:00:01'],
  reserveList: ['02-00-00-00-00-0A', '02:00:00:00:00:03'],
};

export const stateFile: Target = {
  seeds: [
    VALID,
    { ...VALID, configString: '', maskList: [], reserveList: [] },
    { ...VALID, configString: undefined },
    {},
    [],
  ].map((value) => Buffer.from(JSON.stringify(value))),

  words: [
    ...Object.entries(VALID).map(([name, value]) => `"${name}":${JSON.stringify(value)},`),
    ...['null', '""', '[]', '{}', '"__proto__":{}', '1e308', '-1', '9007199254740993', '\\u0000'],
    ...['"02:00:00:00:00:01",', '=', '\ufeff'],
  ].map((word) => Buffer.from(word)),

  async fuzz(input: Buffer): Promise<string[]> {
    writeFileSync(path, input);
    const loaded = await store.load('e1.0').catch(asRefusal);
    if (typeof loaded === 'string') {
      // It is left as it was found.
      assert.ok(readFileSync(path).equals(input));
      return [loaded];
    }
    assert.ok(loaded !== undefined);
    expectSound(loaded);
    await store.save('e1.0', loaded);
    assert.deepEqual(await store.load('e1.0'), loaded);
    return [`${loaded.maskList.length} ${loaded.reserveList.length}`];
  },
};

/** What kinds of mistakes a file has, and where. */
function asRefusal(error: unknown): string {
  if (!(error instanceof StartupError)) throw error;
  // The operator is told which file it is.
  assert.ok(error.message.includes(path));
  return [...new Set(error.message.match(/✖ \w+ \w+|→ at \w+|SyntaxError/g))].join();
}

function expectSound({ sizeBytes, configString, maskList, reserveList }: SavedTarget): void {
  assert.ok(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0);
  assert.ok((configString?.length ?? 0) <= CONFIG_STRING_BYTES_MAX);
  for (const list of [maskList, reserveList]) {
    assert.ok(list.length <= LIST_LENGTH_MAX);
    assert.ok(list.every((mac) => Number.isInteger(mac) && mac >= 0 && mac < 2 ** 48));
  }
}
