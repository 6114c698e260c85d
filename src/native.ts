/**
 * The addon, typed. What each function does and who owns which memory is told in the headers
 * under `native/`.
 */
import { createRequire } from 'node:module';

/** A byte of a frame that must have a value: `(byte & mask) === value`. */
export interface ByteMatch {
  /** From the destination MAC. */
  readonly offset: number;
  readonly mask: number;
  readonly value: number;
}

export interface PacketSocketOptions {
  interface: string;
  frameSizeMax: number;
  ringSize: number;
  matches: readonly ByteMatch[];
  slab: ArrayBuffer;
  received: Int32Array;
  arrivals: Float64Array;
  sent: Int32Array;
  outcome: Int32Array;
}

export interface PacketStatistics {
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

export interface FileRingOptions {
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
}

export interface InterfaceWatch {
  drain(): void;
  close(): void;
}

interface Addon {
  PacketSocket: new (
    options: PacketSocketOptions,
    onReadable: (errno: number) => void,
  ) => PacketSocket;
  FileRing: new (options: FileRingOptions, onCompletions: (errno: number) => void) => FileRing;
  InterfaceWatch: new (onChange: () => void) => InterfaceWatch;
  allocateSlab(sizeBytes: number): ArrayBuffer;
  createMemoryFile(name: string): number;
  isMemoryFile(fd: number): boolean;
  lockFile(fd: number): boolean;
  canPunchHole(fd: number): boolean;
  blockDeviceSize(fd: number): number;
  logicalBlockSize(fd: number): number;
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
