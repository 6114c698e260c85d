/** The checked configuration, as the rest of the program sees it. */
import assert from 'node:assert';
import { join, resolve } from 'node:path';
import type { MacAddress } from '../net/ethernet.ts';
import { type ListenAddress, parseListenAddress } from '../net/listen-address.ts';
import { CAS_BLOCK_SIZE } from './backend-schema.ts';
import type { ConfigProblem } from './problem.ts';
import type { ConfigDocument, LogLevel, TargetTable } from './schema.ts';

export interface Config {
  /** The file it was read from, absolute. */
  readonly path: string;
  readonly server: ServerConfig;
  /** In the order of the file; never empty, addresses are unique. */
  readonly targets: readonly TargetConfig[];
  /** What works, but hardly as meant. */
  readonly warnings: readonly ConfigProblem[];
}

export interface ServerConfig {
  /** Names of network interfaces: at least one, all different. */
  readonly interfaces: readonly string[];
  readonly logLevel: LogLevel;
  /** Absolute. */
  readonly stateDir: string;
  /** The control socket; absolute. */
  readonly controlPath: string;
  /** Where metrics are besides; a path is absolute. */
  readonly metrics: ListenAddress | undefined;
  /** Where browsers are shown the server; a path is absolute. */
  readonly dashboard: ListenAddress | undefined;
  /** Requests that one initiator may have in flight to one target. */
  readonly bufferCount: number;
  /** Most sectors in one frame; undefined to choose from the MTU. */
  readonly maxSectors: number | undefined;
  /** Initiators that are answered at all; empty for any. */
  readonly allow: readonly MacAddress[];
  /** Microseconds to look for the next frame before sleeping; 0 for never. */
  readonly spinUs: number;
  /** Threads that serve. */
  readonly workers: number;
  /** Who to become once everything is open; undefined to stay who we are. */
  readonly user: string | undefined;
}

export interface TargetConfig {
  /** What Linux initiators call it: `e<shelf>.<slot>`. */
  readonly name: string;
  readonly shelf: number;
  readonly slot: number;
  /** At most 1024 bytes in UTF-8. */
  readonly configString: string;
  readonly readOnly: boolean;
  readonly writeCache: boolean;
  /** Initiators that are answered, of those that the server allows; empty for all of them. */
  readonly allow: readonly MacAddress[];
  readonly backend: BackendConfig;
}

export type BackendConfig =
  | FileBackendConfig
  | DeviceBackendConfig
  | MemoryBackendConfig
  | CasBackendConfig;

export interface FileBackendConfig {
  readonly type: 'file';
  /** Absolute. */
  readonly path: string;
  /** Size of the whole image; undefined to take it as it is. */
  readonly sizeBytes: number | undefined;
  /** First byte of the target in the image. */
  readonly offsetBytes: number;
  /** Bytes of the target; undefined for all up to the end of the image. */
  readonly lengthBytes: number | undefined;
  readonly direct: boolean;
}

export interface DeviceBackendConfig {
  readonly type: 'device';
  /** Absolute. */
  readonly path: string;
  readonly direct: boolean;
}

export interface MemoryBackendConfig {
  readonly type: 'memory';
  readonly sizeBytes: number;
}

export interface CasBackendConfig {
  readonly type: 'cas';
  /** Undefined exactly when there is a root. */
  readonly sizeBytes: number | undefined;
  /** Name or root hash of the snapshot to serve; undefined for a volume. */
  readonly root: string | undefined;
  readonly blobStore: FileStoreConfig | RemoteStoreConfig;
}

interface AnyStoreConfig {
  /** Of its directory on this machine, absolute. */
  readonly path: string;
  /** Memory for its dedup index; undefined for the default. */
  readonly indexMemoryBytes: number | undefined;
}

export interface FileStoreConfig extends AnyStoreConfig {
  readonly type: 'file';
}

