/** Blob stores by their kind. */
import type { BlobStore } from '../blob-store.ts';
import { openAzureBlobs } from './azure-blobs.ts';
import { openS3Blobs } from './s3-blobs.ts';

export interface BlobsConfig {
  readonly type: 's3' | 'azure';
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly bucket: string;
  readonly prefix: string;
}

/** @throws {StartupError} the client library or the credentials are missing */
export function openBlobs(config: BlobsConfig): Promise<BlobStore> {
  const { type, bucket, ...location } = config;
  switch (type) {
    case 's3':
      return openS3Blobs({ ...location, bucket, credentials: undefined });
    case 'azure':
      return openAzureBlobs({ ...location, container: bucket });
  }
}
