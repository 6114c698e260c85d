import { afterAll, beforeAll, expect, it } from 'vitest';
import { requestFilter } from '../../src/aoe/frame-filter.ts';
import { PacketLink } from '../../src/net/packet-link.ts';
import { configRequest } from '../protocol/frames.ts';
import { describeWith, run, tryRun } from '../support/tools.ts';

/** Of the processor's time: a busy machine gives us only a part of it. */
const FLOOD_CPU_MS = 1000;
const FLOOD_MS_MAX = 20_000;
const TIMER_MS = 5;
/** The event loop turns each 2 ms. */
const TIMERS_MIN = 40;
const FRAME_BYTES = 60;
const FRAMES_PER_BATCH = 64;
const TARGET_MAC = '02:00:00:00:00:02';

describeWith(['ip', 'sysctl'], 'a link that never runs dry', () => {
  const names = [`aoef${process.pid}`, `aoeg${process.pid}`] as const;
  const slab = new ArrayBuffer(1 << 16);
  let receiver: PacketLink;
  let sender: PacketLink;

  function open(name: string): PacketLink {
    return new PacketLink({
      interface: name,
      slab,
      queueCount: FRAMES_PER_BATCH,
      spinUs: 20,
      ringBytes: 4 << 20,
      filter: requestFilter({ index: 0, count: 1 }),
      registerMemory: (ring) => ({ bytes: Buffer.from(ring), region: 0 }),
      unregisterMemory: () => {},
    });
  }

  beforeAll(async () => {
    const [near, far] = names;
    const ends = ['address', TARGET_MAC, 'type', 'veth', 'peer', 'name', far];
    await run('ip', ['link', 'add', 'name', near, ...ends]);
    for (const name of names) {
      await run('sysctl', ['-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
      await run('ip', ['link', 'set', name, 'up']);
    }
    receiver = open(near);
    sender = open(far);
    Buffer.from(slab).set(configRequest({ destination: TARGET_MAC }));
  });
  afterAll(async () => {
    receiver.close();
    sender.close();
    await tryRun('ip', ['link', 'del', names[0]]);
  });

  /** Each batch that is taken is followed by another, before the reader asks. */
  function sendBatch(): void {
    const frame = { frameOffset: 0, frameSize: FRAME_BYTES, sent: () => {} };
    for (let count = 0; count < FRAMES_PER_BATCH; count++) sender.send(frame);
  }

  it('still lets timers fire', async () => {
    let timerCount = 0;
    const timer = setInterval(() => {
      timerCount += 1;
    }, TIMER_MS);
    const end = performance.now() + FLOOD_MS_MAX;
    const before = process.cpuUsage();
    const isOver = () => {
      const { user, system } = process.cpuUsage(before);
      return user + system > 1000 * FLOOD_CPU_MS || performance.now() > end;
    };
    let frameCount = 0;
    sendBatch();
    for await (const batch of receiver) {
      frameCount += batch.count;
      if (isOver()) break;
      sendBatch();
    }
    clearInterval(timer);
    expect(frameCount).toBeGreaterThan(100 * FRAMES_PER_BATCH);
    expect(timerCount).toBeGreaterThan(TIMERS_MIN);
  });
});
