/**
 * The one place that checks bounds and write protection, so that no backend and no frontend
 * repeats it. What passes lies wholly inside the device and is allowed by its capabilities.
 */
import { strict as assert } from 'node:assert';
import { BlockOp, type BlockRequest, SECTOR_SIZE } from './block-device.ts';
import { BlockStatus } from './block-error.ts';
import { DeviceLayer } from './layer.ts';

export class CheckedDevice extends DeviceLayer {
  submit(request: BlockRequest): void {
    const status = this.#judge(request);
    if (status === BlockStatus.ok) this.below.submit(request);
    else request.complete(status);
  }

  #judge(request: BlockRequest): BlockStatus {
    const { op, offset, length } = request;
    if (op === BlockOp.flush) return BlockStatus.ok;
    assert(length > 0 && isWholeSectors(length) && isWholeSectors(offset));
    const { sizeBytes, capabilities } = this.below;
    if (offset + length > sizeBytes) return BlockStatus.outOfRange;
    if (op === BlockOp.read) return BlockStatus.ok;
    if (capabilities.readOnly) return BlockStatus.readOnly;
    if (op === BlockOp.trim && !capabilities.trim) return BlockStatus.unsupported;
    return BlockStatus.ok;
  }
}

/** Without `%`, which is slow for what does not fit in 31 bits. */
function isWholeSectors(bytes: number): boolean {
  const sectors = bytes / SECTOR_SIZE;
  return sectors === Math.floor(sectors);
}
