import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NetworkNamespace, stopChild } from '../support/netns.ts';
import { run, waitUntil } from '../support/tools.ts';

const DRAIN_MS = 1000;

/** An AoE frame as tshark reads it. Names are those of its display filters. */
export interface DecodedFrame {
  fields: Record<string, string>;
  /** What tshark finds wrong: malformed, too short, contradictory. */
  complaints: string[];
}

/**
 * Records the AoE frames of one interface from start to stop.
 *
 * On the server's own interface it would see no replies: frames that are sent around the queueing
 * discipline (PACKET_QDISC_BYPASS) are not shown to captures there. Capture at the initiator.
 */
export class FrameCapture implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(
    namespace: NetworkNamespace,
    interfaceName: string,
    path: string,
  ): Promise<FrameCapture> {
    const args = ['-i', interfaceName, '-f', 'ether proto 0x88a2', '-w', path];
    const child = namespace.spawn('dumpcap', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const capture = new FrameCapture(child);
    // It names the file once the socket is open.
    await waitUntil('capturing', () => said.includes('File: '));
    return capture;
  }

  /** Ends the recording; the file is complete. */
  async stop(): Promise<void> {
    // dumpcap takes frames from the kernel at intervals, and at its end leaves the rest there.
    await sleep(DRAIN_MS);
    await stopChild(this.#child, 'SIGTERM');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stopChild(this.#child, 'SIGKILL');
  }
}

/** Has tshark decode the AoE frames of a capture file: these fields, and its complaints. */
export async function decodeFrames(
  path: string,
  fields: readonly string[],
): Promise<DecodedFrame[]> {
  const all = [...fields, '_ws.malformed', '_ws.expert.message'];
  const columns = all.flatMap((field) => ['-e', field]);
  const table = await run('tshark', ['-r', path, '-Y', 'aoe', '-T', 'fields', ...columns]);
  return table
    .split('\n')
    .filter((row) => row !== '')
    .map((row) => {
      const values = row.split('\t');
      const complaints = values.slice(fields.length).filter((value) => value !== '');
      const named = fields.map((field, index) => [field, values[index] ?? '']);
      return { fields: Object.fromEntries(named), complaints };
    });
}
