import { storedRoots } from '../../backends/cas/index.ts';
import { formatSize } from '../../config/size.ts';
import { formatTable } from '../table.ts';
import { withStore } from './with-store.ts';

interface ListOptions {
  readonly json?: true;
}

/** @throws {StartupError} the store cannot be opened */
export async function listVolumes(path: string, { json }: ListOptions): Promise<void> {
  const volumes = await withStore(path, (store) =>
    storedRoots(store)
      .filter(({ name }) => store.findVolume(name) !== undefined)
      .map(({ name, sizeBytes, root: [hash] }) => ({ name, sizeBytes, root: hash })),
  );
  if (json) {
    console.log(JSON.stringify(volumes, null, 2));
    return;
  }
  const rows = volumes.map(({ name, sizeBytes, root }) => [name, formatSize(sizeBytes), root]);
  console.log(formatTable([['VOLUME', 'SIZE', 'ROOT'], ...rows]));
}

/** @throws {StartupError} the store cannot be opened */
export async function listSnapshots(path: string, { json }: ListOptions): Promise<void> {
  const snapshots = await withStore(path, (store) =>
    store.snapshots.map(({ name, volume, sizeBytes, createdMs, root: [hash] }) => {
      return { name, volume, sizeBytes, created: new Date(createdMs).toISOString(), root: hash };
    }),
  );
  if (json) {
    console.log(JSON.stringify(snapshots, null, 2));
    return;
  }
  const rows = snapshots.map(({ name, volume, sizeBytes, created, root }) => {
    return [name, volume, formatSize(sizeBytes), created, root];
  });
  console.log(formatTable([['SNAPSHOT', 'VOLUME', 'SIZE', 'CREATED', 'ROOT'], ...rows]));
}
