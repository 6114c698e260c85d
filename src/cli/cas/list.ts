import { formatSize } from '../../config/size.ts';
import type { StoreList } from '../../stores/contract.ts';
import { type PrintOptions, print } from '../print.ts';
import { formatTable } from '../table.ts';
import { operate } from './operate.ts';

/** @throws {StartupError} the store cannot be opened */
export async function listRoots(path: string, options: PrintOptions): Promise<void> {
  print(await operate(path, (store) => store.list()), options, describeList);
}

function describeList({ volumes, snapshots }: StoreList): string {
  const rows = [
    ...volumes.map(({ name, sizeBytes, root }) => {
      return ['volume', name, formatSize(sizeBytes), '-', '-', root];
    }),
    ...snapshots.map(({ name, volume, sizeBytes, created, root }) => {
      return ['snapshot', name, formatSize(sizeBytes), volume, created, root];
    }),
  ];
  return formatTable([['KIND', 'NAME', 'SIZE', 'OF', 'CREATED', 'ROOT'], ...rows]);
}
