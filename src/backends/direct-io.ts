/** What direct I/O needs of a file or device. */
import { SECTOR_SIZE } from '../core/block-device.ts';
import { StartupError } from '../core/startup-error.ts';
import { native } from '../native.ts';

/** @throws {StartupError} the open file `fd` can only be accessed in larger units than sectors */
export function requireSectorAlignment(fd: number, path: string): void {
  const alignment = native.logicalBlockSize(fd);
  if (alignment <= SECTOR_SIZE) return;
  throw new StartupError(
    `${path}: direct I/O must be aligned to ${alignment} bytes here, sectors have ${SECTOR_SIZE}`,
    'remove direct = true',
  );
}
