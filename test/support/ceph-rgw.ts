/** A real S3 service on the loopback: Ceph's RADOS gateway. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

const CREDENTIALS = { accessKeyId: 'test-key', secretAccessKey: 'test-secret' };
const BUCKET = 'blobs';

export interface S3Service {
  readonly endpoint: string;
  readonly bucket: string;
  readonly credentials: typeof CREDENTIALS;
  stop(): Promise<void>;
}

/** What a server has to be told of the service. */
export function s3Settings({ endpoint, bucket, credentials }: S3Service) {
  return {
    endpoint,
    keys: { type: 's3', region: 'us-east-1', bucket },
    environment: {
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
  };
}

/** Starts the service, which takes some 20 s, and makes a bucket. */
export async function startCephRgw(): Promise<S3Service> {
  const directory = await mkdtemp(join(tmpdir(), 'ceph-rgw-'));
  const port = 20_000 + (process.pid % 10_000) * 2;
  const script = fileURLToPath(new URL('ceph-rgw.sh', import.meta.url));
  const { accessKeyId, secretAccessKey } = CREDENTIALS;
  const child = spawn(script, [directory, String(port), accessKeyId, secretAccessKey], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.stdin.end();
    await exited;
    await rm(directory, { recursive: true });
  };
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await lines.next();
    if (value === 'ready') break;
    if (done === true) throw new Error('ceph-rgw.sh failed: run it by hand to see why');
  }
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: CREDENTIALS,
  });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  return { endpoint, bucket: BUCKET, credentials: CREDENTIALS, stop };
}
