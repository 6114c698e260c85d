/**
 * A disk in memory that can lose power. It carries out what it is told and keeps a trace; from the
 * trace come the states in which a crash at any moment may have left the disk: writes that no sync
 * covers are kept, dropped or torn by sectors of 512 bytes, names that no directory sync covers
 * are as before or as after.
 */
import { dirname } from 'node:path';
import type { FileLayer, StoreFile } from '../../../src/backends/cas/file-layer.ts';

const SECTOR = 512;

const PAGE = 4096;

/** Takes back what was written over, so that one disk in memory is enough for many states. */
export class Undo {
  readonly #steps: { readonly bytes: Uint8Array; readonly at: number; readonly old: Uint8Array }[] =
    [];

  /** Notices what is about to be written over. */
  before(bytes: Uint8Array, start: number, end: number): void {
    this.#steps.push({ bytes, at: start, old: bytes.slice(start, end) });
  }

  /** Takes back everything noticed so far. */
  run(): void {
    for (const { bytes, at, old } of this.#steps.reverse()) bytes.set(old, at);
    this.#steps.length = 0;
  }
}

class Inode {
  bytes: Uint8Array;
  /** Numbers of pages that take no room. */
  readonly holes = new Set<number>();
  readonly #undo: Undo | undefined;

  constructor(bytes: Uint8Array = new Uint8Array(0), undo?: Undo) {
    this.bytes = bytes;
    this.#undo = undo;
  }

  /** Makes the file at least this long. */
  extend(size: number): void {
    if (size <= this.bytes.length) return;
    const longer = new Uint8Array(size);
    longer.set(this.bytes);
    this.bytes = longer;
  }

  put(bytes: Uint8Array, position: number): void {
    this.extend(position + bytes.length);
    this.#undo?.before(this.bytes, position, position + bytes.length);
    this.bytes.set(bytes, position);
    this.fill(position, bytes.length);
  }

  /** Writes some sectors only. */
  tear(bytes: Uint8Array, position: number, random: () => number): void {
    const known = Math.min(position, this.bytes.length);
    this.#undo?.before(this.bytes, known, position + bytes.length);
    for (let start = 0; start < bytes.length; start += SECTOR) {
      if (random() >= 0.5) continue;
      const sector = bytes.subarray(start, start + SECTOR);
      this.extend(position + start + sector.length);
      this.bytes.set(sector, position + start);
      this.fill(position + start, sector.length);
    }
  }

  /** Lets a range take room. */
  fill(position: number, length: number): void {
    if (this.holes.size === 0) return;
    for (const page of pagesOf(position, length, false)) this.holes.delete(page);
  }

  punch(position: number, length: number): void {
    this.#undo?.before(this.bytes, position, position + length);
    this.bytes.fill(0, position, position + length);
    for (const page of pagesOf(position, length, true)) this.holes.add(page);
  }
}

/** The pages that a range touches, or covers. */
function pagesOf(position: number, length: number, covered: boolean): number[] {
  const first = covered ? Math.ceil(position / PAGE) : Math.floor(position / PAGE);
  const end = position + length;
  const last = covered ? Math.floor(end / PAGE) : Math.ceil(end / PAGE);
  return Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
}

export type TraceEntry =
  | {
      readonly op: 'write';
      readonly inode: number;
      readonly at: number;
      readonly bytes: Uint8Array;
    }
  | { readonly op: 'size'; readonly inode: number; readonly size: number }
  | {
      readonly op: 'punch';
      readonly inode: number;
      readonly at: number;
      readonly length: number;
    }
  | { readonly op: 'sync'; readonly inode: number }
  | { readonly op: 'link'; readonly path: string; readonly inode: number }
  | { readonly op: 'rename'; readonly path: string; readonly to: string }
  | { readonly op: 'unlink'; readonly path: string }
  | { readonly op: 'syncDirectory'; readonly path: string }
  | { readonly op: 'mark'; readonly value: unknown };

/** Tells for an operation whether, and with which code, it fails. */
export type Fault = (op: string, path: string) => string | undefined;

export class SimFs implements FileLayer {
  readonly trace: TraceEntry[] = [];
  fault: Fault = () => undefined;
  readonly #inodes: Inode[];
  readonly #names: Map<string, number>;
  /** The state at the beginning of the trace; undefined for an empty disk. */
  readonly base: DiskState;

  /** @param undo works in the memory of the base itself, until it is run */
  constructor(base: DiskState = { inodes: [], names: new Map() }, undo?: Undo) {
    this.base = base;
    this.#inodes = base.inodes.map((bytes) => new Inode(undo ? bytes : bytes.slice(), undo));
    this.#names = new Map(base.names);
  }

