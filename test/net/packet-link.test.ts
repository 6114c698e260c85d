import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { requestFilter } from '../../src/aoe/frame-filter.ts';
import { PacketLink } from '../../src/net/packet-link.ts';
import { describeWith, run, tryRun } from '../support/tools.ts';

const FRAME_BYTES = 60;
/** Longer than a queue may stand still before it is given up. */
const IDLE_MS = 150;

describeWith(['ip', 'sysctl'], 'a link without carrier', () => {
  const names = [`aoen${process.pid}`, `aoeo${process.pid}`] as const;
  let link: PacketLink;

  beforeAll(async () => {
    const [near, far] = names;
    await run('ip', ['link', 'add', 'name', near, 'type', 'veth', 'peer', 'name', far]);
    for (const name of names) {
      await run('sysctl', ['-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
      await run('ip', ['link', 'set', name, 'up']);
    }
    link = new PacketLink({
      interface: near,
      slab: new ArrayBuffer(1 << 12),
      queueCount: 1,
      spinUs: 0,
      ringBytes: 4 << 20,
      filter: requestFilter({ index: 0, count: 1 }),
      registerMemory: (ring) => ({ bytes: Buffer.from(ring), region: 0 }),
      unregisterMemory: () => {},
    });
  });
  afterAll(async () => {
    link.close();
    await tryRun('ip', ['link', 'del', names[0]]);
  });

  /** @returns when the frame left, or 0 if it was given up */
  function send(): Promise<number> {
    return new Promise((resolve) => {
      link.send({ frameOffset: 0, frameSize: FRAME_BYTES, sent: resolve });
    });
  }

  it('sends what waited for it, though it was idle before', async () => {
    expect(await send()).toBeGreaterThan(0);
    await sleep(IDLE_MS);
    await run('ip', ['link', 'set', names[1], 'down']);
    const sent = send();
    await run('ip', ['link', 'set', names[1], 'up']);
    expect(await sent).toBeGreaterThan(0);
  });

  it('gives up what does not leave', async () => {
    await run('ip', ['link', 'set', names[1], 'down']);
    expect(await send()).toBe(0);
    expect(link.counters()).toMatchObject({ unsent: 1 });
    await run('ip', ['link', 'set', names[1], 'up']);
    expect(await send()).toBeGreaterThan(0);
  });
});
