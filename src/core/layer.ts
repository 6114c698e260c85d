/**
 * What layers of devices share: a layer is a device over a device of the same type. It may
 * intercept a request on the way down, and is then told of its completion on the way up.
 */
import type { BlockCapabilities, BlockDevice, BlockRequest } from './block-device.ts';

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

  get failed(): boolean {
    return this.below.failed ?? false;
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
