import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll } from '../support/tools.ts';

const PROGRAM = join(import.meta.dirname, 'addon.mjs');
const AS_SERVICE = ['--bounding-set', '-net_admin', '--inh-caps', '-net_admin'];
const WANTED_BYTES = 4 << 20;

describeWith(['ip', 'ss', 'setpriv'], 'the socket that sends', () => {
  let network: NetworkNamespace;
  beforeAll(async () => {
    network = await NetworkNamespace.create();
  });
  afterAll(() => disposeAll(network));

  it('has as large a buffer as the system allows, when it may not have any', async () => {
    const args = [...AS_SERVICE, process.execPath, PROGRAM, 'keepOpen', 'lo'];
    const holder = network.spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout as NonNullable<typeof holder.stdout>, 'data');
    const sockets = await network.run('ss', ['--packet', '--memory', '--numeric', '--no-header']);
    const sizes = [...sockets.matchAll(/,tb(\d+),/g)].map(([, size]) => Number(size));
    const allowed = Number(await readFile('/proc/sys/net/core/wmem_max', 'utf8'));
    // The kernel counts its own overhead, and doubles what is asked for.
    expect(Math.max(...sizes)).toBe(2 * Math.min(WANTED_BYTES, allowed));
  });
});
