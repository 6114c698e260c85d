import { formatTable } from '../table.ts';

/** Sectors of a volume or snapshot that cannot be read. */
export interface LostSectors {
  readonly kind: string;
  readonly name: string;
  readonly lba: number;
  readonly sectors: number;
}

export function formatLost(lost: readonly LostSectors[]): string {
  const rows = lost.map(({ kind, name, lba, sectors }) => [kind, name, `${lba}`, `${sectors}`]);
  return formatTable([['LOST IN', 'NAME', 'LBA', 'SECTORS'], ...rows]);
}
