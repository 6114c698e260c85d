import { cancelJob } from './operate.ts';

/** @throws when no server has the store open, or the server has no such job */
export async function cancelStoreJob(path: string, id: number): Promise<void> {
  const { kind, state } = await cancelJob(path, id);
  const outcome = state === 'cancelled' ? 'cancelled' : `had ended before: ${state}`;
  console.log(`job ${id}, ${kind}: ${outcome}`);
}
