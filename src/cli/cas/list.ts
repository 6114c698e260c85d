import { storedRoots } from '../../backends/cas/index.ts';
import { formatSize } from '../../config/size.ts';
import { formatTable } from '../table.ts';
import { withStore } from './with-store.ts';

/** @throws {StartupError} the store cannot be opened */
export async function listRoots(path: string, { json }: { readonly json?: true }): Promise<void> {
  const listed = await withStore(path, (store) => ({
    volumes: storedRoots(store)
      .filter(({ name }) => store.findVolume(name) !== undefined)
      .map(({ name, sizeBytes, root: [hash] }) => ({ name, sizeBytes, root: hash })),
    snapshots: store.snapshots.map(({ name, volume, sizeBytes, createdMs, root: [hash] }) => {
      return { name, volume, sizeBytes, created: new Date(createdMs).toISOString(), root: hash };
    }),
  }));
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
