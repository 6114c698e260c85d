/** Examines the trees of volumes and snapshots, with what the log makes of them. */
import { BLOCK_SIZE, FANOUT } from '../format.ts';
import { HashTable } from '../hash-table.ts';
import type { LostBlocks } from './findings.ts';
import { HASH_SIZE } from './hash.ts';
import { wordsOf } from './inventory.ts';
import type { LoggedBlocks, ReadLog } from './log.ts';
import type { ExamineParts } from './segment.ts';

const HINTS_START = FANOUT * HASH_SIZE;
const HINT_SIZE = 8;

interface Root {
  readonly kind: LostBlocks['kind'];
  readonly name: string;
  readonly blockCount: number;
  readonly logged: LoggedBlocks | undefined;
}

/** A child as its parent describes it. */
interface Child {
  readonly hash: Buffer;
  readonly segment: number;
  readonly place: number;
}

export async function examineTrees(parts: ExamineParts, log: ReadLog): Promise<void> {
  const walker = new TreeWalker(parts);
  const { volumes, snapshots } = parts.catalog;
  for (const { id, name, sizeBytes, root } of volumes) {
    const logged = log.volumes.get(id);
    await walker.walk({ kind: 'volume', name, blockCount: blocksOf(sizeBytes), logged }, root);
  }
  for (const { name, sizeBytes, root } of snapshots) {
    const logged = undefined;
    await walker.walk({ kind: 'snapshot', name, blockCount: blocksOf(sizeBytes), logged }, root);
  }
  for (const { id, name, sizeBytes, blocks: logged } of log.snapshots) {
    const root = volumes.find((volume) => volume.id === id)?.root;
    const blockCount = blocksOf(sizeBytes);
    if (root !== undefined) await walker.walk({ kind: 'snapshot', name, blockCount, logged }, root);
    else parts.findings.add('log', `snapshot ${name} is of a volume that is not there`);
  }
}

function blocksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_SIZE);
}

class TreeWalker {
  readonly #parts: ExamineParts;
  /** Nodes below which everything is right: trees share most of their nodes. */
  readonly #sound = new HashTable();
  #nextSegment: number;

  constructor(parts: ExamineParts) {
    this.#parts = parts;
    this.#nextSegment = parts.catalog.nextSegment;
  }

  async walk(root: Root, [hash, segment, place]: [string, number, number]): Promise<void> {
    let level = 0;
    while (FANOUT ** (level + 1) < root.blockCount) level++;
    const child = { hash: Buffer.from(hash, 'hex'), segment, place };
    await this.#visit(root, child, level, 0);
    await this.#examineLogged(root);
  }

  /** @returns whether everything below is right; what is not on this disk is not looked at */
  async #visit(root: Root, child: Child, level: number, firstLba: number): Promise<boolean> {
    if (isZero(child.hash)) return true;
    const words = wordsOf(child.hash);
    const isInside = firstLba + FANOUT ** (level + 1) <= root.blockCount;
    if (isInside && this.#sound.get(words, 0) !== 0) return true;
    const { findings, inventory } = this.#parts;
    const node = await inventory.readNode(child.hash);
    const hash = child.hash.toString('hex');
    if (node === undefined && inventory.isAbsent('node', child.hash)) return false;
    if (node === undefined) {
      const count = Math.min(FANOUT ** (level + 1), root.blockCount - firstLba);
      findings.addLost('node', hash, { kind: root.kind, name: root.name, firstLba, count });
      return false;
    }
    let sound = await this.#examineHint('node', child, `node ${hash} of ${root.name}`);
    const span = FANOUT ** level;
    for (let index = 0; index < FANOUT; index++) {
      const next = childOf(node, index);
      const lba = firstLba + index * span;
      if (lba >= root.blockCount && !isZero(next.hash)) {
        findings.add('tree', `node ${hash} of ${root.name} has blocks behind the end of the disk`);
        sound = false;
        break;
      }
      const right =
        level === 0
          ? await this.#examineBlock(root, next, lba)
          : await this.#visit(root, next, level - 1, lba);
      sound &&= right;
    }
    if (sound) this.#sound.set(words, 0, 1);
    return sound;
  }

  async #examineBlock(root: Root, child: Child, lba: number): Promise<boolean> {
    if (isZero(child.hash)) {
      if (child.segment === 0 && child.place === 0) return true;
      const { findings } = this.#parts;
      findings.add('tree', `block ${lba} of ${root.name} is zero, but has a place`);
      return false;
    }
    if (this.#parts.inventory.has('block', child.hash)) {
      return this.#examineHint('block', child, `block ${lba} of ${root.name}`);
    }
    if (!isOverwritten(root.logged, lba)) this.#addLostBlock(root, child.hash, lba);
    return false;
  }

  /**
   * A place may be out of date after a collection: its segment is gone then, or a crash has undone
   * the move that it tells of. The store finds by its hash what was moved, always; anything else
   * only while its dedup index has room for it.
   */
  async #examineHint(content: 'block' | 'node', child: Child, what: string): Promise<boolean> {
    const { findings, inventory } = this.#parts;
    const { hash, segment, place } = child;
    if (!inventory.hasSegment(segment) && segment < this.#nextSegment) return true;
    if (inventory.hasMoved(content, hash)) return true;
    if (await inventory.isAt(content, hash, segment, place)) return true;
    findings.add('tree', `the place of ${what} is wrong: readers find it by its hash`);
    return false;
  }

  async #examineLogged(root: Root): Promise<void> {
    for (const [lba, hash] of root.logged?.hashes ?? []) {
      if (lba >= root.blockCount) {
        const message = `block ${lba} of ${root.name} is behind the end of the disk`;
        this.#parts.findings.add('log', message);
      } else if (hash !== undefined && !this.#parts.inventory.has('block', hash)) {
        this.#addLostBlock(root, hash, lba);
      }
    }
  }

  #addLostBlock({ kind, name }: Root, hash: Buffer, firstLba: number): void {
    const lost = { kind, name, firstLba, count: 1 };
    this.#parts.findings.addLost('block', hash.toString('hex'), lost);
  }
}

function childOf(node: Buffer, index: number): Child {
  const hint = HINTS_START + index * HINT_SIZE;
  return {
    hash: node.subarray(index * HASH_SIZE, (index + 1) * HASH_SIZE),
    segment: node.readUInt32LE(hint),
    place: node.readUInt32LE(hint + 4),
  };
}

function isOverwritten(logged: LoggedBlocks | undefined, lba: number): boolean {
  if (logged === undefined) return false;
  return logged.hashes.has(lba) || logged.trims.some(({ first, end }) => first <= lba && lba < end);
}

function isZero(hash: Buffer): boolean {
  return hash.every((byte) => byte === 0);
}
