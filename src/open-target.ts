/** From a target's configuration to a target: storage, layers, disk, protocol state. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { AoeTarget } from './aoe/aoe-target.ts';
import { AtaDisk, type DiskIdentity } from './aoe/ata/ata-disk.ts';
import type { SavedTarget, StateStore } from './aoe/state-store.ts';
import type { FileIo } from './backends/file-io.ts';
import { openBackend, tryBackend } from './backends/index.ts';
import { sizeOf } from './config/compare.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import { type BlockDevice, BlockOp } from './core/block-device.ts';
import { BlockStatus } from './core/block-error.ts';
import { CheckedDevice } from './core/checked-device.ts';
import { CommittedDevice } from './core/committed-device.ts';
import { CountedDevice } from './core/counted-device.ts';
import type { Distribution, Histogram } from './core/histogram.ts';
import { OrderedDevice } from './core/ordered-device.ts';
import { StartupError } from './core/startup-error.ts';
import { formatMacAddress } from './net/ethernet.ts';
import type { TargetStatus } from './status.ts';
import { VERSION } from './version.ts';

/** What initiators keep disk contents in. */
const PAGE_BYTES = 4096;

export interface TargetServices {
  readonly io: FileIo;
  readonly state: StateStore;
  readonly server: ServerConfig;
  /** A request index for the target's own flushes. */
  readonly flushIndex: number;
  /**
   * The size of the target that this one replaces, whose storage must be there; undefined when
   * there is none, and the state directory tells what initiators have seen.
   */
  readonly seenBytes: number | undefined;
  /** Has an initiator switched the write cache of the target that this one replaces off? */
  readonly cacheSwitchedOff: boolean;
  readonly log: Logger;
  /** Called when writes to a store wait for room. @returns whether there is some now */
  makeRoom(storePath: string): Promise<boolean>;
  /** Tells all initiators that the target has changed. */
  announce(target: AoeTarget): void;
}

/** A target, and what there is to tell about it. */
export interface OpenedTarget {
  readonly config: TargetConfig;
  readonly target: AoeTarget;
  /** Is its size not the one that is remembered? */
  readonly isGrown: boolean;
  /**
   * Makes all writes durable. None that was acknowledged waits for it once the target has failed.
   *
   * @throws {StartupError} it has failed right now
   */
  flush(): Promise<void>;
  /** Has an initiator switched the write cache off, and none on again? */
  isCacheSwitchedOff(): boolean;
  /** @param drained is it kept silent? */
  status(drained: boolean): TargetStatus;
}

/**
 * Opens a target.
 *
 * @throws {StartupError} its storage cannot be opened as configured, or has shrunk
 */
export async function openTarget(
  config: TargetConfig,
  services: TargetServices,
): Promise<OpenedTarget> {
  const { seenBytes, log } = services;
  if (seenBytes !== undefined) tryTarget(config, seenBytes);
  const saved = await services.state.load(config.name);
  const storage = await openBackend(config.backend, {
    io: services.io,
    name: config.name,
    readOnly: config.readOnly,
    controlPath: services.server.controlPath,
    makeRoom: services.makeRoom,
    onMissing: (what) => {
      if (seenBytes !== undefined) throw replacedByNothing(what);
      if (saved !== undefined) log.warn(`${what}: an empty one is made of a disk initiators know`);
    },
    onTrouble: (problem, error) => log.error(error, problem),
  });
  try {
    return await buildTarget(config, services, storage, saved);
  } catch (error) {
    await storage.close();
    throw error;
  }
}

/**
 * Looks whether a target can be opened whose storage is there, and may be in use, as far as that
 * can be seen.
 *
 * @param seenBytes the size that initiators have seen
 * @returns whether it would be larger
 * @throws {StartupError} it could not be opened, or has shrunk
 */
export function tryTarget(config: TargetConfig, seenBytes: number): boolean {
  const sizeBytes = tryBackend(config.backend, config.readOnly);
  if (sizeBytes !== undefined) requireNotShrunk(config, sizeBytes, seenBytes);
  return Math.max(sizeBytes ?? 0, sizeOf(config.backend) ?? 0) > seenBytes;
}

