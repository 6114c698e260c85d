import type { ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type NetworkNamespace, stopChild } from '../support/netns.ts';
import { run } from '../support/tools.ts';

const HERE = import.meta.dirname;
const CACHE = join(HERE, '../../.cache/linux');
const BUILD_TIMEOUT_MS = 120_000;
const BOOT_TIMEOUT_MS = 180_000;
const SCRIPT_TIMEOUT_MS = 60_000;
const CONSOLE_TAIL_LINES = 25;

/** Commands of the host that building and booting a guest takes. */
export const GUEST_TOOLS = [
  ...['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'depmod', 'modprobe', 'cpio', 'busybox'],
  ...['flock', 'fio', 'mkfs.ext4', 'mkfs.xfs', 'hdparm', 'aoe-stat', 'mdadm', 'ip', 'setpriv'],
];

export interface GuestOptions {
  namespace: NetworkNamespace;
  /** Tap that becomes eth0 of the guest. */
  tap: string;
  /** MTU of eth0. */
  mtu: number;
  /** File that receives the guest's console. */
  consolePath: string;
  /** Image of a system to boot, which runs `run-scripts`; the guest's own is small. */
  disk?: string;
  /** Added to the kernel command line, e.g. "aoe.aoe_deadsecs=20". */
  kernelParameters?: string[];
}

/** How a script in the guest ended; `output` is standard output and error as they came. */
export interface ScriptResult {
  status: number;
  output: string;
}

interface PendingScript {
  resolve: (result: ScriptResult) => void;
  reject: (error: Error) => void;
}

/**
 * A virtual machine under software emulation with Debian's kernel and its aoe driver.
 *
 * Scripts run as they are sent, several at once, so a test can restart the server while the guest
 * writes. They travel over a virtio port, which is standard input and output of QEMU; the other
 * end of the conversation is `run-scripts`.
 */
export class LinuxGuest implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #consolePath: string;
  readonly #pending = new Map<string, PendingScript>();
  #scriptCount = 0;

  private constructor(qemu: ChildProcess, consolePath: string) {
    this.#qemu = qemu;
    this.#consolePath = consolePath;
    if (qemu.stdout === null) throw new Error('QEMU was started without its standard output');
    createInterface(qemu.stdout).on('line', (line) => this.#receive(line));
    qemu.once('exit', () => this.#failPending());
  }

  /** Boots a guest and waits until it takes scripts. */
  static async boot(options: GuestOptions): Promise<LinuxGuest> {
    const build = await run(join(HERE, 'build-guest'), [CACHE], { timeoutMs: BUILD_TIMEOUT_MS });
    const args = qemuArguments(build.trim(), options);
    writeFileSync(options.consolePath, '');
    const qemu = options.namespace.spawn('qemu-system-x86_64', args, {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const guest = new LinuxGuest(qemu, options.consolePath);
    await guest.#reply('ready', BOOT_TIMEOUT_MS);
    return guest;
  }

  /**
   * Runs a bash script that must succeed and returns what it printed.
   *
   * @throws {Error} with the output and the end of the console, when its status is not 0
   */
  async run(script: string, timeoutMs = SCRIPT_TIMEOUT_MS): Promise<string> {
    const { status, output } = await this.tryRun(`set -e\n${script}`, timeoutMs);
    if (status !== 0) {
      throw new Error(`${script}\nstatus ${status}\n${output}\n${this.#consoleTail()}`);
    }
    return output;
  }

  /** Runs a bash script and reports how it went. A script out of time ends the guest. */
  tryRun(script: string, timeoutMs = SCRIPT_TIMEOUT_MS): Promise<ScriptResult> {
    this.#scriptCount += 1;
    const id = `${this.#scriptCount}`;
    const reply = this.#reply(id, timeoutMs);
    this.#qemu.stdin?.write(`${id} ${Buffer.from(script).toString('base64')}\n`);
    return reply;
  }

  /** Everything the guest's kernel said. */
  consoleText(): string {
    return readFileSync(this.#consolePath, 'latin1');
  }

  /** Switches the guest off without warning: it flushes and unmounts nothing. */
  async powerOff(): Promise<void> {
    await stopChild(this.#qemu, 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.powerOff();
  }

  #reply(id: string, timeoutMs: number): Promise<ScriptResult> {
    const reply = new Promise<ScriptResult>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
    });
    const timer = setTimeout(() => void this.powerOff(), timeoutMs);
    return reply.finally(() => clearTimeout(timer));
  }

  #receive(line: string): void {
    const [id = '', status, output = ''] = line.split(' ');
    const pending = this.#pending.get(id);
    if (pending === undefined) throw new Error(`the guest answered what nobody asked: ${line}`);
    this.#pending.delete(id);
    pending.resolve({ status: Number(status), output: Buffer.from(output, 'base64').toString() });
  }

  #failPending(): void {
    const error = new Error(`the guest ended, or ran out of time\n${this.#consoleTail()}`);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  #consoleTail(): string {
    return this.consoleText().split('\n').slice(-CONSOLE_TAIL_LINES).join('\n');
  }
}

function qemuArguments(build: string, options: GuestOptions): string[] {
  const { tap, mtu, consolePath, disk, kernelParameters = [] } = options;
  const root = disk === undefined ? [] : ['root=/dev/vda'];
  const append = ['console=ttyS0', 'panic=-1', ...root, ...kernelParameters].join(' ');
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '1G'],
    ...['-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-kernel', join(build, 'vmlinuz'), '-initrd', join(build, 'initrd'), '-append', append],
    ...(disk === undefined ? [] : ['-drive', `file=${disk},if=virtio,format=raw`]),
    ...['-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,host_mtu=${mtu},mac=52:54:00:00:00:01`],
    ...['-serial', `file:${consolePath}`],
    ...['-device', 'virtio-serial-pci', '-chardev', 'stdio,id=scripts,signal=off'],
    ...['-device', 'virtserialport,chardev=scripts'],
  ];
}
