import { formatSize } from '../../config/size.ts';
import { operate } from './operate.ts';

/** @throws when there is no such volume, or the name is taken */
export async function takeSnapshot(path: string, volume: string, name: string): Promise<void> {
  const { root } = await operate(path, (store) => store.snapshot(volume, name));
  console.log(`snapshot ${name} of ${volume}: root ${root}`);
}

/** @throws when there is no such snapshot, or the name is taken */
export async function cloneSnapshot(path: string, name: string, volume: string): Promise<void> {
  const { sizeBytes } = await operate(path, (store) => store.clone(name, volume));
  console.log(`volume ${volume}: size = "${formatSize(sizeBytes)}", a clone of ${name}`);
}

/** @throws when there is no such volume or snapshot, it is larger, or initiators use the volume */
export async function rollBack(
  path: string,
  volume: string,
  snapshot: string,
  { force = false }: { readonly force?: boolean },
): Promise<void> {
  await operate(path, (store) => store.rollback(volume, snapshot, force));
  console.log(`volume ${volume}: rolled back to ${snapshot}`);
}

/** @throws when there is neither a volume nor a snapshot of this name, or a target serves it */
export async function deleteRoot(path: string, name: string): Promise<void> {
  const { kind } = await operate(path, (store) => store.delete(name));
  console.log(`${kind} ${name}: deleted; aoe-server cas collect gives its room back`);
}
