import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeWith, disposeAll, run, TempDirectory, tryRun } from '../support/tools.ts';

const PROGRAM = join(import.meta.dirname, 'addon.mjs');
const STEP_COUNT = 12;
/** A user with no process but ours. */
const USER = 1_000_000 + process.pid;

/** Threads and callbacks of an addon show their errors at the end: by a crash, or by no end. */
describe('the addon', () => {
  let directory: TempDirectory;
  let image: string;

  async function runProgram(...args: string[]): Promise<string> {
    const { status, stdout, output } = await tryRun(
      process.execPath,
      ['--expose-gc', PROGRAM, ...args],
      { timeoutMs: 20_000 },
    );
    if (status !== 0) throw new Error(`${args.join(' ')}: status ${status}\n${output}`);
    return stdout;
  }

  beforeAll(async () => {
    directory = await TempDirectory.create();
    image = directory.join('disk.img');
    writeFileSync(image, Buffer.alloc(1 << 20));
  });
  afterAll(() => disposeAll(directory));

  it('has as many steps as are tested', async () => {
    expect(JSON.parse(await runProgram('names'))).toHaveLength(STEP_COUNT);
  });

  for (let count = 1; count <= STEP_COUNT; count++) {
    it(`lets the program exit after ${count} steps of its life`, async () => {
      await runProgram('exit', `${count}`, image);
    });

    it(`lets a worker be terminated after ${count} steps of its life`, async () => {
      await runProgram('terminate', `${count}`, image);
    });
  }

  it('lets the program end by itself when all is closed', async () => {
    await runProgram('end', `${STEP_COUNT}`, image);
  });

  it('gives back what the garbage collector finds, open or closed', async () => {
    await runProgram('collect', image);
  });

  it('hands an error of a callback to the program, and goes on calling', async () => {
    await runProgram('throw', image);
  });
});

describeWith(['prlimit'], 'an interface, where no descriptor is to be had,', () => {
  it('is not taken for one that has gone', async () => {
    const args = ['--nofile=64', process.execPath, PROGRAM, 'lookWithoutDescriptor', 'lo'];
    expect(await tryRun('prlimit', args)).toMatchObject({ status: 0 });
  });
});

describeWith(['prlimit', 'setpriv'], 'file I/O without a thread to be had', () => {
  let directory: TempDirectory;

  beforeAll(async () => {
    directory = await TempDirectory.create();
  });
  afterAll(() => disposeAll(directory));

  /** Starts a program, takes its user the right to more threads, and tells it to go on. */
  async function runWithoutThreads(...args: string[]): Promise<unknown> {
    const command = ['--reuid', `${USER}`, '--inh-caps', '+dac_override'];
    command.push('--ambient-caps', '+dac_override', process.execPath, PROGRAM, ...args);
    const program = spawn('setpriv', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    const exited = once(program, 'exit');
    await once(program.stdout, 'data');
    const limit = ['prlimit', '--pid', `${program.pid}`, '--nproc=1:1'];
    await run('setpriv', ['--reuid', `${USER}`, ...limit]);
    program.stdin.end('go');
    return exited;
  }

  function makeImage(): string {
    const image = directory.join('disk.img');
    writeFileSync(image, '');
    truncateSync(image, 1 << 20);
    return image;
  }

  for (const what of ['flush', 'fillHole']) {
    it.each([true, false])(
      `is done by threads that are there (${what}, io_uring: %s)`,
      async (uring) => {
        expect(await runWithoutThreads(what, makeImage(), `${uring}`)).toEqual([0, null]);
      },
    );
  }

  it('is done by the caller when there has been no thread before', async () => {
    expect(await runWithoutThreads('fileTask', makeImage())).toEqual([0, null]);
  });
});
