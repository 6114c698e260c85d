import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { describeWith, disposeAll, run } from '../support/tools.ts';
import { compile, EFFORT, MIB, SECTOR_SIZE, Setup, TOOLS } from './setup.ts';

vi.setConfig({ testTimeout: 120_000 * EFFORT });

const FRAMES = 100_000 * EFFORT;
/** Those that a server under sanitizers is sent: ten million with an effort of 25. */
const SANITIZED_FRAMES = 400_000 * EFFORT;
const SIZE = 8 * MIB;
const SANITIZED_ADDON = join(import.meta.dirname, '../../build-asan/Release/aoe_native.node');

const TARGETS = [{ shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: SIZE } }];

let setup: Setup;

/** What makes the server's process load the addon that was built with sanitizers. */
async function sanitizerEnvironment(): Promise<Record<string, string>> {
  const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
    run('gcc', [`-print-file-name=${name}`]),
  );
  const paths = (await Promise.all(libraries)).map((path) => path.trim());
  return {
    AOE_SERVER_ADDON: SANITIZED_ADDON,
    LD_PRELOAD: paths.join(':'),
    // Node itself leaks at its end.
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
  };
}

async function flood(frames: number): Promise<void> {
  const tool = await compile('flood');
  const seed = process.env['AOE_FAULTS_SEED'] ?? `${Date.now()}`;
  const args = [`${frames}`, seed, '1.0', ...setup.initiatorInterfaces];
  const timeoutMs = 110_000 * EFFORT;
  const { stdout, output } = await setup.initiatorNetwork.tryRun(tool, args, { timeoutMs });
  expect(stdout, `seed ${seed}: ${output}\n${setup.server.logText()}`).toMatch(/^{/);
  const report = JSON.parse(stdout);
  expect(report, `seed ${seed}: ${output}`).toMatchObject({ wrong: 0 });
  // Every way through the server was taken.
  for (const way of ['succeeded', 'failed', 'refused'] as const) {
    expect(report[way]).toBeGreaterThan(frames / 1000);
  }
  const image = await readFile(setup.join('disk.img'));
  expect(image.length).toBe(SIZE);
  expect(image.equals(Buffer.alloc(SIZE)), `seed ${seed}: something was written`).toBe(true);
  expect(await setup.verify('1.0', '-t', 1, '-s', SIZE / SECTOR_SIZE)).toMatchObject({ wrong: 0 });
  expect(await setup.server.stop()).toBe(0);
}

describeWith([...TOOLS, 'gcc'], 'a server that is sent nonsense', () => {
  afterEach(async () => {
    vi.unstubAllEnvs();
    await disposeAll(setup);
  });

  for (const mtu of [1500, 9000]) {
    it(`writes nothing and says nothing that it should not, with an MTU of ${mtu}`, async () => {
      setup = await Setup.create({ mtu });
      await setup.start(TARGETS);
      await flood(FRAMES);
    });
  }

  it.skipIf(!existsSync(SANITIZED_ADDON))('touches no memory that is not its own', async () => {
    setup = await Setup.create({ mtu: 1500 });
    for (const [name, value] of Object.entries(await sanitizerEnvironment())) {
      vi.stubEnv(name, value);
    }
    const starting = setup.start(TARGETS);
    await starting.finally(() => vi.unstubAllEnvs());
    await flood(SANITIZED_FRAMES);
  });
});
