/** The order in which requests reached this machine, over all its interfaces. */
import { Limits } from './limits.ts';

/**
 * Older frames are not taken up at all, their age being told in whole milliseconds: a bigger gap
 * means that the clock was set.
 */
const LEAD_US_MAX = (Limits.frameAgeMsMax + 1) * 1000;

/**
 * Is what arrived at `arrivalUs` older than what was let through, or done, at `lastUs`? Both are
 * microseconds since the epoch.
 */
export function isOvertaken(arrivalUs: number, lastUs: number): boolean {
  const lead = lastUs - arrivalUs;
  return lead > 0 && lead < LEAD_US_MAX;
}
