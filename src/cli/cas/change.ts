import { formatSize } from '../../config/size.ts';
import { StartupError } from '../../core/startup-error.ts';
import { withStore } from './with-store.ts';

/** @throws when there is no such volume, or the name is taken */
export async function takeSnapshot(path: string, volume: string, name: string): Promise<void> {
  const { root } = await withStore(path, (store) => store.snapshot(volume, name));
  console.log(`snapshot ${name} of ${volume}: root ${root[0]}`);
}

/** @throws when there is no such snapshot, or the name is taken */
export async function cloneSnapshot(path: string, name: string, volume: string): Promise<void> {
  const { sizeBytes } = await withStore(path, (store) => store.clone(name, volume));
  console.log(`volume ${volume}: size = "${formatSize(sizeBytes)}", a clone of ${name}`);
}

/** @throws when there is no such volume or snapshot, or the snapshot is larger */
export async function rollBack(path: string, volume: string, snapshot: string): Promise<void> {
  await withStore(path, (store) => store.rollback(volume, snapshot));
  console.log(`volume ${volume}: rolled back to ${snapshot}`);
}

/** @throws when there is neither a volume nor a snapshot of this name */
export async function deleteRoot(path: string, name: string): Promise<void> {
  const kind = await withStore(path, async (store) => {
    if (store.findVolume(name) !== undefined) {
      await store.deleteVolume(name);
      return 'volume';
    }
    if (store.snapshots.some((snapshot) => snapshot.name === name)) {
      await store.deleteSnapshot(name);
      return 'snapshot';
    }
    throw new StartupError(
      `the store ${path} has no volume or snapshot ${name}`,
      'see which ones there are: aoe-server cas list',
    );
  });
  console.log(`${kind} ${name}: deleted; aoe-server cas collect gives its room back`);
}
