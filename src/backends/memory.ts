/** The `memory` backend: a disk in memory that is gone when the server ends. */
import { ftruncateSync } from 'node:fs';
import { native } from '../native.ts';
import { FileDevice } from './file-device.ts';
import { type FileIo, FileMode } from './file-io.ts';

/** Makes an empty disk. Memory is taken as it is written; trimming gives it back. */
export function openMemoryDevice(io: FileIo, sizeBytes: number, readOnly: boolean): FileDevice {
  const fd = native.createMemoryFile('aoe-server');
  ftruncateSync(fd, sizeBytes);
  return new FileDevice(io, {
    fd,
    mode: FileMode.memory,
    offsetBytes: 0,
    capabilities: { readOnly, trim: !readOnly, trimZeroes: true },
    measure: () => sizeBytes,
  });
}
