/**
 * What layers of devices share: a layer is a device over a device of the same type. It may
 * put itself in as a request's completer on the way down and is then told on the way up.
 */
import type { BlockCapabilities, BlockDevice, BlockRequest, Completer } from './block-device.ts';

export abstract class DeviceLayer implements BlockDevice {
  protected readonly below: BlockDevice;

  constructor(below: BlockDevice) {
    this.below = below;
  }

  get sizeBytes(): number {
    return this.below.sizeBytes;
  }

  get capabilities(): BlockCapabilities {
    return this.below.capabilities;
  }

  abstract submit(request: BlockRequest): void;

  kick(): void {
    this.below.kick();
  }

  refresh(): boolean {
    return this.below.refresh();
  }

  close(): Promise<void> {
    return this.below.close();
  }
}

/**
 * Remembers, for each request that passed down through a layer, whom to tell when it comes back
 * up. Kept by request index, so that nothing is allocated for a request.
 */
export class CompleterTable {
  readonly #above: Completer[] = [];

  /** Puts `layer` in as the completer of `request`. */
  intercept(request: BlockRequest, layer: Completer): void {
    this.#above[request.index] = request.completer;
    request.completer = layer;
  }

  /** Gives `request` its former completer back. */
  restore(request: BlockRequest): void {
    request.completer = this.#above[request.index] as Completer;
  }
}
