import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith, disposeAll } from '../support/tools.ts';
import { MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

const FILE = { path: 'disk.img', size: 4 * MIB };
const TARGETS = [
  { shelf: 1, slot: 0, backend: 'memory', memory: { size: 4 * MIB } },
  { shelf: 1, slot: 1, backend: 'file', write_cache: true, file: FILE },
  {
    ...{ shelf: 1, slot: 2, backend: 'file', write_cache: true },
    file: { ...FILE, path: 'direct.img', direct: true },
  },
];
const STORAGE = { '1.0': 'memory', '1.1': 'a file', '1.2': 'a file without its cache' };

let setup: Setup;

describeWith(TOOLS, 'writes that overlap while they are in flight', () => {
  beforeAll(async () => {
    setup = await Setup.create();
    await setup.start(TARGETS);
  });

  afterAll(() => disposeAll(setup));

  for (const [target, storage] of Object.entries(STORAGE)) {
    it(`take effect in order of arrival in ${storage}`, async () => {
      const where = ['-j', setup.join(target), '-s', 128];
      const load = ['-t', 2, '-m', 1001, '-n', 8, '-q', 60, '-T', 8000];
      const report = await setup.verify(target, '-x', ...where, ...load);
      expect(report).toMatchObject({ ...UNHARMED, resends: 0 });
      expect(await setup.verify(target, '-c', ...where)).toMatchObject({ ...UNHARMED, reads: 8 });
    });
  }
});
