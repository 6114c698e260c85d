/**
 * The devices that are open on the volumes and snapshots of a store.
 *
 * Invariants:
 * - What a device is open on is in use from before its map is read until the device is closed.
 * - A device is closed when all that was written to it is durable, unless the store itself is being
 *   closed, which sees to that, or cannot write any more.
 */
import { CasDevice, type DeviceParts } from './cas-device.ts';
import { UNUSED_WAIT_MS_MAX } from './patience.ts';
import { loadVolume } from './store-files.ts';
import type { DamageReport } from './store-options.ts';
import type { Volume } from './volume.ts';
import type { VolumeTable } from './volume-table.ts';
import type { StoredRoot } from './walk.ts';

type SharedParts = 'cache' | 'reader' | 'writer' | 'spares' | 'makeRoom' | 'flush';

export interface OpenDevicesParts extends Pick<DeviceParts, SharedParts> {
  readonly volumes: VolumeTable;
  /** Tree nodes in memory, about, of each volume. */
  readonly nodeCountMax: number;
  onDamage(report: DamageReport): void;
}

export class OpenDevices {
  readonly #parts: OpenDevicesParts;
  #count = 0;
  /** When the last one was closed, by the clock of `performance`; Infinity until then. */
  #unusedSinceMs = Number.POSITIVE_INFINITY;
  #isClosing = false;

  constructor(parts: OpenDevicesParts) {
    this.#parts = parts;
  }

  /** Has nobody been left for long who could wait for what cannot be read now? */
  get isGivenUp(): boolean {
    return performance.now() - this.#unusedSinceMs > UNUSED_WAIT_MS_MAX;
  }

  open(volume: Volume, readOnly: boolean): CasDevice {
    return this.#open(volume, readOnly, () => {});
  }

  /** Opens one on a stored root, for reading. */
  async openStored({ name, sizeBytes, root }: StoredRoot): Promise<CasDevice> {
    const { reader, volumes } = this.#parts;
    // Before anything is waited for: it might be deleted meanwhile.
    const use = { name };
    const leave = () => volumes.openSnapshots.delete(use);
    volumes.openSnapshots.add(use);
    try {
      const snapshot = await loadVolume(reader, { id: 0, name, sizeBytes }, root);
      return this.#open(snapshot, true, leave);
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** The store is being closed: nobody counts any more who still has one open. */
  close(): void {
    this.#isClosing = true;
    this.#unusedSinceMs = Math.min(this.#unusedSinceMs, performance.now());
  }

  #open(volume: Volume, readOnly: boolean, leave: () => void): CasDevice {
    const { cache, reader, writer, spares, makeRoom, flush, onDamage } = this.#parts;
    volume.users++;
    this.#count++;
    this.#unusedSinceMs = Number.POSITIVE_INFINITY;
    return new CasDevice(volume, {
      ...{ cache, reader, writer, spares, readOnly, makeRoom, flush },
      onMapRead: () => this.#sweepWhenCrowded(volume),
      reportDamage: ({ name }, lba, error) => onDamage({ volume: name, lba, error }),
      onClose: async () => {
        volume.users--;
        if (--this.#count === 0) this.#unusedSinceMs = performance.now();
        leave();
        if (!readOnly && !writer.failed && !this.#isClosing) await writer.flushed();
      },
    });
  }

  /** Checkpoints see to that as well, but there are none while nothing is written. */
  #sweepWhenCrowded({ tree }: Volume): void {
    const { writer, nodeCountMax } = this.#parts;
    if (!tree.isCrowded(nodeCountMax)) return;
    writer.atBoundary(() => {
      if (tree.isCrowded(nodeCountMax)) tree.sweep();
    });
  }
}
