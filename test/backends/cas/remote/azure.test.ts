import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AzureEnvironment,
  openAzureBlobs,
} from '../../../../src/backends/cas/remote/azure-blobs.ts';
import { type AzureService, startAzurite } from '../../../support/azurite.ts';
import { SimFs } from '../sim-fs.ts';
import { testBlobStore, testRace } from './blob-contract.ts';
import { testFsckCommand } from './fsck-command.ts';
import { openRemote } from './remote-store.ts';
import { type OpenAt, testBadNetwork, testConflict, testStoreOn } from './service-contract.ts';
import { testWholeServer } from './whole-server.ts';

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
  testWholeServer(() => {
    const { endpoint, container, environment } = service;
    return { endpoint, keys: { type: 'azure', bucket: container }, environment };
  });
  testFsckCommand(async () => {
    const prefix = `test-${serial++}/`;
    const { endpoint, container, environment } = service;
    return {
      location: { type: 'azure', endpoint, region: undefined, bucket: container, prefix },
      blobs: await openAzureBlobs({ ...service, prefix }, environment),
      environment,
    };
  });

  const endpointOf = () => service.endpoint;
  const openAt: OpenAt = (endpoint, silenceMs) => {
    const location = { ...service, endpoint, prefix: 'bad-network/' };
    return openAzureBlobs(location, service.environment, silenceMs);
  };
  testBadNetwork(endpointOf, openAt);
  testConflict(endpointOf, openAt);

  it('takes a connection string', async () => {
    const { endpoint, environment } = service;
    const text = [
      'DefaultEndpointsProtocol=http',
      `AccountName=${environment.AZURE_STORAGE_ACCOUNT}`,
      `AccountKey=${environment.AZURE_STORAGE_KEY}`,
      `BlobEndpoint=${endpoint};`,
    ].join(';');
    await expectUsable({ AZURE_STORAGE_CONNECTION_STRING: text });
  });

  it('takes a shared access signature, with or without its question mark', async () => {
    const token = tokenFor('racwdl');
    await expectUsable({ AZURE_STORAGE_SAS_TOKEN: token });
    await expectUsable({ AZURE_STORAGE_SAS_TOKEN: `?${token}` });
  });

  it('refuses a store whose signature does not permit to write', async () => {
    const environment = { AZURE_STORAGE_SAS_TOKEN: tokenFor('rl') };
    const blobs = await openAzureBlobs({ ...service, prefix: 'read-only/' }, environment);
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('cannot be used');
  });

  /** @param permissions in the letters of Azure */
  function tokenFor(permissions: string): string {
    const { AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY } = service.environment;
    const credential = new StorageSharedKeyCredential(AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY);
    return generateBlobSASQueryParameters(
      {
        containerName: service.container,
        permissions: ContainerSASPermissions.parse(permissions),
        expiresOn: new Date(Date.now() + 3_600_000),
      },
      credential,
    ).toString();
  }

  async function expectUsable(environment: AzureEnvironment): Promise<void> {
    const blobs = await openAzureBlobs({ ...service, prefix: `test-${serial++}/` }, environment);
    await blobs.put('a', Uint8Array.of(1, 2, 3));
    await expect(blobs.put('a', Uint8Array.of(4))).rejects.toThrow('already');
    expect([...(await blobs.getRange('a', 1, 2))]).toEqual([2, 3]);
    for await (const { name } of blobs.list('')) await blobs.delete(name);
    await expect(blobs.getRange('a', 0, 1)).rejects.toThrow('no blob');
  }

  it('refuses a wrong key', async () => {
    const environment = { ...service.environment, AZURE_STORAGE_KEY: 'd3Jvbmc=' };
    const blobs = await openAzureBlobs({ ...service, prefix: '' }, environment);
    await expect(blobs.put('a', Uint8Array.of(1))).rejects.toThrow();
  });

  it('asks for credentials when the environment has none', async () => {
    const opening = openAzureBlobs({ ...service, prefix: '' }, {});
    await expect(opening).rejects.toMatchObject({
      message: expect.stringContaining('no credentials'),
      remedy: expect.stringMatching(/_CONNECTION_STRING, .*_ACCOUNT .*_KEY or .*_SAS_TOKEN/),
    });
  });
});