/** A store that is kept in a blob store as well. */
export interface RemoteStoreConfig extends AnyStoreConfig {
  readonly type: 's3' | 'azure';
  /** undefined for the service's own. */
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly bucket: string;
  /** What the names of all blobs begin with. */
  readonly prefix: string;
  readonly durability: 'local' | 'remote';
  /** Id of a lost server whose store this is now. */
  readonly takeOver: string | undefined;
  /** What stays on this machine; undefined for all. */
  readonly cacheSizeBytes: number | undefined;
  /** Log that may be on this machine only; undefined for any. */
  readonly lagBytesMax: number | undefined;
}

/** The environment variables that a configuration depends on. */
export interface ConfigEnvironment {
  /** Set by systemd for a unit with StateDirectory=; directories separated by colons. */
  readonly STATE_DIRECTORY?: string | undefined;
}

const STATE_DIR_DEFAULT = '/var/lib/aoe-server';

/** @param directory what relative paths are relative to */
export function toServerConfig(
  server: ConfigDocument['server'],
  directory: string,
  environment: ConfigEnvironment,
): ServerConfig {
  const [systemdStateDir] = environment.STATE_DIRECTORY?.split(':') ?? [];
  const stateDir = resolve(directory, server.state_dir ?? (systemdStateDir || STATE_DIR_DEFAULT));
  const interfaces = server.interfaces ?? [server.interface];
  return {
    interfaces: interfaces.filter((name) => name !== undefined),
    logLevel: server.log_level,
    stateDir,
    controlPath: resolve(directory, server.control ?? join(stateDir, 'control.sock')),
    metrics: toListenAddress(server.metrics, directory),
    dashboard: toListenAddress(server.dashboard, directory),
    bufferCount: server.buffer_count,
    maxSectors: server.max_sectors,
    allow: server.allow,
    spinUs: server.spin_us,
    workers: server.workers,
    user: server.user,
  };
}

function toListenAddress(text: string | undefined, directory: string) {
  const address = text === undefined ? undefined : parseListenAddress(text);
  if (address === undefined || !('path' in address)) return address;
  return { path: resolve(directory, address.path) };
}

/** @param directory what relative paths are relative to */
export function toTargetConfig(target: TargetTable, directory: string): TargetConfig {
  return {
    name: targetName(target.shelf, target.slot),
    shelf: target.shelf,
    slot: target.slot,
    configString: target.config_string,
    readOnly: target.read_only || target.cas?.root !== undefined,
    writeCache: target.write_cache,
    allow: target.allow,
    backend: toBackendConfig(target, directory),
  };
}

export function targetName(shelf: number, slot: number): string {
  return `e${shelf}.${slot}`;
}

/** The schema has seen to it that the table of the chosen backend is there. */
function toBackendConfig(target: TargetTable, directory: string): BackendConfig {
  switch (target.backend) {
    case 'file': {
      assert(target.file);
      const { path, size, offset, length, direct } = target.file;
      return {
        type: 'file',
        path: resolve(directory, path),
        sizeBytes: size,
        offsetBytes: offset,
        lengthBytes: length,
        direct,
      };
    }
    case 'device': {
      assert(target.device);
      const { path, direct } = target.device;
      return { type: 'device', path: resolve(directory, path), direct };
    }
    case 'memory': {
      assert(target.memory);
      return { type: 'memory', sizeBytes: target.memory.size };
    }
    case 'cas': {
      assert(target.cas);
      const { total_sectors = 0, size, root, blob_store } = target.cas;
      const sizeBytes = size ?? total_sectors * CAS_BLOCK_SIZE;
      return {
        type: 'cas',
        sizeBytes: root === undefined ? sizeBytes : undefined,
        root,
        blobStore: toStoreConfig(blob_store, directory),
      };
    }
  }
}

function toStoreConfig(
  store: NonNullable<TargetTable['cas']>['blob_store'],
  directory: string,
): FileStoreConfig | RemoteStoreConfig {
  const path = resolve(directory, store.path);
  const indexMemoryBytes = store.index_memory;
  const { type, bucket = '', prefix = '', endpoint, region, durability = 'local' } = store;
  if (type === 'file') return { type, path, indexMemoryBytes };
  return {
    type,
    path,
    indexMemoryBytes,
    endpoint,
    region,
    bucket,
    prefix,
    durability,
    takeOver: store.take_over,
    cacheSizeBytes: store.cache_size,
    lagBytesMax: store.lag_max,
  };
}
