import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Each file in a process of its own: the addon keeps sockets and threads.
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