  /** Puts a remark into the trace. */
  mark(value: unknown): void {
    this.#note({ op: 'mark', value });
  }

  #note(entry: TraceEntry): void {
    this.trace.push(entry);
  }

  /** The content of a file, to be looked at or damaged. */
  contentOf(path: string): Uint8Array {
    return this.#inode(path).bytes;
  }

  paths(): string[] {
    return [...this.#names.keys()];
  }

  async makeDirectory(): Promise<void> {}

  async list(path: string): Promise<string[]> {
    const start = path.length + 1;
    return [...this.#names.keys()]
      .filter((name) => name.startsWith(`${path}/`) && !name.includes('/', start))
      .map((name) => name.slice(start));
  }

  async open(path: string, create: boolean): Promise<StoreFile> {
    let number = this.#names.get(path);
    if (number === undefined) {
      if (!create) throw failure('ENOENT', path);
      this.#check('create', path);
      number = this.#inodes.push(new Inode()) - 1;
      this.#names.set(path, number);
      this.#note({ op: 'link', path, inode: number });
    }
    return this.#file(number, path);
  }

  async rename(from: string, to: string): Promise<void> {
    this.#check('rename', from);
    const inode = this.#names.get(from);
    if (inode === undefined) throw failure('ENOENT', from);
    this.#names.set(to, inode);
    this.#names.delete(from);
    this.#note({ op: 'rename', path: from, to });
  }

  async unlink(path: string): Promise<void> {
    this.#check('unlink', path);
    if (!this.#names.delete(path)) throw failure('ENOENT', path);
    this.#note({ op: 'unlink', path });
  }

  async syncDirectory(path: string): Promise<void> {
    this.#check('syncDirectory', path);
    this.#note({ op: 'syncDirectory', path });
  }

  async freeBytes(): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  async lock(): Promise<() => Promise<void>> {
    return async () => {};
  }

  #inode(path: string): Inode {
    return this.#inodes[this.#names.get(path) as number] as Inode;
  }

  #check(op: string, path: string): void {
    const code = this.fault(op, path);
    if (code !== undefined) throw failure(code, path);
  }

  #file(number: number, path: string): StoreFile {
    const inode = this.#inodes[number] as Inode;
    const note = (entry: TraceEntry) => this.#note(entry);
    let isClosed = false;
    const check = (op: string) => {
      if (isClosed) throw failure('EBADF', path);
      this.#check(op, path);
    };
    const sync = async (): Promise<void> => {
      check('sync');
      note({ op: 'sync', inode: number });
    };
    return {
      get source() {
        return inode.bytes;
      },
      async read(bytes, position) {
        check('read');
        const part = inode.bytes.subarray(position, position + bytes.length);
        bytes.set(part);
        return part.length;
      },
      async write(bytes, length, position, durable) {
        check('write');
        const written = bytes.slice(0, length);
        inode.put(written, position);
        note({ op: 'write', inode: number, at: position, bytes: written });
        if (durable) await sync();
      },
      sync,
      async size() {
        return inode.bytes.length;
      },
      async allocate(size) {
        check('allocate');
        inode.extend(size);
        inode.fill(0, size);
        note({ op: 'size', inode: number, size });
      },
      async punch(position, length) {
        check('punch');
        inode.punch(position, length);
        note({ op: 'punch', inode: number, at: position, length });
      },
      async dataBytes(position, length) {
        check('dataBytes');
        const pages = pagesOf(position, length, false);
        return PAGE * pages.filter((page) => !inode.holes.has(page)).length;
      },
      async close() {
        isClosed = true;
      },
    };
  }
}

/** What is on a disk: file contents, and names with the numbers of their files. */
export interface DiskState {
  readonly inodes: readonly Uint8Array[];
  readonly names: ReadonlyMap<string, number>;
}

/** A copy, without files that have lost their names. */
export function copyOf({ inodes, names }: DiskState): DiskState {
  const named = [...names];
  return {
    inodes: named.map(([, number]) => (inodes[number] as Uint8Array).slice()),
    names: new Map(named.map(([name], number) => [name, number])),
  };
}

type Change = Exclude<TraceEntry, { op: 'sync' | 'syncDirectory' | 'mark' }>;

/** How a crash treats what was not synced. */
export type Survival = 'none' | 'all' | 'random';

