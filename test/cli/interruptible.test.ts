import { expect, it } from 'vitest';
import { interruptible } from '../../src/cli/interruptible.ts';

it('leaves a second signal to the system, whichever it is', async () => {
  const handlers = () => [...process.listeners('SIGINT'), ...process.listeners('SIGTERM')];
  const before = handlers();
  const work = interruptible(async (signal) => {
    const interrupt = process.listeners('SIGINT').at(-1);
    interrupt?.('SIGINT');
    expect(handlers()).toEqual(before);
    signal.throwIfAborted();
  });
  await expect(work).rejects.toThrow('interrupted by SIGINT');
  expect(handlers()).toEqual(before);
});
