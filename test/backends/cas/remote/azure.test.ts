import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAzureBlobs } from '../../../../src/backends/cas/remote/azure-blobs.ts';
import { type AzureService, startAzurite } from '../../../support/azurite.ts';
import { testBlobStore, testRace } from './blob-contract.ts';
import { testStoreOn } from './service-contract.ts';

describe('Azure, on Azurite', () => {
  let service: AzureService;
  let serial = 0;

  beforeAll(async () => {
    service = await startAzurite();
  }, 150_000);
  afterAll(() => service.stop());

  const open = () =>
    openAzureBlobs({ ...service, prefix: `test-${serial++}/` }, service.environment);

  testBlobStore(open);
  testRace(open);
  testStoreOn(open);

  it('refuses a wrong key', async () => {
    const environment = { ...service.environment, AZURE_STORAGE_KEY: 'd3Jvbmc=' };
    const blobs = await openAzureBlobs({ ...service, prefix: '' }, environment);
    await expect(blobs.put('a', Uint8Array.of(1))).rejects.toThrow();
  });

  it('asks for credentials when the environment has none', async () => {
    await expect(openAzureBlobs({ ...service, prefix: '' }, {})).rejects.toThrow('no credentials');
  });
});
