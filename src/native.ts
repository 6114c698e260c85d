/**
 * The addon, typed. What each function does and who owns which memory is told in the headers
 * under `native/`.
 */
import { createRequire } from 'node:module';

interface PacketSocketOptions {
  interface: string;
  frameSizeMax: number;
  ringSize: number;
  /** Classic BPF: (code, jump if true, jump if false, operand) for each instruction. */
  filter: Uint32Array;
  slab: ArrayBuffer;
  received: Int32Array;
  arrivals: Float64Array;
  sent: Int32Array;
  outcome: Int32Array;
  sentUs: Float64Array;
}

interface PacketStatistics {
  readonly received: number;
  readonly dropped: number;
  readonly truncated: number;
}

export interface PacketSocket {
  readonly ring: ArrayBuffer;
  readonly index: number;
  readonly mtu: number;
  readonly mac: number;
  readonly loopback: boolean;
  next(sendCount: number, spinUs: number): number;
  send(sendCount: number): void;
  takeError(): number;
  statistics(): PacketStatistics;
  close(): void;
}

interface FileRingOptions {
  requestCount: number;
  rows: Int32Array;
  offsets: Float64Array;
  completions: Int32Array;
  uring: boolean;
}

export interface FileRing {
  readonly engine: 'io_uring' | 'threads';
  registerMemory(memory: ArrayBuffer): number;
  unregisterMemory(region: number): void;
  addFile(fd: number, mode: number): number;
  kick(rowCount: number): number;
  reap(): number;
  close(): void;
  abandon(): void;
}

/** All promises are of a number; a negative one is that of an error. */
export interface FileTasks {
  open(path: string, flags: number, mode: number): Promise<number>;
  close(fd: number): Promise<number>;
  flush(fd: number): Promise<number>;
  size(fd: number): Promise<number>;
  read(fd: number, bytes: Uint8Array, position: number): Promise<number>;
  write(
    fd: number,
    bytes: Uint8Array,
    length: number,
    position: number,
    flush: boolean,
  ): Promise<number>;
  allocate(fd: number, sizeBytes: number): Promise<number>;
  punch(fd: number, offset: number, length: number): Promise<number>;
  dataBytes(fd: number, offset: number, length: number): Promise<number>;
  rename(from: string, to: string): Promise<number>;
  unlink(path: string): Promise<number>;
  flushDirectory(path: string): Promise<number>;
  flushFileSystem(path: string): Promise<number>;
  freeBytes(path: string): Promise<number>;
}

export interface InterfaceWatch {
  drain(): void;
  close(): void;
}

interface NetworkInterface {
  readonly index: number;
  readonly mtu: number;
  readonly mac: number;
  readonly up: boolean;
  readonly connected: boolean;
}

export interface CasEngine {
  /** @throws the system's error when there is no descriptor left */
  attach(segment: number, source: number | Uint8Array): void;
  detach(segment: number): void;
  condemn(segment: number): void;
  ingestNow(
    slab: Uint8Array,
    rows: Int32Array,
    count: number,
    record: Uint8Array,
    compress: boolean,
  ): number;
  ingest(...args: Parameters<CasEngine['ingestNow']>): Promise<number>;
  written(record: Uint8Array): void;
  readNow(
    segment: number,
    place: number,
    kind: number,
    words: Uint32Array,
    index: number,
    out: Uint8Array,
    outOffset: number,
  ): number;
  read(...args: Parameters<CasEngine['readNow']>): Promise<number>;
  /** Like {@link locate}, if that takes no waiting. @returns -1 when it does */
  locateNow(words: Uint32Array, index: number, out: Uint32Array): number;
  /** @returns 1 when it is known where that is, else 0 */
  locate(words: Uint32Array, index: number, out: Uint32Array): Promise<number>;
  distrust(segment: number, place: number): void;
  check(record: Uint8Array, frames: boolean): number;
  verify(record: Uint8Array): Promise<number>;
  seal(record: Uint8Array): void;
  addToIndex(record: Uint8Array, isRebuilt: boolean): void;
  move(source: Uint8Array, chosen: Uint8Array, target: Uint8Array): Promise<number>;
  markBegin(): Promise<number>;
  mark(words: Uint32Array, count: number): number;
  marked(record: Uint8Array, flags: Uint8Array): Promise<number>;
  markEnd(): void;
  dropDetached(): Promise<number>;
  hash(domain: number, bytes: Uint8Array, count: number, out: Uint8Array): void;
  hashNodes(nodes: readonly Uint32Array[], out: Uint8Array): Promise<number>;
  indexCount(): number;
  indexBytes(): number;
}

interface Addon {
  PacketSocket: new (
    options: PacketSocketOptions,
    onReadable: (errno: number) => void,
  ) => PacketSocket;
  FileRing: new (options: FileRingOptions, onCompletions: (errno: number) => void) => FileRing;
  InterfaceWatch: new (onChange: () => void) => InterfaceWatch;
  readInterface(name: string): NetworkInterface | undefined;
  CasEngine: new (indexBytesMax: number) => CasEngine;
  FileTasks: new (threadsMax: number) => FileTasks;
  allocateSlab(sizeBytes: number): ArrayBuffer;
  preferLargePages(buffer: ArrayBuffer): void;
  createMemoryFile(name: string): number;
  isMemoryFile(fd: number): boolean;
  knownFileSize(fd: number): number;
  lockFile(fd: number): boolean;
  lockImage(fd: number, startBytes: number, endBytes: number, writes: boolean): number;
  unlockImage(lock: number): number;
  canPunchHole(fd: number): boolean;
  blockDeviceSize(fd: number): number;
  logicalBlockSize(fd: number): number;
  findUser(name: string): { readonly uid: number; readonly gid: number } | undefined;
  keepCapabilities(): void;
  setUser(uid: number, gid: number): void;
  reduceCapabilities(): void;
  notifyServiceManager(path: string, state: string): void;
}

/** What a failed system call of the addon throws. */
export interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
}

/** Another build of the addon, such as one with sanitizers; absolute. */
const path = process.env['AOE_SERVER_ADDON'] ?? '../build/Release/aoe_native.node';

export const native = createRequire(import.meta.url)(path) as Addon;
