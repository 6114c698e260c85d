/**
 * Runs `work` so many times at once.
 *
 * @throws the first error, once nothing runs any more: what the caller does next meets no straggler
 */
export async function inLanes(count: number, work: () => Promise<void>): Promise<void> {
  const lanes = await Promise.allSettled(Array.from({ length: count }, work));
  for (const lane of lanes) if (lane.status === 'rejected') throw lane.reason;
}
