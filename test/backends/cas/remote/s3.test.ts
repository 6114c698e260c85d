import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openS3Blobs } from '../../../../src/backends/cas/remote/s3-blobs.ts';
import { type S3Service, s3Settings, startCephRgw } from '../../../support/ceph-rgw.ts';
import { SimFs } from '../sim-fs.ts';
import { testBlobStore, testRace } from './blob-contract.ts';
import { openRemote } from './remote-store.ts';
import { type OpenAt, testBadNetwork, testConflict, testStoreOn } from './service-contract.ts';
import { testWholeServer } from './whole-server.ts';

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

  testWholeServer(() => s3Settings(service));

  const endpointOf = () => service.endpoint;
  const openAt: OpenAt = (endpoint, silenceMs) => {
    const prefix = 'bad-network/';
    return openS3Blobs({ ...service, endpoint, region: undefined, prefix }, silenceMs);
  };
  testBadNetwork(endpointOf, openAt);
  testConflict(endpointOf, openAt);

  it('refuses a wrong secret', async () => {
    const credentials = { ...service.credentials, secretAccessKey: 'wrong' };
    const blobs = await openS3Blobs({ ...service, credentials, region: undefined, prefix: '' });
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('cannot be used');
    await expect(blobs.put('a', Uint8Array.of(1))).rejects.toThrow('HTTP 403');
  });
});
