import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, stat, truncate, writeFile } from 'node:fs/promises';
import { stopChild } from '../support/netns.ts';
import { environment, run, tryRun, waitUntil } from '../support/tools.ts';

export const STORAGE_TOOLS = ['qemu-storage-daemon', 'losetup', 'mkfs.ext4', 'mount', 'umount'];

/** Then what is mounted is left behind, to go by itself. */
const UNMOUNT_MS_MAX = 10_000;

/** Makes an empty file of `sizeBytes`. */
export async function createFile(path: string, sizeBytes: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
}

/** A file whose content is what QEMU's block layer makes of other files; it is a FUSE mount. */
export class ExportedFile implements AsyncDisposable {
  readonly path: string;
  readonly #daemon: ChildProcess;

  private constructor(path: string, daemon: ChildProcess) {
    this.path = path;
    this.#daemon = daemon;
  }

  /** Shows the file `below` as the file `path`. */
  static of(below: string, path: string): Promise<ExportedFile> {
    return ExportedFile.create(path, [{ driver: 'file', 'node-name': 'top', filename: below }]);
  }

  /** Shows the last of the block nodes, which is named `top`, as the file `path`. */
  static async create(path: string, nodes: readonly object[]): Promise<ExportedFile> {
    await writeFile(path, '');
    const before = await stat(path);
    const fuse = { type: 'fuse', id: 'fuse', 'node-name': 'top', mountpoint: path, writable: true };
    const args = nodes.flatMap((node) => ['--blockdev', JSON.stringify(node)]);
    args.push('--export', JSON.stringify(fuse));
    const command = ['--pdeathsig', 'KILL', 'qemu-storage-daemon', ...args];
    const daemon = spawn('setpriv', command, { env: environment(), stdio: 'inherit' });
    await waitUntil(`export of ${path}`, async () => {
      if (daemon.exitCode !== null) throw new Error('qemu-storage-daemon did not start');
      return (await stat(path)).dev !== before.dev;
    });
    return new ExportedFile(path, daemon);
  }

  /** Answers nothing any more, as storage does that hangs. */
  hang(): void {
    this.#daemon.kill('SIGSTOP');
  }

  goOn(): void {
    this.#daemon.kill('SIGCONT');
  }

  /** Hangs for a while, and then goes on, though whoever asked for it should hang as well. */
  hangFor(seconds: number): void {
    const revive = ['-c', 'sleep "$0"; kill -CONT "$1"', `${seconds}`, `${this.#daemon.pid}`];
    // Before it hangs: a program that is started closes files of ours first, which asks their storage.
    spawn('sh', revive, { stdio: 'ignore' }).unref();
    this.hang();
  }

  /** Fails whatever is asked of it from now on. */
  async die(): Promise<void> {
    await stopChild(this.#daemon, 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.goOn();
    await stopChild(this.#daemon, 'SIGTERM');
    await tryRun('umount', ['-l', this.path]);
  }
}

export class LoopDevice implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** @param options of losetup */
  static async attach(file: string, ...options: string[]): Promise<LoopDevice> {
    return new LoopDevice((await run('losetup', ['--find', '--show', ...options, file])).trim());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('losetup', ['--detach', this.path]);
  }
}

export class Mount implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async ext4(device: string, path: string): Promise<Mount> {
    return Mount.#mount(['-t', 'ext4', device], path);
  }

  static async tmpfs(sizeBytes: number, path: string): Promise<Mount> {
    return Mount.#mount(['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs'], path);
  }

  static async #mount(args: readonly string[], path: string): Promise<Mount> {
    await mkdir(path, { recursive: true });
    await run('mount', [...args, path]);
    return new Mount(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A loop device lets go of its file some time after it is detached, now and then much later.
    const unmount = async () => (await tryRun('umount', [this.path])).status === 0;
    const unmountLater = () => run('umount', ['--lazy', this.path]);
    await waitUntil(`${this.path} is unmounted`, unmount, UNMOUNT_MS_MAX).catch(unmountLater);
  }
}

/** A small ext4 file system of its own, on a loop device over a file. */
export class Ext4 implements AsyncDisposable {
  readonly device: LoopDevice;
  readonly mount: Mount;

  private constructor(device: LoopDevice, mount: Mount) {
    this.device = device;
    this.mount = mount;
  }

  /** Formats `file` and mounts it at `path`. */
  static async create(file: string, path: string): Promise<Ext4> {
    return Ext4.open(file, path, (device) => run('mkfs.ext4', ['-q', device]));
  }

  /** Mounts the file system in `file` at `path`. */
  static async open(
    file: string,
    path: string,
    prepare?: (device: string) => Promise<unknown>,
  ): Promise<Ext4> {
    const device = await LoopDevice.attach(file);
    try {
      await prepare?.(device.path);
      return new Ext4(device, await Mount.ext4(device.path, path));
    } catch (error) {
      await device[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Lets all writing wait. */
  async freeze(): Promise<void> {
    await run('fsfreeze', ['--freeze', this.mount.path]);
  }

  async thaw(): Promise<void> {
    await tryRun('fsfreeze', ['--unfreeze', this.mount.path]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.thaw();
    await this.mount[Symbol.asyncDispose]();
    await this.device[Symbol.asyncDispose]();
  }
}

/** A disk that records what is written to it in the file `log`. */
export async function createRecordedDisk(
  directory: { join(name: string): string },
  sizeBytes: number,
): Promise<ExportedFile> {
  await createFile(directory.join('raw'), sizeBytes);
  await createFile(directory.join('log'), 0);
  return ExportedFile.create(directory.join('disk'), [
    { driver: 'file', 'node-name': 'raw', filename: directory.join('raw') },
    { driver: 'file', 'node-name': 'log', filename: directory.join('log') },
    {
      ...{ driver: 'blklogwrites', 'node-name': 'top', file: 'raw', log: 'log' },
      'log-sector-size': 512,
    },
  ]);
}
