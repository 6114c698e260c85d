/**
 * Blobs in a bucket of Amazon S3 or of anything that speaks its protocol: Ceph RGW, MinIO,
 * Backblaze B2.
 *
 * Creating a blob only if it is not there (`If-None-Match: *`) is what keeps two servers from
 * writing one store. Amazon, Ceph RGW and MinIO know it; Backblaze B2 answers 501, and the journal
 * does without; a service that overlooks it is refused when the store is opened.
 */
import type { S3Client } from '@aws-sdk/client-s3';
import {
  BlobConditionError,
  BlobExistsError,
  type BlobInfo,
  BlobMissingError,
  type BlobStore,
} from '../blob-store.ts';
import { loadClient } from './load-client.ts';
import { SILENCE_MS } from './silence.ts';

type Sdk = typeof import('@aws-sdk/client-s3');

export interface S3Location {
  /** A URL; undefined for Amazon's own. */
  readonly endpoint: string | undefined;
  /** undefined to take it from where Amazon's tools take it. */
  readonly region: string | undefined;
  readonly bucket: string;
  /** What the names of all blobs begin with. */
  readonly prefix: string;
  /** undefined to take them from where Amazon's tools take them: environment, files, instance. */
  readonly credentials: S3Credentials | undefined;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A service of one's own does not care, but the signature needs one. */
const REGION_DEFAULT = 'us-east-1';
const CONNECT_MS = 5_000;

/** @throws {StartupError} the client library is not installed */
export async function openS3Blobs(
  location: S3Location,
  silenceMs = SILENCE_MS,
): Promise<BlobStore> {
  const sdk = await loadClient('@aws-sdk/client-s3', () => import('@aws-sdk/client-s3'));
  const { endpoint, region, credentials } = location;
  const client = new sdk.S3Client({
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
    ...(region !== undefined && { region }),
    ...(endpoint !== undefined && region === undefined && { region: REGION_DEFAULT }),
    ...(credentials !== undefined && { credentials }),
    // What is stored has checksums of its own, and not every service knows the newer ones of S3.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Retries are the caller's business.
    maxAttempts: 1,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: silenceMs },
  });
  return new S3Blobs(sdk, client, location);
}

class S3Blobs implements BlobStore {
  readonly #sdk: Sdk;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  constructor(sdk: Sdk, client: S3Client, { bucket, prefix }: S3Location) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = bucket;
    this.#prefix = prefix;
  }

  async put(name: string, bytes: Uint8Array, isUnique = false): Promise<void> {
    const command = new this.#sdk.PutObjectCommand({
      ...this.#address(name),
      Body: bytes,
      ContentLength: bytes.length,
      ...(!isUnique && { IfNoneMatch: '*' }),
    });
    try {
      await this.#client.send(command);
    } catch (error) {
      if (statusOf(error) === 412) throw new BlobExistsError(name);
      if (statusOf(error) === 501 && !isUnique) throw new BlobConditionError(name);
      throw explained(error);
    }
  }

  async getRange(name: string, offset: number, length: number): Promise<Uint8Array> {
    const Range = `bytes=${offset}-${offset + length - 1}`;
    try {
      const command = new this.#sdk.GetObjectCommand({ ...this.#address(name), Range });
      const { Body, ContentLength } = await this.#client.send(command);
      const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array(0);
      if (bytes.length !== ContentLength) throw new Error(`${name} was cut off while it was read`);
      return bytes;
    } catch (error) {
      if (statusOf(error) === 404) throw new BlobMissingError(name);
      if (statusOf(error) === 416) return new Uint8Array(0);
      throw explained(error);
    }
  }

  async *list(prefix: string): AsyncIterable<BlobInfo> {
    const pages = this.#sdk.paginateListObjectsV2(
      { client: this.#client },
      { Bucket: this.#bucket, Prefix: this.#prefix + prefix },
    );
    try {
      for await (const { Contents = [] } of pages) {
        for (const { Key = '', Size = 0 } of Contents) {
          yield { name: Key.slice(this.#prefix.length), sizeBytes: Size };
        }
      }
    } catch (error) {
      throw explained(error);
    }
  }

  async delete(name: string): Promise<void> {
    try {
      await this.#client.send(new this.#sdk.DeleteObjectCommand(this.#address(name)));
    } catch (error) {
      // Amazon's answer is no error; that of others may be.
      if (statusOf(error) !== 404) throw explained(error);
    }
  }

  #address(name: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + name };
  }
}

/** Some services answer with a code and no words. */
function explained(error: unknown): Error {
  const { name, message } = error as Error;
  const status = statusOf(error);
  if (status === undefined) return error as Error;
  return new Error(`${name}, HTTP ${status}: ${message}`, { cause: error });
}

function statusOf(error: unknown): number | undefined {
  return (error as { readonly $metadata?: { readonly httpStatusCode?: number } }).$metadata
    ?.httpStatusCode;
}
