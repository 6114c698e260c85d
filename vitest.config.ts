import { defineConfig } from 'vitest/config';

/** Tests that wait more than they work, or that nothing else disturbs. */
const TOGETHER = [
  'admin',
  'backends',
  'cli',
  'config',
  'dashboard',
  'guides',
  'packaging',
  'stores',
].map((directory) => `test/${directory}/**/*.test.ts`);

export default defineConfig({
  test: {
    // Each file in a process of its own: the addon keeps sockets and threads.
    pool: 'forks',
    projects: [
      // One at a time: these measure time, or provoke what only a quiet machine bears.
      {
        extends: true,
        test: {
          name: 'alone',
          include: ['test/**/*.test.ts'],
          exclude: TOGETHER,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'together',
          include: TOGETHER,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
    ],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000 } },
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text-summary', 'html'],
      // What tests reach inside their own process; the program itself they run beside it.
      // Branches at await are counted anew in each process, and now and then one is missed.
      thresholds: {
        'src/core/**': { statements: 100, branches: 97, functions: 100, lines: 100 },
        'src/aoe/codec/**': { 100: true },
        'src/aoe/ata/**': { statements: 98, branches: 95, functions: 100, lines: 98 },
        'src/aoe/aoe-*.ts': { statements: 98, branches: 94, functions: 100, lines: 99 },
        'src/aoe/{exchange,frame-filter,share}.ts': { 100: true },
        'src/aoe/{state-store,target-table}.ts': { branches: 98, lines: 96 },
        'src/config/**': { statements: 98, branches: 97, functions: 100, lines: 99 },
        'src/net/{ethernet,packet-filter,spin-budget}.ts': { 100: true },
        'src/net/packet-link.ts': { statements: 78, branches: 50, functions: 75, lines: 82 },
      },
    },
  },
});
