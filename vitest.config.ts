import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Each file in a process of its own: the addon keeps sockets and threads.
    pool: 'forks',
    // One at a time: tests measure time, and some boot machines.
    fileParallelism: false,
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
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
