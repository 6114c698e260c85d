import { expect, it } from 'vitest';
import { loadClient } from '../../../../src/backends/cas/remote/load-client.ts';

it('tells how to install a client library where aoe-server finds it', async () => {
  const missing = Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' });
  await expect(loadClient('@a/client', () => Promise.reject(missing))).rejects.toMatchObject({
    message: expect.stringContaining('@a/client is needed'),
    remedy: expect.stringContaining('npm install --global @a/client'),
  });
});

it('lets any other error of it be seen', async () => {
  const broken = new SyntaxError('broken');
  await expect(loadClient('@a/client', () => Promise.reject(broken))).rejects.toBe(broken);
});
