/** The backends by name: from a target's configuration to its device. */
import type { BackendConfig } from '../config/config.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { StartupError } from '../core/startup-error.ts';
import { openHostDevice } from './device.ts';
import { openFileDevice } from './file.ts';
import type { FileIo } from './file-io.ts';
import { openMemoryDevice } from './memory.ts';

/**
 * Opens the storage of one target.
 *
 * @throws {StartupError} it cannot be opened as configured
 */
export function openBackend(io: FileIo, backend: BackendConfig, readOnly: boolean): BlockDevice {
  switch (backend.type) {
    case 'file':
      return openFileDevice(io, backend, readOnly);
    case 'device':
      return openHostDevice(io, backend, readOnly);
    case 'memory':
      return openMemoryDevice(io, backend.sizeBytes, readOnly);
    case 'cas':
      throw new StartupError(
        'the content-addressed store is not part of this version',
        'use backend = "file"',
      );
  }
}
