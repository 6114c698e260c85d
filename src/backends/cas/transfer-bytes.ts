/** What streams between stores are read with. */

/** Bytes that are not what they should be, or the beginning of it. */
export class TransferError extends Error {
  readonly code = 'AOE_CAS_TRANSFER';

  constructor(message: string) {
    super(message);
    this.name = 'TransferError';
  }
}

/** Takes bytes in the amounts in which they are needed. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #what: string;
  #rest: Buffer = Buffer.alloc(0);

  /** @param what it is, for messages */
  constructor(bytes: AsyncIterable<Uint8Array>, what: string) {
    this.#chunks = bytes[Symbol.asyncIterator]();
    this.#what = what;
  }

  /** @throws {TransferError} there are fewer */
  async take(length: number): Promise<Buffer> {
    const parts: Uint8Array[] = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const { value, done } = await this.#chunks.next();
      if (done === true) throw new TransferError(`${this.#what} ends too early`);
      parts.push(value);
      have += value.length;
    }
    const bytes = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    this.#rest = bytes.subarray(length);
    return bytes.subarray(0, length);
  }

  /** Waits for the end. @throws {TransferError} something else comes */
  async takeEnd(): Promise<void> {
    let have = this.#rest.length;
    while (have === 0) {
      const { value, done } = await this.#chunks.next();
      if (done === true) return;
      have = value.length;
    }
    throw this.damaged();
  }

  damaged(): TransferError {
    return new TransferError(`${this.#what} is damaged`);
  }
}
