/**
 * A block device over an open file: an image, a host's block device, or memory. What makes them
 * different is only how they are opened; see the modules beside this one.
 */
import {
  type BlockCapabilities,
  type BlockDevice,
  BlockOp,
  type BlockRequest,
  SECTOR_SIZE,
} from '../core/block-device.ts';
import { type FileIo, FileMode } from './file-io.ts';
import { closeFile } from './file-tasks.ts';

export interface OpenFile {
  /** The open file; the device owns and closes it. */
  readonly fd: number;
  readonly mode: FileMode;
  /** Where the device starts in the file, in bytes. */
  readonly offsetBytes: number;
  readonly capabilities: BlockCapabilities;
  /** Bytes from `offsetBytes` on that the file offers now. */
  measure(): number;
}

export class FileDevice implements BlockDevice {
  readonly capabilities: BlockCapabilities;
  readonly #io: FileIo;
  readonly #open: OpenFile;
  readonly #file: number;
  readonly #offsetBytes: number;
  #sizeBytes: number;
  #closed = false;

  constructor(io: FileIo, open: OpenFile) {
    this.#io = io;
    this.#open = open;
    this.#offsetBytes = open.offsetBytes;
    this.capabilities = open.capabilities;
    this.#file = io.addFile(open.fd, open.mode);
    this.#sizeBytes = wholeSectors(open.measure());
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  submit(request: BlockRequest): void {
    // A flush fails when the file has become shorter than the device.
    const offset = request.op === BlockOp.flush ? this.#sizeBytes : request.offset;
    this.#io.submit(this.#file, request, this.#offsetBytes + offset);
  }

  kick(): void {
    this.#io.kick();
  }

  flushCovers(write: BlockRequest): boolean {
    return this.#open.mode !== FileMode.direct && this.#io.runsNext(write);
  }

  refresh(): boolean {
    const sizeBytes = this.#measureAgain();
    if (sizeBytes <= this.#sizeBytes) return false;
    this.#sizeBytes = sizeBytes;
    return true;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.closeFile(this.#open.fd);
  }

  #measureAgain(): number {
    try {
      return wholeSectors(this.#open.measure());
    } catch {
      // Storage that is gone cannot be measured. What is read and written will tell of it.
      return this.#sizeBytes;
    }
  }

  /** Called once. */
  protected closeFile(fd: number): Promise<void> {
    return closeFile(fd, !this.capabilities.readOnly);
  }
}

function wholeSectors(bytes: number): number {
  return bytes - (bytes % SECTOR_SIZE);
}
