/**
 * Blobs in a container of Azure Blob Storage.
 *
 * Credentials come from the environment, under the names that Azure's own command line uses:
 * AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or
 * AZURE_STORAGE_SAS_TOKEN.
 */
import { Readable } from 'node:stream';
import type {
  ContainerClient,
  ContainerListBlobFlatSegmentResponse,
  RestError,
} from '@azure/storage-blob';
import { StartupError } from '../../../core/startup-error.ts';
import { BlobExistsError, type BlobInfo, BlobMissingError, type BlobStore } from '../blob-store.ts';
import { loadClient } from './load-client.ts';
import { SILENCE_MS, unlessSilent } from './silence.ts';

type Sdk = typeof import('@azure/storage-blob');

export interface AzureLocation {
  /** URL of the account; undefined to derive it from the account's name. */
  readonly endpoint: string | undefined;
  readonly container: string;
  /** What the names of all blobs begin with. */
  readonly prefix: string;
}

/** What of the environment says who we are. */
export interface AzureEnvironment {
  readonly AZURE_STORAGE_CONNECTION_STRING?: string | undefined;
  readonly AZURE_STORAGE_ACCOUNT?: string | undefined;
  readonly AZURE_STORAGE_KEY?: string | undefined;
  readonly AZURE_STORAGE_SAS_TOKEN?: string | undefined;
}

/** What is sent at once: how far an upload has come is told by the next one being asked for. */
const SLICE_BYTES = 64 << 10;

/** @throws {StartupError} the client library is not installed, or there are no credentials */
export async function openAzureBlobs(
  location: AzureLocation,
  environment: AzureEnvironment = process.env,
  silenceMs = SILENCE_MS,
): Promise<BlobStore> {
  const sdk = await loadClient('@azure/storage-blob', () => import('@azure/storage-blob'));
  return new AzureBlobs(containerOf(sdk, location, environment), location.prefix, silenceMs);
}

function containerOf(
  sdk: Sdk,
  { endpoint, container }: AzureLocation,
  environment: AzureEnvironment,
): ContainerClient {
  const connection = environment.AZURE_STORAGE_CONNECTION_STRING;
  const account = environment.AZURE_STORAGE_ACCOUNT;
  const key = environment.AZURE_STORAGE_KEY;
  const token = environment.AZURE_STORAGE_SAS_TOKEN?.replace(/^\?/, '');
  // Retries are the caller's business.
  const options = { retryOptions: { maxTries: 1 } };
  if (connection !== undefined) {
    return sdk.BlobServiceClient.fromConnectionString(connection, options).getContainerClient(
      container,
    );
  }
  const base = endpoint ?? (account && `https://${account}.blob.core.windows.net`);
  const url = `${base}/${container}`;
  if (base !== undefined && token !== undefined) {
    return new sdk.ContainerClient(`${url}?${token}`, sdk.newPipeline(undefined, options));
  }
  if (account !== undefined && key !== undefined) {
    const credential = new sdk.StorageSharedKeyCredential(account, key);
    return new sdk.ContainerClient(url, credential, options);
  }
  throw new StartupError(
    'there are no credentials for Azure Blob Storage',
    'set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or ' +
      'AZURE_STORAGE_SAS_TOKEN',
  );
}

class AzureBlobs implements BlobStore {
  readonly #container: ContainerClient;
  readonly #prefix: string;
  readonly #silenceMs: number;

  constructor(container: ContainerClient, prefix: string, silenceMs: number) {
    this.#container = container;
    this.#prefix = prefix;
    this.#silenceMs = silenceMs;
  }

  async put(name: string, bytes: Uint8Array, isUnique = false): Promise<void> {
    const conditions = isUnique ? {} : { ifNoneMatch: '*' };
    try {
      await unlessSilent(this.#silenceMs, (abortSignal, heard) => {
        const body = () => Readable.from(slicesOf(bytes, heard), { objectMode: false });
        return this.#blob(name).upload(body, bytes.length, { conditions, abortSignal });
      });
    } catch (error) {
      throw statusOf(error) === 409 && codeOf(error) === 'BlobAlreadyExists'
        ? new BlobExistsError(name)
        : error;
    }
  }

  async getRange(name: string, offset: number, length: number): Promise<Uint8Array> {
    try {
      return await unlessSilent(this.#silenceMs, async (abortSignal, heard) => {
        const options = { abortSignal };
        const answer = await this.#blob(name).download(offset, length, options);
        const { readableStreamBody, contentLength } = answer;
        const chunks: Buffer[] = [];
        for await (const chunk of readableStreamBody ?? []) {
          heard();
          chunks.push(chunk as Buffer);
        }
        const bytes = Buffer.concat(chunks);
        if (bytes.length !== contentLength) {
          throw new Error(`${name} was cut off while it was read`);
        }
        return bytes;
      });
    } catch (error) {
      if (statusOf(error) === 404) throw new BlobMissingError(name);
      if (statusOf(error) === 416) return new Uint8Array(0);
      throw error;
    }
  }

  async *list(prefix: string): AsyncIterable<BlobInfo> {
    let continuationToken: string | undefined;
    do {
      const page = await unlessSilent(this.#silenceMs, async (abortSignal) => {
        const options = { prefix: this.#prefix + prefix, abortSignal };
        const settings = continuationToken === undefined ? {} : { continuationToken };
        const pages = this.#container.listBlobsFlat(options).byPage(settings);
        return (await pages.next()).value as ContainerListBlobFlatSegmentResponse;
      });
      for (const { name, properties } of page.segment.blobItems) {
        yield { name: name.slice(this.#prefix.length), sizeBytes: properties.contentLength ?? 0 };
      }
      ({ continuationToken } = page);
    } while (continuationToken !== undefined && continuationToken !== '');
  }

  async delete(name: string): Promise<void> {
    await unlessSilent(this.#silenceMs, (abortSignal) =>
      this.#blob(name).deleteIfExists({ abortSignal }),
    );
  }

  #blob(name: string) {
    return this.#container.getBlockBlobClient(this.#prefix + name);
  }
}

/** @param onTaken called when one is taken */
function* slicesOf(bytes: Uint8Array, onTaken: () => void): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    onTaken();
    yield bytes.subarray(at, at + SLICE_BYTES);
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as Partial<RestError>).statusCode;
}

function codeOf(error: unknown): string | undefined {
  return (error as Partial<RestError>).code;
}
