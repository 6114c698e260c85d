/** Blobs that answer late, and now and then with an error. */
import type { Delays } from '../delays.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** Of all requests: each that fails is repeated after a fifth of a second. */
const FAILURE_SHARE = 0.003;

export function slowBlobs({ random, pause }: Delays): TraceBlobs {
  const blobs = new TraceBlobs();
  blobs.pause = pause;
  blobs.beforeRead = async () => {
    await pause();
    if (random() < FAILURE_SHARE) throw new Error('the connection was reset');
  };
  blobs.fail = () => {
    if (random() >= FAILURE_SHARE) return undefined;
    return random() < 0.5 ? 'before' : 'after';
  };
  return blobs;
}
