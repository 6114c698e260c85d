import { readFileSync, realpathSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import type { BackendConfig, Config, TargetConfig } from '../config/config.ts';
import { readConfig } from '../config/load.ts';
import { formatProblem } from '../config/problem.ts';
import { formatSize } from '../config/size.ts';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { formatTable } from './table.ts';

/**
 * Prints what a configuration would serve; its warnings go to standard error.
 *
 * @throws {ConfigError} the configuration is wrong; @throws {StartupError} storage hangs
 */
export async function check(path: string): Promise<void> {
  // Loaded on demand: the other commands work where the native addon does not.
  const { parseAnswering } = await import('../hanging-storage.ts');
  const config = await parseAnswering(readConfig(path), path);
  for (const warning of config.warnings) {
    console.error(`warning: ${formatProblem(path, warning)}`);
  }
  console.log(describeConfig(config));
}

function describeConfig({ server, targets }: Config): string {
  const serverTable = formatTable([
    ['interfaces', server.interfaces.join(', ')],
    ['state', server.stateDir],
  ]);
  const targetTable = formatTable([
    ['TARGET', 'BACKEND', 'SIZE', 'MODE', 'CONFIG STRING', 'PATH'],
    ...targets.map((target) => [
      target.name,
      target.backend.type,
      describeSize(target.backend),
      describeMode(target),
      JSON.stringify(target.configString),
      describePlace(target.backend),
    ]),
  ]);
  return `${serverTable}\n\n${targetTable}`;
}

function describeMode({ readOnly, writeCache }: TargetConfig): string {
  if (readOnly) return 'read-only';
  return writeCache ? 'write cache' : 'read-write';
}

function describePlace(backend: BackendConfig): string {
  switch (backend.type) {
    case 'file':
      return backend.offsetBytes === 0
        ? backend.path
        : `${backend.path} from ${formatSize(backend.offsetBytes)}`;
    case 'device':
      return backend.path;
    case 'memory':
      return '-';
    case 'cas': {
      const { blobStore, root } = backend;
      return root === undefined ? blobStore.path : `${blobStore.path} at ${root}`;
    }
  }
}

function describeSize(backend: BackendConfig): string {
  try {
    const sizeBytes = measure(backend);
    if (sizeBytes === undefined) return 'stored';
    return sizeBytes < 0 ? 'too short' : formatSize(sizeBytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'missing' : 'unknown';
  }
}

/** An image is made, or extended, to its configured size, and never cut. */
function measureImage(path: string, sizeBytes: number | undefined): number {
  if (sizeBytes === undefined) return statSync(path).size;
  return Math.max(sizeBytes, statSync(path, { throwIfNoEntry: false })?.size ?? 0);
}

/**
 * @returns the size of the target in bytes, below 0 where an image ends before its offset; undefined
 *   when only its store knows
 * @throws when the storage is needed to tell and is not there
 */
function measure(backend: BackendConfig): number | undefined {
  switch (backend.type) {
    case 'file': {
      const { path, sizeBytes, offsetBytes, lengthBytes } = backend;
      if (lengthBytes !== undefined) return lengthBytes;
      return measureImage(path, sizeBytes) - offsetBytes;
    }
    case 'device': {
      const name = basename(realpathSync(backend.path));
      const sectorCount = Number(readFileSync(`/sys/class/block/${name}/size`, 'utf8'));
      return sectorCount * SECTOR_SIZE;
    }
    case 'memory':
    case 'cas':
      return backend.sizeBytes;
  }
}
