/** What an examination has found. */

export interface LostBlocks {
  readonly kind: 'volume' | 'snapshot';
  readonly name: string;
  readonly firstLba: number;
  readonly count: number;
}

export interface Finding {
  readonly place: 'superblock' | 'catalog' | 'segment' | 'log' | 'tree' | 'journal' | 'blob';
  /** What is wrong and where. */
  readonly message: string;
  /** Of the block or node that it is about, in hex, if it is about one. */
  readonly hash: string | undefined;
  /** Blocks that are lost by it. */
  readonly lost: readonly LostBlocks[];
}

interface FindingDetails {
  readonly hash?: string;
  /** Of blocks and nodes that it takes with it, where no other copy is intact. */
  readonly hashes?: readonly string[];
  readonly lost?: readonly LostBlocks[];
}

export class Findings {
  /** What a crash may leave and is harmless, for people. */
  readonly notes: string[] = [];
  readonly #list: (Finding & { readonly lost: LostBlocks[] })[] = [];
  readonly #byHash = new Map<string, LostBlocks[]>();
  /** No catalog can be read: everything is out of reach. */
  unreadable = false;
  /** The state that was found is not the newest, or perhaps not: what is missing is not known. */
  outdated = false;

  get list(): readonly Finding[] {
    return this.#list;
  }

  add(place: Finding['place'], message: string, details: FindingDetails = {}): void {
    const { hash, hashes = [], lost = [] } = details;
    const finding = { place, message, hash, lost: [...lost] };
    this.#list.push(finding);
    for (const one of hash === undefined ? hashes : [hash, ...hashes]) {
      if (!this.#byHash.has(one)) this.#byHash.set(one, finding.lost);
    }
  }

  /** Blocks are lost because no intact copy of a block or node is there. */
  addLost(what: 'block' | 'node', hash: string, lost: LostBlocks): void {
    if (!this.#byHash.has(hash))
      this.add('tree', `there is no intact copy of ${what} ${hash}`, { hash });
    this.#byHash.get(hash)?.push(lost);
  }
}