async function buildTarget(
  config: TargetConfig,
  services: TargetServices,
  storage: BlockDevice,
  saved: SavedTarget | undefined,
): Promise<OpenedTarget> {
  const { state, server, log } = services;
  requireNotShrunk(config, storage.sizeBytes, services.seenBytes ?? saved?.sizeBytes ?? 0);
  if (storage.sizeBytes % PAGE_BYTES !== 0) {
    log.warn(
      { sizeBytes: storage.sizeBytes },
      `the size is no multiple of ${PAGE_BYTES}: Linux initiators will use single sectors`,
    );
  }
  warnOfLargerVolume(config, storage.sizeBytes, log);
  const configured = new TextEncoder().encode(config.configString);
  let { cacheSwitchedOff } = services;
  const writeCache = config.writeCache && !cacheSwitchedOff;
  const committed = new CommittedDevice(storage, writeCache, services.flushIndex, () =>
    log.error('a flush failed: the target takes no more writes until it is opened anew'),
  );
  // By the clock of arrivals; how long it is served is told by one that nobody sets.
  const sinceUs = Date.now() * 1000;
  const ordered = new OrderedDevice(committed, sinceUs);
  const openedMs = performance.now();
  const device = new CountedDevice(new CheckedDevice(ordered));
  const disk = new AtaDisk({
    device,
    identity: identityOf(config.name),
    writeCache: {
      supported: config.writeCache,
      get enabled() {
        return committed.writeCache;
      },
      set enabled(on: boolean) {
        committed.writeCache = on;
        cacheSwitchedOff = !on;
      },
    },
    sinceUs,
    health: () => ({
      failed: committed.failed,
      failures: device.counters.failures,
      servedMs: performance.now() - openedMs,
    }),
    onGrown: async (sizeBytes) => {
      // No flush of it succeeds any more: a power cut may undo that it has grown.
      if (committed.failed) throw flushFailed(config);
      await flush(config, committed);
      await target.grown(sizeBytes);
    },
  });
  const target = new AoeTarget({
    name: config.name,
    shelf: config.shelf,
    slot: config.slot,
    device,
    disk,
    state: {
      ...{ maskList: [], reserveList: [], ...saved },
      configString: saved?.configString ?? configured,
    },
    allow: new Set(config.allow),
    bufferCount: server.bufferCount,
    maxSectors: server.maxSectors,
    sinceUs,
    // Until an initiator has set another string, the configured one counts, also a later one.
    save: ({ configString, ...next }) =>
      state.save(config.name, configString === configured ? next : { ...next, configString }),
    announce: services.announce,
    log,
  });
  return {
    config,
    target,
    isGrown: saved?.sizeBytes !== storage.sizeBytes,
    flush: () => flush(config, committed),
    isCacheSwitchedOff: () => cacheSwitchedOff,
    status: (drained) => ({ ...statusOf(config, target, device, committed), drained }),
  };
}

async function flush(config: TargetConfig, committed: CommittedDevice): Promise<void> {
  if (committed.failed || committed.capabilities.readOnly) return;
  if ((await committed.flush()) !== BlockStatus.ok) throw flushFailed(config);
}

function flushFailed({ name }: TargetConfig): StartupError {
  return new StartupError(
    `a flush of ${name} failed, so that it cannot take writes any more`,
    'put its storage right, then try again',
  );
}

function statusOf(
  config: TargetConfig,
  target: AoeTarget,
  device: CountedDevice,
  committed: CommittedDevice,
): Omit<TargetStatus, 'drained'> {
  const { configString, maskList, reserveList } = target.state;
  return {
    name: config.name,
    shelf: config.shelf,
    slot: config.slot,
    sizeBytes: device.sizeBytes,
    backend: config.backend.type,
    readOnly: device.capabilities.readOnly,
    writeCache: committed.writeCache,
    failed: committed.failed,
    inFlight: target.inFlight,
    lastAccess: target.lastAccessUs === 0 ? null : formatTime(target.lastAccessUs),
    configString: new TextDecoder().decode(configString),
    allow: config.allow.map(formatMacAddress),
    maskList: maskList.map(formatMacAddress),
    reserveList: reserveList.map(formatMacAddress),
    reservationConflicts: target.reservationConflicts,
    counters: { ...device.counters },
    latencyUs: {
      read: latencyOf(target, BlockOp.read),
      write: latencyOf(target, BlockOp.write),
      flush: latencyOf(target, BlockOp.flush),
      trim: latencyOf(target, BlockOp.trim),
    },
    groups: committed.groups.distribution(),
    clients: target.clients.list().map(({ mac, lastSeenUs, requests }) => ({
      mac: formatMacAddress(mac),
      lastSeen: formatTime(lastSeenUs),
      requests,
    })),
  };
}

/** @param us microseconds since the epoch */
function formatTime(us: number): string {
  return new Date(us / 1000).toISOString();
}

function latencyOf(target: AoeTarget, op: BlockOp): Distribution {
  return (target.latencies[op] as Histogram).distribution();
}

function warnOfLargerVolume({ backend }: TargetConfig, sizeBytes: number, log: Logger): void {
  const configuredBytes = backend.type === 'cas' ? backend.sizeBytes : undefined;
  if (configuredBytes === undefined || sizeBytes <= configuredBytes) return;
  log.warn(
    { sizeBytes, configuredBytes },
    'the volume is larger than configured, and served as it is: volumes never shrink',
  );
}

function replacedByNothing(what: string): StartupError {
  return new StartupError(
    `${what}, and an empty one cannot take the place of a disk that is served`,
    'see whether the path is right and its file system is mounted; to move the disk there, copy ' +
      'its content first, with aoe-server import, or cas send and receive',
  );
}

function requireNotShrunk(config: TargetConfig, sizeBytes: number, savedBytes: number): void {
  if (sizeBytes >= savedBytes) return;
  throw new StartupError(
    `${config.name} has ${sizeBytes} bytes, but initiators have seen it with ${savedBytes}`,
    'give its storage the old size back, because disks never shrink; if nobody uses it any more, ' +
      `take it out of the configuration, remove its file ${config.name}.json from the state ` +
      'directory, and add it again',
  );
}

/** The same at every start: initiators know a disk by its serial number. */
function identityOf(name: string): DiskIdentity {
  const serial = createHash('sha256').update(`aoe-server ${machineId()} ${name}`).digest('hex');
  return {
    serial: serial.slice(0, 20).toUpperCase(),
    firmware: VERSION,
    model: `aoe-server ${name}`,
  };
}

function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return hostname();
  }
}