/** Walks along a trace and tells in what state a crash would leave the disk here. */
export class CrashWalk {
  readonly #inodes: Uint8Array[];
  readonly #names: Map<string, number>;
  /** What no sync covers yet, in order. */
  #pending: Change[] = [];
  readonly #random: () => number;
  readonly #undo: Undo | undefined;

  /** @param undo walks in the memory of the base itself, until it is run */
  constructor(base: DiskState, random: () => number, undo?: Undo) {
    this.#inodes = base.inodes.map((bytes) => (undo ? bytes : bytes.slice()));
    this.#names = new Map(base.names);
    this.#random = random;
    this.#undo = undo;
  }

  /** Is everything covered by a sync, so that a crash loses nothing? */
  get isSettled(): boolean {
    return this.#pending.length === 0;
  }

  step(entry: TraceEntry): void {
    if (entry.op === 'mark') return;
    if (entry.op === 'sync') {
      this.#settle((change) => 'inode' in change && isData(change) && change.inode === entry.inode);
    } else if (entry.op === 'syncDirectory') {
      this.#settle((change) => 'path' in change && dirname(change.path) === entry.path);
    } else {
      this.#pending.push(entry);
      if (entry.op === 'link') this.#inodes[entry.inode] ??= new Uint8Array(0);
    }
  }

  /**
   * The disk after a crash at this moment.
   *
   * @param undo it is in the memory of this walk then, which goes on when that has been run
   */
  crash(survival: Survival, undo?: Undo): DiskState {
    if (undo !== undefined) return this.#crashInPlace(survival, undo);
    const passing = new Undo();
    const copy = copyOf(this.#crashInPlace(survival, passing));
    passing.run();
    return copy;
  }

  #crashInPlace(survival: Survival, undo: Undo): DiskState {
    const inodes = this.#inodes.map((bytes) => new Inode(bytes, undo));
    const names = new Map(this.#names);
    // A journal keeps the order of names: some first ones survive.
    let namesLeft = this.#pending.filter((change) => !isData(change)).length;
    if (survival === 'none') namesLeft = 0;
    if (survival === 'random') namesLeft = Math.floor(this.#random() * (namesLeft + 1));
    for (const change of this.#pending) {
      if (!isData(change)) {
        if (namesLeft-- > 0) applyName(names, change);
      } else if (survival === 'all' || (survival === 'random' && this.#random() < 0.6)) {
        const inode = inodes[change.inode] as Inode;
        if (change.op === 'size') inode.extend(change.size);
        else if (change.op === 'punch') inode.punch(change.at, change.length);
        else if (survival === 'random' && this.#random() < 0.5) {
          inode.tear(change.bytes, change.at, this.#random);
        } else inode.put(change.bytes, change.at);
      }
    }
    return { inodes: inodes.map(({ bytes }) => bytes), names };
  }

  #settle(isCovered: (change: Change) => boolean): void {
    const kept: Change[] = [];
    for (const change of this.#pending) {
      if (!isCovered(change)) {
        kept.push(change);
      } else if (!isData(change)) {
        applyName(this.#names, change);
      } else {
        const inode = new Inode(this.#inodes[change.inode], this.#undo);
        if (change.op === 'size') inode.extend(change.size);
        else if (change.op === 'punch') inode.punch(change.at, change.length);
        else inode.put(change.bytes, change.at);
        this.#inodes[change.inode] = inode.bytes;
      }
    }
    this.#pending = kept;
  }
}

function isData(
  change: Change,
): change is Extract<Change, { inode: number; op: 'write' | 'size' | 'punch' }> {
  return change.op === 'write' || change.op === 'size' || change.op === 'punch';
}

function applyName(names: Map<string, number>, change: Change): void {
  if (change.op === 'link') names.set(change.path, change.inode);
  if (change.op === 'unlink') names.delete(change.path);
  if (change.op === 'rename') {
    const inode = names.get(change.path);
    if (inode === undefined) return;
    names.delete(change.path);
    names.set(change.to, inode);
  }
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/** What power cuts leave on a disk at the marks in its trace, when all that was not synced is lost. */
export function crashStates(files: SimFs): { readonly disk: DiskState; readonly mark: number }[] {
  const walk = new CrashWalk(files.base, seededRandom(1));
  const states: { disk: DiskState; mark: number }[] = [];
  for (const entry of files.trace) {
    if (entry.op === 'mark') states.push({ disk: walk.crash('none'), mark: entry.value as number });
    walk.step(entry);
  }
  return states;
}

/** A generator of random numbers in [0, 1) that repeats for a seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
