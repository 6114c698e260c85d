import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlobConditionError, type BlobStore } from '../../../../src/backends/cas/blob-store.ts';
import { openS3Blobs } from '../../../../src/backends/cas/remote/s3-blobs.ts';
import { type S3Service, s3Settings, startCephRgw } from '../../../support/ceph-rgw.ts';
import { type FaultProxy, startFaultProxy } from '../../../support/fault-proxy.ts';
import { SimFs } from '../sim-fs.ts';
import { openRemote } from './remote-store.ts';
import { testBadNetwork, testStoreOn } from './service-contract.ts';
import { testWholeServer } from './whole-server.ts';

describe('S3 without conditional requests, as Backblaze B2 has it, on Ceph RGW', () => {
  let service: S3Service;
  let proxy: FaultProxy;
  let serial = 0;

  beforeAll(async () => {
    service = await startCephRgw();
    proxy = await startFaultProxy(service.endpoint);
    proxy.knowsConditions = false;
  }, 90_000);
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    await service.stop();
  });

  const openAt = (endpoint: string, prefix: string, silenceMs?: number) =>
    openS3Blobs({ ...service, endpoint, region: undefined, prefix }, silenceMs);
  const open = () => openAt(proxy.endpoint, `test-${serial++}/`);

  testStoreOn(open);
  testBadNetwork(
    () => proxy.endpoint,
    (endpoint, silenceMs) => openAt(endpoint, 'bad-network/', silenceMs),
  );
  testWholeServer(() => ({ ...s3Settings(service), endpoint: proxy.endpoint }));

  it('stores under a name of its own, and only there', async () => {
    const blobs = await open();
    await expect(blobs.put('a', Uint8Array.of(1))).rejects.toThrow(BlobConditionError);
    expect(await namesOf(blobs)).toEqual([]);
    await blobs.put('a', Uint8Array.of(2), true);
    expect([...(await blobs.getRange('a', 0, 10))]).toEqual([2]);
    await blobs.delete('a');
    await blobs.delete('a');
    expect(await namesOf(blobs)).toEqual([]);
  });

  it('does not mind that nothing is there to remove, whatever the service calls that', async () => {
    const strict = createServer((_, response) => response.writeHead(404).end());
    await new Promise<void>((resolve) => strict.listen(0, '127.0.0.1', resolve));
    const { port } = strict.address() as AddressInfo;
    await (await openAt(`http://127.0.0.1:${port}`, '')).delete('none');
    strict.close();
    strict.closeAllConnections();
  });

  it('does not go on with a journal that rests on conditions', async () => {
    const prefix = 'begun-elsewhere/';
    const files = new SimFs();
    const store = await openRemote(files, await openAt(service.endpoint, prefix));
    await store.close();
    const blobs = await openAt(proxy.endpoint, prefix);
    await expect(openRemote(files, blobs)).rejects.toThrow('knows If-None-Match');
    await (await openRemote(files, await openAt(service.endpoint, prefix))).close();
  });

  it('goes on without conditions where the service has learnt them', async () => {
    const prefix = 'begun-here/';
    const files = new SimFs();
    await (await openRemote(files, await openAt(proxy.endpoint, prefix))).close();
    const blobs = await openAt(service.endpoint, prefix);
    const store = await openRemote(files, blobs);
    const rival = openRemote(new SimFs(), await openAt(proxy.endpoint, prefix));
    await expect(rival).rejects.toThrow('is in use by the server on');
    await store.close();
    expect(await namesOf(blobs, 'journal-0')).toEqual([]);
  });
});

async function namesOf(blobs: BlobStore, prefix = ''): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of blobs.list(prefix)) names.push(name);
  return names;
}
