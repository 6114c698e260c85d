import { expect, it } from 'vitest';
import { FrameCounters } from '../src/aoe/counters.ts';
import { type LinkStatus, mergeStatus, type PartStatus } from '../src/status.ts';

const CLOSED: LinkStatus = { interface: 'eth0', mac: null, mtu: null, counters: null };
const OPEN: LinkStatus = {
  ...{ interface: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500 },
  counters: { received: 1, dropped: 2, truncated: 3, sent: 4, unsent: 5 },
};

function linkOf(...links: LinkStatus[]): LinkStatus | undefined {
  const parts = links.map((link): PartStatus => {
    return { inFlight: 0, inFlightMax: 1, frames: new FrameCounters(), links: [link], targets: [] };
  });
  return mergeStatus(parts).links[0];
}

it('counts an interface as open when every thread has it open', () => {
  expect(linkOf(OPEN, OPEN, OPEN)).toEqual({
    ...OPEN,
    counters: { received: 3, dropped: 6, truncated: 9, sent: 12, unsent: 15 },
  });
  expect(linkOf(CLOSED, CLOSED)).toEqual(CLOSED);
});

it('counts one as closed on which the targets of a thread are not reached', () => {
  expect(linkOf(OPEN, CLOSED)).toEqual(CLOSED);
  expect(linkOf(CLOSED, OPEN, OPEN)).toEqual(CLOSED);
});
