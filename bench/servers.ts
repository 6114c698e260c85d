/** The servers that are compared. Each is started anew for every run. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { ROOT, SHELF } from './load.ts';
import { SERVER_INTERFACE } from './network.ts';
import { type Place, ServerProcess } from './process.ts';
import type { Workload } from './workloads.ts';

const AOE_SERVER = join(ROOT, 'dist/cli/main.js');
const BUFFER_COUNT = 64;

export interface StartOptions {
  place: Place;
  workload: Workload;
  /** One for each target: slot 0, 1, ... of the shelf. */
  images: readonly string[];
  /** For configuration and programs. */
  directory: string;
}

export interface Server {
  name: string;
  /** Can it do this workload, and is the comparison worth its time? */
  suits(workload: Workload): boolean;
  start(options: StartOptions): Promise<ServerProcess[]>;
}

function aoeServer(name: string, workers: number): Server {
  return {
    name,
    suits: () => true,
    async start(options) {
      const configPath = await writeConfig(options, workers);
      return [new ServerProcess(options.place, process.execPath, [AOE_SERVER, configPath])];
    },
  };
}

/** One process for each target: it knows no other way. */
const vblade: Server = {
  name: 'vblade',
  suits: () => true,
  async start({ place, workload, images }) {
    const flags = ['-b', `${BUFFER_COUNT}`];
    if (workload.writes === 'durable') flags.push('-s');
    if (workload.direct) flags.push('-d');
    return images.map((image, slot) => {
      const args = [...flags, `${SHELF}`, `${slot}`, SERVER_INTERFACE, image];
      return new ServerProcess(place, 'vblade', args);
    });
  },
};

/** @param flags of reflector.c */
function reflector(name: string, flags: readonly string[]): Server {
  return {
    name,
    // It keeps nothing: there is nothing to verify, and no floor where storage decides.
    suits: ({ mode, storage }) => mode !== 'verify' && storage === 'tmpfs',
    async start({ place, directory }) {
      return [new ServerProcess(place, join(directory, 'reflector'), [...flags, SERVER_INTERFACE])];
    },
  };
}

export const SERVERS: readonly Server[] = [
  aoeServer('aoe-server', 1),
  aoeServer('two-workers', 2),
  vblade,
  reflector('reflector', []),
  reflector('reflector-ring', ['--ring']),
];

/** @returns the path of a configuration that serves the images */
export async function writeConfig(options: StartOptions, workers = 1): Promise<string> {
  const { workload, images, directory } = options;
  const stateDir = join(directory, 'state');
  // It holds what initiators have seen, and they have not seen these images.
  await rm(stateDir, { recursive: true, force: true });
  await mkdir(stateDir);
  const config = {
    server: {
      interface: SERVER_INTERFACE,
      log_level: 'warn',
      state_dir: stateDir,
      buffer_count: BUFFER_COUNT,
      workers,
    },
    target: images.map((path, slot) => ({
      shelf: SHELF,
      slot,
      backend: 'file',
      write_cache: workload.writes === 'cached',
      file: { path, direct: workload.direct },
    })),
  };
  const configPath = join(directory, 'aoe-server.toml');
  await writeFile(configPath, stringify(config));
  return configPath;
}

/** The command line of aoe-server, for a process that is observed from within. */
export function aoeServerArgs(configPath: string, nodeFlags: readonly string[]): string[] {
  return [...nodeFlags, AOE_SERVER, configPath];
}
