import { afterEach, describe, it } from 'vitest';
import { Examination, MTU, SIZE_SECTORS, TARGETS } from './examination.ts';
import { ataRequest, BROADCAST_MAC, configRequest, maskRequest, reserveRequest } from './frames.ts';
import { Random, randomFrame } from './random-frames.ts';

const FUZZ_MS = process.env['CI'] === 'true' ? 60_000 : 10_000;
const SEED = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const BATCHES_PER_STAGE = 400;
const BATCH_FRAMES_MAX = 4;

describe('the server under random frames', () => {
  let examination: Examination | undefined;

  afterEach(async () => {
    await examination?.close();
    examination = undefined;
  });

  it(
    `is sound for ${FUZZ_MS / 1000} s (seed ${SEED})`,
    async () => {
      const random = new Random(SEED);
      const addresses = [...TARGETS, { shelf: 7, slot: 7 }];
      const sources = { random, addresses, sizeSectors: SIZE_SECTORS, mtu: MTU };
      const deadline = performance.now() + FUZZ_MS;
      let tag = 0;
      for (let batch = 0; performance.now() < deadline; batch++) {
        if (batch % BATCHES_PER_STAGE === 0) {
          await examination?.close();
          examination = new Examination();
        }
        const frames = Array.from({ length: 1 + random.below(BATCH_FRAMES_MAX) }, () =>
          randomFrame(sources, tag++),
        );
        const exam = examination as Examination;
        try {
          await exam.examine(frames, random.oneIn(50));
          if (batch % 50 === 0) await exam.expectSameDisks();
        } catch (cause) {
          const dump = frames.map((frame) => frame.toString('hex')).join('\n');
          throw new Error(`FUZZ_SEED=${SEED} fails in batch ${batch}:\n${dump}`, { cause });
        }
      }
      console.info(`fuzz: ${tag} frames with seed ${SEED}`);
    },
    FUZZ_MS + 30_000,
  );

  describe('is sound for frames that crashed or fooled servers before', () => {
    const everywhere = { destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff };
    const write = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
    const cases: Record<string, Buffer> = {
      'a string longer than its frame': configRequest({ ccmd: 4, text: 'abc', length: 35 }),
      'a string of 65535 bytes': configRequest({ ccmd: 4, text: 'abc', length: 0xffff }),
      'more directives than the frame holds': maskRequest(1, [], { count: 255 }),
      'more reserved addresses than the frame holds': reserveRequest(2, [], { count: 255 }),
      'a write to every disk': ataRequest({ ...write, ...everywhere, data: Buffer.alloc(512, 1) }),
      'a write without its data': ataRequest(write),
      'a write of half its data': ataRequest({ ...write, data: Buffer.alloc(256, 1) }),
      'a write without the write flag': ataRequest({
        ...{ opcode: 0x34, aflags: 0x40, sectorCount: 1 },
        data: Buffer.alloc(512, 1),
      }),
      'the highest LBA there is': ataRequest({
        ...write,
        lba: 2 ** 48 - 1,
        data: Buffer.alloc(512),
      }),
      'a trim whose filler names no sector of the disk': ataRequest({
        ...{ opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1 },
        data: Buffer.alloc(512, Buffer.from('ffffffffffff0000', 'hex')),
      }),
      'a header without an argument': configRequest().subarray(0, 24),
      'half a header': configRequest().subarray(0, 19),
    };

    it('a write that overlaps the second range of the trim before it', async () => {
      examination = new Examination();
      const ranges = Buffer.alloc(512);
      ranges.set([40, 0, 0, 0, 0, 0, 1, 0, 50, 0, 0, 0, 0, 0, 2, 0]);
      const trim = { opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1, data: ranges };
      const data = Buffer.alloc(1024, 7);
      await examination.examine([
        ataRequest({ ...trim, tag: 1 }),
        ataRequest({ ...write, sectorCount: 2, lba: 51, data, tag: 2 }),
      ]);
      await examination.expectSameDisks();
    });

    for (const [name, frame] of Object.entries(cases)) {
      it(name, async () => {
        examination = new Examination();
        await examination.examine([frame]);
        await examination.expectSameDisks();
      });
    }
  });
});
