import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { stringify, type TomlTable } from 'smol-toml';
import { addressOf } from '../../src/aoe/codec/header.ts';
import { StateStore } from '../../src/aoe/state-store.ts';
import { TargetTable } from '../../src/aoe/target-table.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import type { Config, TargetConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { Limits } from '../../src/core/limits.ts';
import { LiveTargets } from '../../src/live-targets.ts';
import { native } from '../../src/native.ts';
import { planReload } from '../../src/reload-plan.ts';
import { ServedTargets } from '../../src/served-targets.ts';

/** The targets of a server in this process, without a network. */
export class LiveServer implements AsyncDisposable {
  /** Messages of warnings and errors, so far. */
  readonly log: string[];
  readonly targets: ServedTargets;
  readonly live: LiveTargets;
  /** Those that get requests. */
  readonly table = new TargetTable();
  /** What writes wait for that find no room in a store. */
  roomMade = Promise.resolve(false);
  readonly #io = new FileIo(Limits.requestCount + Limits.targetCount);
  readonly #directory: string;
  readonly #state: StateStore;
  #config: Config;

  /** @param directory what paths are relative to; it has the state, too */
  static async start(directory: string, targets: TomlTable[]): Promise<LiveServer> {
    const state = await StateStore.open(join(directory, 'state'), native.lockFile);
    const server = new LiveServer(directory, targets, state);
    try {
      await server.targets.open(server.#config.targets);
      await server.targets.remember();
      await server.targets.serve([]);
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(directory: string, targets: TomlTable[], state: StateStore) {
    this.#directory = directory;
    this.#state = state;
    this.#config = this.read(targets);
    // Requests without data name the first memory, which a server has from the start.
    this.#io.registerMemory(new ArrayBuffer(1));
    this.log = [];
    const log = loggerTo(this.log);
    this.targets = new ServedTargets({
      table: this.table,
      share: { index: 0, count: 1 },
      services: {
        ...{ io: this.#io, state, server: this.#config.server },
        makeRoom: () => this.roomMade,
      },
      log,
      announce: () => {},
    });
    this.live = new LiveTargets([{ targets: this.targets }], log);
  }

  async reload(targets: TomlTable[]): Promise<void> {
    const next = this.read(targets);
    const change = planReload(this.#config, next);
    await this.live.refuseMovedStorage(this.#config.targets, change);
    await this.live.change(change);
    this.#config = next;
  }

  drain(name: string): Promise<number[]> {
    return this.live.drain([addressOf(this.#find(name))]);
  }

  resume(name: string): Promise<void> {
    return this.live.resume([addressOf(this.#find(name))]);
  }

  readd(name: string): Promise<void> {
    return this.live.readd(this.#find(name));
  }

  /** Each target's size, and whether it is silent. */
  status(): [name: string, sizeBytes: number, state: 'served' | 'drained'][] {
    return Array.from(this.targets.status(), ({ name, sizeBytes, drained }) => {
      return [name, sizeBytes, drained ? 'drained' : 'served'];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.targets.closeAll();
    this.#io.close();
    await this.#state.close();
  }

  /** A configuration of the server with other targets. */
  read(target: TomlTable[]): Config {
    const text = stringify({ server: { interfaces: ['aoe0'], state_dir: 'state' }, target });
    return parseConfig(text, join(this.#directory, 'aoe-server.toml'), {});
  }

  #find(name: string): TargetConfig {
    const target = this.#config.targets.find((one) => one.name === name);
    if (target === undefined) throw new Error(`no target ${name}`);
    return target;
  }
}

function loggerTo(messages: string[]): Logger {
  const write = (line: string) => messages.push(JSON.parse(line).msg);
  return pino({ level: 'warn' }, { write });
}
