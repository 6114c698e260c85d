/** Counts what goes through a device: requests and bytes by operation, and how they ended. */
import { BlockOp, type BlockRequest, type Completer } from './block-device.ts';
import { BlockStatus } from './block-error.ts';
import { DeviceLayer } from './layer.ts';

export class DeviceCounters {
  reads = 0;
  writes = 0;
  flushes = 0;
  trims = 0;
  readBytes = 0;
  writtenBytes = 0;
  /** Requests that failed because of the storage. */
  failures = 0;
  /** Writes that were overtaken by newer ones and not executed. */
  stale = 0;
}

export class CountedDevice extends DeviceLayer implements Completer {
  readonly counters = new DeviceCounters();

  submit(request: BlockRequest): void {
    request.intercept(this);
    this.below.submit(request);
  }

  completed(request: BlockRequest): void {
    this.#count(request);
    request.restore();
    request.complete(request.status);
  }

  #count(request: BlockRequest): void {
    const { counters } = this;
    switch (request.status) {
      case BlockStatus.ok:
        break;
      case BlockStatus.stale:
        counters.stale++;
        return;
      case BlockStatus.ioError:
      case BlockStatus.noSpace:
      case BlockStatus.failed:
        counters.failures++;
        return;
      default:
        return;
    }
    switch (request.op) {
      case BlockOp.read:
        counters.reads++;
        counters.readBytes += request.length;
        break;
      case BlockOp.write:
        counters.writes++;
        counters.writtenBytes += request.length;
        break;
      case BlockOp.flush:
        counters.flushes++;
        break;
      case BlockOp.trim:
        counters.trims++;
        break;
    }
  }
}
