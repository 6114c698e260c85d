/** The servers that are compared. Each is started anew for every workload. */
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { askSocket } from '../src/cli/control-client.ts';
import type { ServerStatus } from '../src/status.ts';
import { ROOT, SHELF } from './load.ts';
import { type Place, run, ServerProcess } from './process.ts';
import type { Workload } from './workloads.ts';

export const AOE_SERVER = join(ROOT, 'dist/cli/main.js');
const BUFFER_COUNT = 64;
/** Of a shelf; slot 255 is all of them. */
const SLOT_COUNT = 255;
const IMPORT_MS_MAX = 300_000;

/** Until V8 has compiled what runs often: the first seconds are slower by half. */
const COMPILING_SECONDS = 5;

/** What finds a server among those that run. */
export interface ServerHome {
  interfaceName: string;
  /** For configuration and programs. */
  directory: string;
}

export interface StartOptions extends ServerHome {
  place: Place;
  workload: Workload;
  /** One for each target: slot 0, 1, ... of the shelf, and on in the next ones. */
  images: readonly string[];
}

/** Frames that a server has dropped since it was started. Not a number where it does not tell. */
export interface Drops {
  /** They found no room in the receive ring. */
  ring_full: number;
  /** Too many requests were in flight, to one target or to all. */
  overload: number;
}

export interface Server {
  name: string;
  /** Under load from its start, until it is as fast as it gets. */
  settlingSeconds: number;
  needsImages: boolean;
  /** Can it do this workload, and is the comparison worth its time? */
  suits(workload: Workload): boolean;
  start(options: StartOptions): Promise<ServerProcess[]>;
  drops(home: ServerHome): Promise<Drops>;
}

function aoeServer(name: string, workers: number): Server {
  return {
    name,
    settlingSeconds: COMPILING_SECONDS,
    needsImages: true,
    suits: () => true,
    async start(options) {
      const configPath = await writeConfig(options, workers);
      return [new ServerProcess(options.place, process.execPath, [AOE_SERVER, configPath])];
    },
    drops: askDrops,
  };
}

/** One process for each target: it knows no other way. */
const vblade: Server = {
  name: 'vblade',
  settlingSeconds: 0.5,
  needsImages: true,
  suits: () => true,
  async start({ place, interfaceName, workload, images }) {
    const flags = ['-b', `${BUFFER_COUNT}`];
    if (workload.writes === 'durable') flags.push('-s');
    if (workload.direct) flags.push('-d');
    return images.map((image, slot) => {
      const args = [...flags, `${SHELF}`, `${slot}`, interfaceName, image];
      return new ServerProcess(place, 'vblade', args);
    });
  },
  drops: unknownDrops,
};

/** @param flags of reflector.c */
function reflector(name: string, flags: readonly string[]): Server {
  return {
    name,
    settlingSeconds: 0.5,
    needsImages: false,
    // It keeps nothing: there is nothing to verify, and no floor where storage decides.
    suits: ({ mode, storage }) => mode !== 'verify' && storage === 'tmpfs',
    async start({ place, interfaceName, directory }) {
      return [new ServerProcess(place, join(directory, 'reflector'), [...flags, interfaceName])];
    },
    drops: unknownDrops,
  };
}

/** The reflector with an image: the least that a server does, all of it in C. */
const inC: Server = {
  name: 'in-c',
  settlingSeconds: 0.5,
  needsImages: true,
  // It knows one image, and promises nothing of what is written.
  suits: ({ storage, targets, mode }) => storage === 'tmpfs' && targets === 1 && mode !== 'verify',
  async start({ place, interfaceName, images, directory }) {
    const args = ['--ring', '--image', `${images[0]}`, interfaceName];
    return [new ServerProcess(place, join(directory, 'reflector'), args)];
  },
  drops: unknownDrops,
};

/** aoe-server with a content-addressed store, into which the images are imported anew. */
const cas: Server = {
  name: 'cas',
  settlingSeconds: COMPILING_SECONDS,
  needsImages: true,
  suits: ({ direct, cold }) => !direct && !cold,
  async start(options) {
    const { images, place } = options;
    const store = `${images[0]}.store`;
    await rm(store, { recursive: true, force: true });
    for (const [slot, image] of images.entries()) {
      const args = [AOE_SERVER, 'import', image, store, `e${SHELF}.${slot}`];
      await run(process.execPath, args, { timeoutMs: IMPORT_MS_MAX });
    }
    const sizes = await Promise.all(images.map(async (image) => (await stat(image)).size));
    const configPath = await writeConfig(options, 1, (slot) => ({
      backend: 'cas',
      cas: { size: `${sizes[slot]}`, blob_store: { type: 'file', path: store } },
    }));
    return [new ServerProcess(place, process.execPath, [AOE_SERVER, configPath])];
  },
  drops: askDrops,
};

export const SERVERS: readonly Server[] = [
  aoeServer('aoe-server', 1),
  aoeServer('two-workers', 2),
  cas,
  vblade,
  inC,
  reflector('reflector', []),
  reflector('reflector-ring', ['--ring']),
];

/** @returns the path of a configuration that serves the images */
export async function writeConfig(
  options: StartOptions,
  workers = 1,
  backendOf: (index: number) => object = (index) => fileBackend(options, index),
): Promise<string> {
  const { workload, interfaceName, images, directory } = options;
  const stateDir = stateDirOf(options);
  // It holds what initiators have seen, and they have not seen these images.
  await rm(stateDir, { recursive: true, force: true });
  await mkdir(stateDir);
  const config = {
    server: {
      interface: interfaceName,
      log_level: 'warn',
      state_dir: stateDir,
      buffer_count: BUFFER_COUNT,
      workers,
    },
    target: images.map((_, index) => ({
      shelf: SHELF + Math.floor(index / SLOT_COUNT),
      slot: index % SLOT_COUNT,
      write_cache: workload.writes === 'cached',
      ...backendOf(index),
    })),
  };
  const configPath = join(directory, `${interfaceName}.toml`);
  await writeFile(configPath, stringify(config));
  return configPath;
}

/** Gets what aoe-server tells at a path of its control socket. @throws {Error} it does not */
export function askServer(home: ServerHome, path: string): Promise<unknown> {
  return askSocket(join(stateDirOf(home), 'control.sock'), 'GET', path);
}

async function askDrops(home: ServerHome): Promise<Drops> {
  const { links, frames } = (await askServer(home, '/v1/status')) as ServerStatus;
  return { ring_full: links[0]?.counters?.dropped ?? Number.NaN, overload: frames.overload };
}

async function unknownDrops(): Promise<Drops> {
  return { ring_full: Number.NaN, overload: Number.NaN };
}

function stateDirOf({ directory, interfaceName }: ServerHome): string {
  return join(directory, `state-${interfaceName}`);
}

function fileBackend({ workload, images }: StartOptions, index: number): object {
  return { backend: 'file', file: { path: images[index], direct: workload.direct } };
}

/** The command line of aoe-server, for a process that is observed from within. */
export function aoeServerArgs(configPath: string, nodeFlags: readonly string[]): string[] {
  return [...nodeFlags, AOE_SERVER, configPath];
}
