import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openS3Blobs } from '../../../../src/backends/cas/remote/s3-blobs.ts';
import { type S3Service, startCephRgw } from '../../../support/ceph-rgw.ts';
import { FAULTS, startFaultProxy } from '../../../support/fault-proxy.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf } from '../tiny-store.ts';
import { testBlobStore, testRace } from './blob-contract.ts';
import { openRemote, openVolume, ownerOf, readSeeds } from './remote-store.ts';
import { testStoreOn } from './service-contract.ts';

describe('S3, on Ceph RGW', () => {
  let service: S3Service;
  let serial = 0;

  beforeAll(async () => {
    service = await startCephRgw();
  }, 90_000);
  afterAll(() => service.stop());

  const open = () => openS3Blobs({ ...service, region: undefined, prefix: `test-${serial++}/` });

  testBlobStore(open);
  testRace(open);
  testStoreOn(open);

  it('loses nothing over a bad network', async () => {
    const proxy = await startFaultProxy(service.endpoint);
    const direct = { ...service, region: undefined, prefix: 'bad-network/' };
    const blobs = await openS3Blobs({ ...direct, endpoint: proxy.endpoint });
    const random = seededRandom(1);
    proxy.choose = () =>
      random() < 0.3 ? FAULTS[Math.floor(random() * FAULTS.length)] : undefined;
    for (let life = 1; life <= 3; life++) {
      // An empty disk each time: all that is known comes from the service.
      const takeOver = await ownerOf(await openS3Blobs(direct));
      const remote = { takeOver, durability: 'remote' } as const;
      const store = await openRemote(new SimFs(), blobs, remote);
      const client = await openVolume(store);
      expect((await readSeeds(store))[0]).toBe((life - 1) * 6);
      for (let i = 1; i <= 6; i++) {
        await client.write(0, blockOf((life - 1) * 6 + i));
        await client.flush();
      }
      await abandon(store);
    }
    expect([...proxy.counts.keys()].sort()).toEqual([...FAULTS].sort());
    await proxy.stop();
  });

  it('refuses a wrong secret', async () => {
    const credentials = { ...service.credentials, secretAccessKey: 'wrong' };
    const blobs = await openS3Blobs({ ...service, credentials, region: undefined, prefix: '' });
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('cannot be used');
    await expect(blobs.put('a', Uint8Array.of(1))).rejects.toThrow('HTTP 403');
  });
});
