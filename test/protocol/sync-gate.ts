import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../support/tools.ts';

/**
 * Decides when, and whether, what a server syncs becomes durable. Servers started between
 * `create` and disposal obey it.
 */
export class SyncGate implements AsyncDisposable {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(): Promise<SyncGate> {
    const directory = await mkdtemp('/var/tmp/aoe-sync-gate-');
    const library = join(directory, 'sync-gate.so');
    const source = join(import.meta.dirname, 'sync-gate.c');
    await run('gcc', ['-O1', '-shared', '-fPIC', '-o', library, source, '-ldl']);
    process.env['LD_PRELOAD'] = library;
    process.env['SYNC_GATE'] = directory;
    return new SyncGate(directory);
  }

  /** Syncs wait. */
  shut(): Promise<void> {
    return writeFile(join(this.#directory, 'shut'), '');
  }

  /** Syncs that wait go on. */
  open(): Promise<void> {
    return rm(join(this.#directory, 'shut'));
  }

  /** Syncs fail. */
  break(): Promise<void> {
    return writeFile(join(this.#directory, 'broken'), '');
  }

  /** Syncs succeed again. */
  mend(): Promise<void> {
    return rm(join(this.#directory, 'broken'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    delete process.env['LD_PRELOAD'];
    delete process.env['SYNC_GATE'];
    await rm(this.#directory, { recursive: true, force: true });
  }
}
