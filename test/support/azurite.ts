/** Microsoft's own emulator of Azure Blob Storage, on the loopback. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';

const VERSION = '3.37.0';
const START_MS_MAX = 120_000;
const CONTAINER = 'blobs';
/** The emulator's only account, the same everywhere. */
const ACCOUNT = 'devstoreaccount1';
const KEY =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

export interface AzureService {
  readonly endpoint: string;
  readonly container: string;
  readonly environment: {
    readonly AZURE_STORAGE_ACCOUNT: string;
    readonly AZURE_STORAGE_KEY: string;
  };
  stop(): Promise<void>;
}

/** Starts the emulator, the first time after fetching it, and makes a container. */
export async function startAzurite(): Promise<AzureService> {
  const port = 41_000 + (process.pid % 10_000);
  const command = ['--yes', '--package', `azurite@${VERSION}`, 'azurite-blob'];
  const options = ['--inMemoryPersistence', '--silent', '--skipApiVersionCheck'];
  const place = ['--blobHost', '127.0.0.1', '--blobPort', String(port)];
  // npx starts it as a child: both are in a group of their own, to be stopped together.
  const child = spawn('npx', [...command, ...options, ...place], {
    stdio: 'ignore',
    detached: true,
  });
  const exited = once(child, 'exit');
  const stop = async (): Promise<void> => {
    // It waits for connections that are kept alive, otherwise.
    process.kill(-(child.pid as number), 'SIGKILL');
    await exited;
  };
  const startMs = Date.now();
  while (!(await isOpen(port))) {
    if (child.exitCode !== null || Date.now() - startMs > START_MS_MAX) {
      throw new Error('azurite did not start');
    }
    await delay(100);
  }
  const endpoint = `http://127.0.0.1:${port}/${ACCOUNT}`;
  const credential = new StorageSharedKeyCredential(ACCOUNT, KEY);
  await new BlobServiceClient(endpoint, credential).createContainer(CONTAINER);
  const environment = { AZURE_STORAGE_ACCOUNT: ACCOUNT, AZURE_STORAGE_KEY: KEY };
  return { endpoint, container: CONTAINER, environment, stop };
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
