import { formatSize } from '../../config/size.ts';
import { formatTable } from '../table.ts';
import { operate } from './operate.ts';

/** @throws {StartupError} the store cannot be opened */
export async function listRoots(path: string, { json }: { readonly json?: true }): Promise<void> {
  const listed = await operate(path, (store) => store.list());
  if (json) {
    console.log(JSON.stringify(listed, null, 2));
    return;
  }
  const rows = [
    ...listed.volumes.map(({ name, sizeBytes, root }) => {
      return ['volume', name, formatSize(sizeBytes), '-', '-', root];
    }),
    ...listed.snapshots.map(({ name, volume, sizeBytes, created, root }) => {
      return ['snapshot', name, formatSize(sizeBytes), volume, created, root];
    }),
  ];
  console.log(formatTable([['KIND', 'NAME', 'SIZE', 'OF', 'CREATED', 'ROOT'], ...rows]));
}
